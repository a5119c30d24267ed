"""Files that SchNetPack has written, against the numbers that SchNetPack computes.

``foreign/make.py`` made them, and ``foreign/reference.json``, with SchNetPack itself.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gkflux
from gkflux.errors import FluxError, GkfluxWarning
from gkflux.flux import hardy_flux, heat_flux
from gkflux.potentials.inert import Stub
from gkflux.potentials.load import load_model, load_potential
from gkflux.potentials.model_units import BOHR, Units
from gkflux.potentials.schnetpack import Told
from gkflux.potentials.schnetpack_modules import read_module
from gkflux.potentials.torch_files import read_torch, tensor
from gkflux.system import System

FOREIGN = Path(__file__).parent / "foreign"
REFERENCE = json.loads((FOREIGN / "reference.json").read_text())
MODELS = sorted(REFERENCE["models"])
EV: dict[str, Any] = {"energy_unit": "eV", "length_unit": "Å"}
ELEMENTS = [1, 6, 8]


@pytest.fixture(scope="module")
def crystal() -> System:
    v = np.random.default_rng(0).normal(0, 0.01, (6, 3))
    return System(**REFERENCE["structure"], velocities=v)


@pytest.fixture(autouse=True)
def _no_schnetpack(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import of it would fail here, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "schnetpack", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)


def load(name: str, **options: Any) -> Any:
    return load_potential(FOREIGN / name, elements=ELEMENTS, **EV, **options)


@pytest.mark.parametrize("name", MODELS)
def test_energies_and_forces_are_those_of_schnetpack(name: str, crystal: System) -> None:
    expected = REFERENCE["models"][name]
    forces = np.array(expected["forces"])
    size = np.abs(forces).max()
    double = load(name, dtype="float64")(crystal)
    assert double.energy == pytest.approx(expected["energy"], rel=1e-12)
    assert np.abs(double.forces - forces).max() < 1e-12 * size
    single = load(name, exact_filters=True)(crystal)
    assert single.energy == pytest.approx(expected["energy"], rel=3e-6)
    assert np.abs(single.forces - forces).max() < 3e-6 * size
    # of a random network, whose filters are rougher than those of a trained one
    tabulated = load(name)(crystal)
    assert np.abs(tabulated.forces - forces).max() < 3e-5 * size


@pytest.mark.parametrize("name", [name for name in MODELS if name != "v2.ckpt"])
def test_the_flux_is_exact(name: str, crystal: System) -> None:
    potential = load(name, dtype="float64")
    v = crystal.velocities
    assert v is not None
    exact = hardy_flux(potential, crystal, v)
    size = np.linalg.norm(exact)
    generic = heat_flux(potential, crystal, convective=False)
    assert np.linalg.norm(generic - exact) < 1e-12 * size
    batch = potential.batch([crystal])
    batch.forces(crystal.positions[None])
    fast = batch.heat_flux(v[None], convective=False).plain[0]
    assert np.linalg.norm(fast - exact) < 1e-12 * size


def test_what_the_files_tell() -> None:
    found = {name: load_model(FOREIGN / name, Told(Units("eV", "Å"))) for name in MODELS}
    shapes = {name: model.network.shape for name, model in found.items()}
    assert {name: shape.readout for name, shape in shapes.items()} == {
        "v1.best_model": "ssp",
        "v1-hard.best_model": "ssp",
        "v2.best_model": "silu",
        "v2-ssp.best_model": "ssp",
        "v2.ckpt": "silu",
    }
    hard = {name for name, shape in shapes.items() if shape.cutoff_function == "hard"}
    assert hard == {"v1-hard.best_model"}
    assert found["v2.ckpt"].provenance["program"] == "SchNetPack 2.1.1"
    assert found["v1.best_model"].provenance["program"] == "SchNetPack 1"
    network = found["v1.best_model"].network
    assert (float(network.mean), float(network.stddev)) == pytest.approx((-2.5, 1.7))
    assert float(network.atomref[8]) == -2042.0


def test_a_hard_cutoff_has_no_table() -> None:
    """Its filters do not end at zero, as those of the tables do."""
    assert load("v1-hard.best_model").provenance["exact_filters"]
    assert not load("v1.best_model").provenance["exact_filters"]


def test_elements_come_from_the_reference_energies(crystal: System) -> None:
    potential = load_potential(FOREIGN / "v2.best_model", dtype="float64", **EV)
    assert potential.elements == frozenset(ELEMENTS)
    assert potential.provenance["elements_from"] == "atomref"
    with pytest.raises(FluxError, match="not trained on Si"):
        potential(System(positions=[[0, 0, 0]], numbers=[14]))


def test_nobody_knowing_the_elements_is_said() -> None:
    with pytest.warns(
        GkfluxWarning, match="does not tell which elements .* give elements="
    ):
        load_potential(FOREIGN / "v2-ssp.best_model", **EV)


def test_units_are_asked_for_once_and_converted(crystal: System) -> None:
    name = "v1.best_model"
    with pytest.raises(FluxError, match=r"energy_unit, length_unit: give energy_unit='eV'"):
        load_potential(FOREIGN / name)
    with pytest.raises(FluxError, match=r"tell its length_unit: give length_unit='Å'"):
        load_potential(FOREIGN / name, energy_unit="eV")
    for wrong in ("cal", "MeV", 5):  # MeV is a unit, but of no atom
        with pytest.raises(FluxError, match=rf"energy_unit {wrong!r} is not known; known"):
            load_potential(FOREIGN / name, energy_unit=wrong, length_unit="Å")  # type: ignore[arg-type]
    assert Units("meV", "ang").factors == (1e-3, 1.0)
    potential = load_potential(
        FOREIGN / name, dtype="float64", energy_unit="kcal/mol", length_unit="bohr"
    )
    assert crystal.cell is not None
    # what SchNetPack has computed for lengths of 1 is for lengths of 1 bohr
    larger = crystal.moved(crystal.positions * BOHR, crystal.cell * BOHR)
    result: Any = potential(larger)
    expected = REFERENCE["models"][name]
    kcal = 0.0433641153087705
    assert result.energy == pytest.approx(expected["energy"] * kcal, rel=1e-6)
    forces = np.array(expected["forces"]) * kcal / BOHR
    assert np.abs(result.forces - forces).max() < 1e-5 * np.abs(forces).max()
    assert potential.cutoff == pytest.approx(4.0 * BOHR)
    assert potential.provenance["units"] == {"energy": "kcal/mol", "length": "bohr"}


@pytest.mark.parametrize("name", MODELS)
def test_our_own_file_computes_the_same(tmp_path: Path, name: str, crystal: System) -> None:
    target = tmp_path / "model.safetensors"
    gkflux.convert_model(FOREIGN / name, target, elements=ELEMENTS, **EV)
    ours: Any = load_potential(target, dtype="float64")
    theirs: Any = load(name, dtype="float64")
    assert np.array_equal(ours(crystal).forces, theirs(crystal).forces)
    assert ours(crystal).energy == theirs(crystal).energy
    assert ours.elements == frozenset(ELEMENTS)
    known = ours.provenance
    assert known["converted_from"]["file"] == name
    assert len(known["converted_from"]["sha256"]) == 64
    assert known["units"] == {"energy": "eV", "length": "Å"}
    with pytest.raises(FluxError, match="tells everything, so energy_unit has no meaning"):
        load_potential(target, energy_unit="eV")


def test_a_conversion_never_replaces_its_source(tmp_path: Path) -> None:
    for target in (FOREIGN / "v2.best_model", tmp_path / "model.pt"):
        with pytest.raises(FluxError, match=r"name it MODEL\.safetensors"):
            gkflux.convert_model(FOREIGN / "v2.best_model", target, **EV)
    assert not (tmp_path / "model.pt").exists()


def state(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """What ``torch.save(model.state_dict())`` would hold."""
    contents = read_module(name, stub(name))
    return {prefix + key: value for key, value in contents.state.items()}


def stub(name: str) -> Stub:
    found = read_torch(FOREIGN / name)
    assert isinstance(found, Stub)
    return found


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize(
    ("name", "readout", "cutoff"),
    [("v1-hard.best_model", "ssp", "hard"), ("v2.best_model", "silu", "cosine")],
)
def test_tensors_alone_need_to_be_explained(
    tmp_path: Path, crystal: System, name: str, readout: str, cutoff: str, prefix: str
) -> None:
    path = tmp_path / "state.pt"
    torch.save(state(name, prefix), path)
    with pytest.raises(
        FluxError, match=r"energy_unit, length_unit, readout, cutoff_function: give"
    ):
        load_potential(path)
    told: dict[str, Any] = {"readout": readout, "cutoff_function": cutoff, **EV}
    found: Any = load_potential(path, dtype="float64", elements=ELEMENTS, **told)
    expected = REFERENCE["models"][name]
    assert found(crystal).energy == pytest.approx(expected["energy"], rel=1e-12)
    assert np.abs(found(crystal).forces - expected["forces"]).max() < 1e-11


def test_a_checkpoint_without_its_module_needs_the_same(
    tmp_path: Path, crystal: System
) -> None:
    path = tmp_path / "last.ckpt"
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": {**state("v2.best_model", "model."), "loss.weight": torch.ones(1)},
        "hyper_parameters": {"optimizer_args": {"lr": 1e-3}},
    }
    torch.save(content, path)
    with pytest.raises(FluxError, match=r"readout='ssp' .SchNetPack 1. or 'silu' .2."):
        load_potential(path, **EV)
    told: dict[str, Any] = {"readout": "silu", "cutoff_function": "cosine", **EV}
    found: Any = load_potential(path, dtype="float64", elements=ELEMENTS, **told)
    expected = REFERENCE["models"]["v2.best_model"]["energy"]
    assert found(crystal).energy == pytest.approx(expected, rel=1e-12)


def test_the_weights_of_a_checkpoint_are_the_newest() -> None:
    file = FOREIGN / "v2.ckpt"
    content = read_torch(file)
    module = content["hyper_parameters"]["model"]
    key = "representation.embedding.weight"
    newest = tensor(content["state_dict"][f"model.{key}"]) + 1
    assert torch.equal(read_module(file, module, {key: newest}).state[key], newest)


def test_other_networks_are_named() -> None:
    with pytest.raises(FluxError, match="holds a PaiNN, and only SchNet is read"):
        load("v2-painn.best_model")


def test_what_is_told_must_not_contradict_the_file() -> None:
    with pytest.raises(FluxError, match="has readout 'silu', not 'ssp'; remove readout"):
        load("v2.best_model", readout="ssp")
    with pytest.raises(FluxError, match="has cutoff_function 'hard', not 'cosine'"):
        load("v1-hard.best_model", cutoff_function="cosine")
    with pytest.raises(FluxError, match="readout 'relu' is not known; ssp or silu"):
        load("v2.best_model", readout="relu")


def child(module: Stub, name: str) -> Stub:
    for part in name.split("."):
        found = module.state["_modules"][part]
        assert isinstance(found, Stub)
        module = found
    return module


def renamed(module: Stub, kind: str) -> None:
    module.__class__ = type("Stub", (Stub,), {"origin": f"elsewhere.{kind}"})


def function(name: str) -> Any:
    return type("Stub", (Stub,), {"origin": f"torch.nn.functional.{name}"})


VARIANTS: list[tuple[str, str, Callable[[Stub], Any], str]] = [
    (
        "v1.best_model",
        "representation.interactions.1.cfconv.agg",
        lambda m: m.state.update(average=True),
        "normalize_filter is not supported",
    ),
    (
        "v1.best_model",
        "representation.distance_expansion",
        lambda m: m.state.update(centered=True),
        "distance_expansion is GaussianSmearing, supported",
    ),
    (
        "v1.best_model",
        "representation.interactions.0.cutoff_network",
        lambda m: renamed(m, "MollifierCutoff"),
        "cutoff function MollifierCutoff is not supported",
    ),
    (
        "v1.best_model",
        "output_modules.0.atom_pool",
        lambda m: m.state.update(average=True),
        "does not sum over atoms",
    ),
    (
        "v2.best_model",
        "output_modules.0",
        lambda m: m.state.update(aggregation_mode="avg"),
        "does not sum over atoms",
    ),
    (
        "v2.best_model",
        "output_modules.0.outnet.0",
        lambda m: m.state.update(activation=function("tanh")),
        "readout activation tanh is not supported",
    ),
    (
        "v2.best_model",
        "representation.interactions.1.filter_network.0",
        lambda m: m.state.update(activation=function("silu")),
        "filter_network.0 ends with silu, expected ssp",
    ),
    (
        "v2.best_model",
        "representation.radial_basis",
        lambda m: renamed(m, "BesselRBF"),
        "radial_basis is BesselRBF, supported is GaussianRBF",
    ),
    (
        "v2.best_model",
        "representation.electronic_embeddings",
        lambda m: m.state["_modules"].update({"0": stub("v2.best_model")}),
        "told charge or spin",
    ),
    (
        "v2.best_model",
        "postprocessors.1",
        lambda m: m.state.update(is_extensive=False),
        "postprocessor AddOffsets of 'energy' is not supported",
    ),
    (
        "v2.best_model",
        "output_modules.0",
        lambda m: renamed(m, "Polarizability"),
        "has no outputs of kind Atomwise",
    ),
]


@pytest.mark.parametrize(("name", "place", "change", "message"), VARIANTS)
def test_variants_that_change_the_numbers_are_refused(
    name: str, place: str, change: Callable[[Stub], Any], message: str
) -> None:
    root = stub(name)
    assert read_module(name, root).state
    change(child(root, place))
    with pytest.raises(FluxError, match=message):
        read_module(name, root)


def test_switched_off_offsets_do_not_count() -> None:
    root = stub("v2.best_model")
    child(root, "postprocessors.1").state["add_atomrefs"] = False
    names = set(read_module("file", root).state)
    assert "postprocessors.0.mean" in names
    assert "postprocessors.0.atomref" not in names


def test_potentials_by_name() -> None:
    argon: Any = load_potential("lennard-jones", parameters={"epsilon": 0.01, "sigma": 3.4})
    other: Any = load_potential("lennard-jones", parameters={"epsilon": 0.02, "sigma": 3.4})
    assert argon.epsilon == 0.01
    assert argon.provenance["sha256"] != other.provenance["sha256"]
    silicon = load_potential("stillinger-weber", dtype="float64")
    assert silicon.elements == frozenset({14})
    for options, message in (
        ({}, "parameters of lennard-jones: missing 2 required"),
        ({"parameters": {"depth": 1}}, "parameters of lennard-jones: .*'depth'"),
        ({"parameters": {"epsilon": "x", "sigma": 1}}, "lennard-jones: could not convert"),
        ({"parameters": {"epsilon": math.nan, "sigma": 1}}, "must be positive"),
        ({"parameters": {"epsilon": math.inf, "sigma": 1}}, "must be positive"),
        ({"elements": [18]}, "elements has no meaning for it; remove elements"),
        ({"readout": "ssp"}, "readout has no meaning for it"),
        ({"dtype": "float16"}, "neither float32 nor float64"),
    ):
        with pytest.raises(FluxError, match=message) as caught:
            load_potential("lennard-jones", **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(FluxError, match="parameters has no meaning"):
        load_potential("argon", parameters={"epsilon": 1})
    with pytest.raises(FluxError, match=r"by name: lennard-jones, stillinger-weber"):
        load_potential("lenard-jones")
