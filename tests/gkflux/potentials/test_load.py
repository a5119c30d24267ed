"""Model files: ours, other programs', broken ones."""

import json
import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gkflux.errors import FluxError
from gkflux.potentials.embedding_rows import trained_rows
from gkflux.potentials.load import load_model, load_potential, shipped_models
from gkflux.potentials.model_file import read_model, save_model
from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.system import System


@pytest.fixture
def network() -> SchNet:
    torch.manual_seed(0)
    shape = Architecture(features=16, gaussians=8, cutoff=4.0, readout="silu")
    return SchNet(shape, mean=-1.5, stddev=2.0, atomref=torch.arange(100.0))


@pytest.fixture
def model(tmp_path: Path, network: SchNet) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, network, elements=[8, 14], provenance={"data": "random", "rmse": 0.1})
    return path


def test_our_file_gives_the_network_back(model: Path, network: SchNet) -> None:
    read = read_model(model)
    assert read.elements == frozenset({8, 14})
    assert read.provenance == {"data": "random", "rmse": 0.1}
    assert read.network.shape == network.shape
    for name, value in network.state_dict().items():
        assert torch.equal(value, read.network.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_rounded(tmp_path: Path, network: SchNet, dtype: torch.dtype) -> None:
    exact = network.to(dtype)
    exact.atomref += 1 / 3  # no number of float32
    for weight in exact.parameters():
        weight.data += torch.rand_like(weight)
    path = tmp_path / "model.safetensors"
    save_model(path, exact, elements=[8, 14])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    read = read_model(path).network
    for name, value in exact.state_dict().items():
        assert torch.equal(value, read.state_dict()[name]), name
        assert value.dtype == read.state_dict()[name].dtype, name
    single = load_potential(path, dtype="float32").reference_energies(np.array([8, 14]))
    assert single == pytest.approx([6.5 + 1 / 3, 12.5 + 1 / 3], abs=1e-14)


def test_a_flipped_bit_is_found(model: Path) -> None:
    content = bytearray(model.read_bytes())
    assert read_model(model).elements
    for place in (-1, -1001):
        changed = bytearray(content)
        changed[place] ^= 1
        model.write_bytes(changed)
        with pytest.raises(FluxError, match="do not have the sha256 of its header"):
            read_model(model)


def with_header(path: Path, network: SchNet, **changed: object) -> None:
    """Our own file, of which the header says something else; ``text``: all of it."""
    save_model(path, network, elements=[8])
    state = load_file(path)
    with safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["gkflux"])
    shape = changed.pop("architecture", {})
    assert isinstance(shape, dict)
    text = changed.pop("text", None)
    header["architecture"] |= shape
    save_file(state, path, metadata={"gkflux": str(text or json.dumps(header | changed))})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": "[" * 100_000}, "its header is not JSON"),
        ({"text": '{"format": ' + "1" * 5000 + "}"}, "its header is not JSON"),
        ({"text": "[1]"}, "no JSON object"),
        ({"format": ["x" * 10_000]}, "model format"),
        ({"kind": "a\nb"}, r"'a\\nb' is no architecture"),
        ({"units": {"energy": "Ha"}}, "has units"),
        ({"architecture": {"a\nb": 1}}, "unknown architecture keys"),
        ({"architecture": {"features": 2.5}}, "features is not a whole number from 1"),
        ({"architecture": {"features": True}}, "features is not a whole number"),
        ({"architecture": {"features": None}}, "features is not a whole number"),
        ({"architecture": {"filters": 0}}, "filters is not a whole number"),
        ({"architecture": {"max_z": -3}}, "max_z is not a whole number from 2"),
        ({"architecture": {"gaussians": 1}}, "gaussians is not a whole number from 2"),
        ({"architecture": {"readout": ["ssp"]}}, "readout is not one of"),
        ({"architecture": {"cutoff": [1]}}, "cutoff is not a length"),
        ({"architecture": {"cutoff": float("nan")}}, "cutoff is not a length"),
        # a network of 200 GB, and one of which the making takes days
        ({"architecture": {"features": 200_000}}, "embedding.weight has shape"),
        ({"architecture": {"interactions": 10**9}}, "1000000000 layers"),
        ({"architecture": {"interactions": 3}}, "'interactions.2.*is missing"),
        ({"elements": [500]}, "has the numbers 1 to 99"),
        ({"elements": []}, "trained on no element"),
        ({"elements": [1.5]}, "no list of atomic numbers"),
        ({"provenance": 3}, "provenance is no table"),
    ],
)
def test_a_header_that_lies_gets_one_line(
    tmp_path: Path, network: SchNet, changed: dict[str, object], message: str
) -> None:
    path = tmp_path / "model.safetensors"
    with_header(path, network, **changed)
    with pytest.raises(FluxError, match=message) as caught:
        load_potential(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("representation.interactions.0.dense.bias", np.nan, "is not finite"),
        ("representation.distance_expansion.width", 0.0, "Gaussians of width 0.0"),
    ],
)
def test_numbers_that_make_no_network_are_refused(
    tmp_path: Path, network: SchNet, name: str, change: float, message: str
) -> None:
    path = tmp_path / "old.torch"
    state = schnetpack_1(network)
    state[name] = torch.full_like(state[name], change)
    torch.save({"config": {"elements": [8]}, "state": state}, path)
    with pytest.raises(FluxError, match=message):
        load_potential(path)
    state[name] = state[name].int()
    torch.save({"config": {"elements": [8]}, "state": state}, path)
    with pytest.raises(FluxError, match="holds integers"):
        load_potential(path)


def test_provenance_names_the_file(model: Path) -> None:
    potential = load_potential(model)
    assert potential.provenance["file"] == "model.safetensors"
    assert len(potential.provenance["sha256"]) == 64
    assert potential.provenance["table_error"]["forces"] < 1e-4
    assert potential.reference_energies(np.array([8, 14])) == pytest.approx([6.5, 12.5])
    with pytest.raises(FluxError, match="not trained on Cu"):
        potential(System(positions=[[0, 0, 0]], numbers=[29]))


def schnetpack_1(network: SchNet) -> dict[str, torch.Tensor]:
    """The state of a network by the names of SchNetPack 1."""
    state, old = network.state_dict(), {}
    old["representation.embedding.weight"] = state["embedding.weight"]
    first = "interactions.0.filter"
    old["representation.distance_expansion.offsets"] = state[f"{first}.centres"]
    old["representation.distance_expansion.width"] = state[f"{first}.width"].expand(8)
    names = {
        "filter.first": "filter_network.0",
        "filter.second": "filter_network.1",
        "in2f": "cfconv.in2f",
        "f2out": "cfconv.f2out",
        "dense": "dense",
    }
    for n in range(network.shape.interactions):
        for ours, theirs in names.items():
            for part in ("weight", "bias"):
                if f"interactions.{n}.{ours}.{part}" in state:
                    old[f"representation.interactions.{n}.{theirs}.{part}"] = state[
                        f"interactions.{n}.{ours}.{part}"
                    ]
        prefix = f"representation.interactions.{n}"
        old[f"{prefix}.cutoff_network.cutoff"] = torch.tensor([network.shape.cutoff])
    for k, ours in enumerate(("hidden", "out")):
        for part in ("weight", "bias"):
            key = f"output_modules.0.out_net.1.out_net.{k}.{part}"
            old[key] = state[f"{ours}.{part}"]
    old["output_modules.0.standardize.mean"] = state["mean"].float()
    old["output_modules.0.standardize.stddev"] = state["stddev"].float()
    return old


def schnetpack_2(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same state by the names of SchNetPack 2."""
    renames = (
        ("distance_expansion.width", "radial_basis.widths"),
        ("distance_expansion.offsets", "radial_basis.offsets"),
        ("cfconv.in2f", "in2f"),
        ("cfconv.f2out", "f2out.0"),
        (".dense.", ".f2out.1."),
        ("interactions.0.cutoff_network", "cutoff_fn"),
        ("out_net.1.out_net", "outnet"),
    )
    new = {}
    for key, value in state.items():
        for old, name in renames:
            key = key.replace(old, name)
        new[key] = value
    # version 2 keeps offsets apart, and knows no scale
    new["postprocessors.1.mean"] = new.pop("output_modules.0.standardize.mean")
    del new["output_modules.0.standardize.stddev"]
    new["postprocessors.1.atomref"] = torch.linspace(0.0, 5.0, 60)
    return new


def test_a_scale_of_nobody_knows_what_is_refused(tmp_path: Path) -> None:
    """Its module says which property it scales; weights alone do not."""
    shape = Architecture(features=16, gaussians=8, cutoff=4.0, readout="silu")
    state = schnetpack_2(schnetpack_1(SchNet(shape)))
    about = {"model": {"representation": {}, "elements": [8, 14]}}
    path = tmp_path / "new.torch"
    for scale in (1.0, 2.0):
        whole = {**state, "postprocessors.2.scale": torch.tensor([scale])}
        torch.save({"config": about, "state": whole}, path)
        if scale == 1.0:
            load_model(path)
            continue
        with pytest.raises(FluxError, match=r"which property postprocessors\.2\.scale"):
            load_model(path)


@pytest.mark.parametrize("version", [1, 2])
def test_schnetpack_states(tmp_path: Path, version: int) -> None:
    torch.manual_seed(1)
    readout: Literal["ssp", "silu"] = "ssp" if version == 1 else "silu"
    shape = Architecture(features=16, gaussians=8, cutoff=4.0, readout=readout)
    atomref = torch.nn.functional.pad(torch.linspace(0.0, 5.0, 60), (0, 40))
    network = (
        SchNet(shape, mean=-1.5, stddev=2.0)
        if version == 1
        else SchNet(shape, mean=-1.5, atomref=atomref)
    )
    state = schnetpack_1(network)
    path = tmp_path / "old.torch"
    torch.save(
        {
            "config": {"model": {"representation": {}, "elements": [8, 14]}},
            "state": state if version == 1 else schnetpack_2(state),
        },
        path,
    )
    theirs = load_model(path)
    assert theirs.network.shape.readout == readout
    assert theirs.elements == frozenset({8, 14})
    d = torch.randn(6, 3)
    edges = torch.tensor([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]])
    numbers = torch.tensor([14, 8, 8])
    ours, read = (n(numbers, d, *edges, 3) for n in (network, theirs.network))
    assert torch.equal(ours, read)


def test_damaged_and_strange_files_get_one_line(tmp_path: Path, model: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("this must never run",)

    bad = tmp_path / "bad"
    cases: list[tuple[bytes, str]] = [
        (b"", "is empty"),
        (b"hello, world", "neither a safetensors nor a torch"),
        (model.read_bytes()[:-7], "damaged or truncated"),
        (
            model.read_bytes().replace(
                b'\\"kind\\": \\"schnet\\"', b'\\"kind\\": \\"painn!\\"'
            ),
            "painn",
        ),
    ]
    torch.save({"config": {}, "state": {"a": torch.zeros(9)}}, bad)
    whole = bad.read_bytes()
    cases += [(whole, "not a SchNet"), (whole[: len(whole) // 2], "damaged or truncated")]
    torch.save([1, 2], bad)
    cases.append((bad.read_bytes(), "holds no SchNet, but a list"))
    torch.save(Runs(), bad)
    cases.append((bad.read_bytes(), "print, which is never run here"))
    cases.append((pickle.dumps(Runs(), protocol=2), r"not one of torch\.save"))
    for content, message in cases:
        bad.write_bytes(content)
        with pytest.raises(FluxError, match=message) as caught:
            load_potential(bad)
        assert "\n" not in str(caught.value)


def test_missing_files_and_options_get_one_line(tmp_path: Path, model: Path) -> None:
    with pytest.raises(FluxError, match="no model file"):
        load_potential(tmp_path / "none.torch")
    with pytest.raises(FluxError, match="neither float32 nor float64"):
        load_potential(model, dtype="float16")
    if not torch.cuda.is_available():
        with pytest.raises(FluxError, match="no CUDA device"):
            load_potential(model, device="cuda")


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_load_by_name(name: str) -> None:
    potential = load_potential(name)
    assert potential.elements
    system = System(
        positions=np.diag([3.6, 0.0, 0.0])[:2], numbers=[min(potential.elements)] * 2
    )
    assert np.isfinite(potential(system).forces).all()  # type: ignore[arg-type]


def test_rows_that_were_never_trained_are_recognised() -> None:
    torch.manual_seed(7)
    embedding = torch.nn.Embedding(100, 128, padding_idx=0).weight.detach()
    trained = [6, 8, 40]
    embedding[trained] += 0.05 * torch.randn(3, 128)
    found = trained_rows(embedding)
    assert found is not None
    assert found >= set(trained)
    assert len(found) < 12
    assert trained_rows(torch.rand(100, 128)) is None
    assert trained_rows(embedding[:, :32]) is None


def test_elements_of_zirconia(shared_data: Path) -> None:
    for model in ("model_n1", "model_n2"):
        path = shared_data / "zro2" / f"{model}.torch"
        found = load_model(path).elements
        assert found is not None
        assert found >= {8, 40}
        assert 14 not in found
        assert load_potential(path, elements=[8, 40]).elements == frozenset({8, 40})
