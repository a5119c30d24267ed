"""A network that the package has never seen, from its documentation alone."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import gkflux
from gkflux.errors import FluxError
from gkflux.flux import edge_powers, hardy_flux, heat_flux, local_power, unfolded_flux
from gkflux.potentials.base import Gather, Potential
from gkflux.potentials.python_model import python_potential
from gkflux.potentials.torch_potential import TorchPotential, check_gathers
from gkflux.system import System

FOLDER = Path(__file__).parent
README = Path(gkflux.__file__).parent / "README.md"
Array = NDArray[np.float64]

PAINN = FOLDER / "painn.py"


def painn(**parameters: Any) -> Any:
    name = f"python:{PAINN}:make"
    return python_potential(name, parameters, dtype="float64", device="cpu")


@pytest.fixture(scope="module")
def model() -> Any:
    return painn()


def crystal(n: int, length: float) -> System:
    """Atoms anywhere in a triclinic cell, of about 4.2 or 3.0 Å; the cutoff is 3.5."""
    rng = np.random.default_rng(n)
    cell = length * (np.eye(3) + rng.normal(0, 0.12, (3, 3)))
    return System(
        positions=rng.random((n, 3)) @ cell,
        numbers=1 + np.arange(n) % 4,
        cell=cell,
        velocities=rng.normal(0, 0.01, (n, 3)),
    )


def distance(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def slope(at: Any, h: float = 1e-3) -> float:
    """A derivative at 0, with an error of h^4."""
    return float((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))


def test_it_is_a_potential_and_equivariant(model: Any) -> None:
    assert isinstance(model, Potential)
    system = crystal(6, 4.2)
    assert system.cell is not None
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q))
    turned = system.moved(system.positions @ q.T, system.cell @ q.T)
    here: Any = model(system, compute=("energies", "forces"))
    there: Any = model(turned, compute=("energies", "forces"))
    np.testing.assert_allclose(there.energies, here.energies, rtol=1e-12)
    np.testing.assert_allclose(there.forces, here.forces @ q.T, atol=1e-13)


def test_forces_and_stress_are_slopes_of_the_energy(model: Any) -> None:
    system = crystal(6, 4.2)
    result: Any = model(system, compute=("forces", "stress"))
    cell = system.cell
    assert cell is not None

    def displaced(h: float) -> float:
        positions = np.array(system.positions)
        positions[3, 2] += h
        return float(model(system.moved(positions)).energy)

    def strained(h: float) -> float:
        f = np.eye(3)
        f[1, 2] += h
        return float(model(system.moved(system.positions @ f.T, cell @ f.T)).energy)

    size = np.abs(result.forces).max()
    assert abs(result.forces[3, 2] + slope(displaced)) < 1e-10 * size
    virial = result.stress * system.volume
    assert abs(virial[1, 2] - slope(strained)) < 1e-9 * np.abs(virial).max()


@pytest.mark.parametrize(
    ("rounds", "n", "length"),
    [
        (1, 4, 3.0),
        (2, 4, 3.0),
        (2, 6, 4.2),
        pytest.param(3, 4, 3.0, marks=pytest.mark.slow),
    ],
)
def test_the_flux_is_that_of_the_definition(rounds: int, n: int, length: float) -> None:
    potential, system = painn(rounds=rounds), crystal(n, length)
    v = system.velocities
    assert v is not None
    powers = edge_powers(potential, system, v)
    assert distance(powers.flux(), hardy_flux(potential, system, v)) < 1e-12
    assert distance(powers.flux(), unfolded_flux(potential, system, v)) < 1e-12
    assert np.abs(powers.imbalance()).max() < 1e-12 * np.abs(powers.energy_rates).max()
    virial_form = distance(powers.flux(power=local_power(powers)), powers.flux())
    assert virial_form < 1e-12 if rounds == 1 else virial_form > 1e-3


def test_its_engine_computes_the_same(model: Any) -> None:
    system = crystal(6, 4.2)
    v = system.velocities
    assert v is not None
    twice = model.batch([system, system])
    e = twice.forces(np.stack([system.positions] * 2))
    assert e.energy[0] == e.energy[1]
    flux = twice.heat_flux(np.stack([v, -v])).plain
    np.testing.assert_allclose(flux[0], heat_flux(model, system), rtol=1e-14)
    np.testing.assert_allclose(flux[0], -flux[1], rtol=1e-12)
    result: Any = model(system, compute=("heat_flux",))
    assert np.array_equal(result.heat_flux, flux[0])


class Secret(nn.Module):
    """Two layers, of which some forget to gather."""

    def __init__(self, forgets: tuple[bool, bool]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.forgets = forgets
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in forgets)
        self.embedding = nn.Embedding(20, 4)

    def forward(
        self,
        numbers: Tensor,
        d: Tensor,
        centre: Tensor,
        other: Tensor,
        n_atoms: int,
        gather: Gather,
    ) -> Tensor:
        w = torch.exp(-d.square().sum(1, keepdim=True))
        x = self.embedding(numbers)
        for forgets, layer in zip(self.forgets, self.layers, strict=True):
            sent = x[other] if forgets else gather(x, other)
            x = x + torch.tanh(layer(torch.zeros_like(x).index_add(0, centre, sent * w)))
        energies: Tensor = x.sum(1)
        return energies


def secret(*forgets: bool, layers: int = 2, **options: Any) -> TorchPotential:
    network = Secret((forgets[0], forgets[1]))
    return TorchPotential(network, cutoff=3.5, layers=layers, **options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_forgotten_gather_is_found(dtype: str) -> None:
    system = crystal(6, 4.2)
    honest = secret(False, False, dtype=dtype)
    assert honest(system, compute=("heat_flux",)).heat_flux is not None
    # what the first layer takes are embeddings, which carry no power
    embeddings = secret(True, False, dtype=dtype)
    assert embeddings(system, compute=("heat_flux",)).heat_flux is not None
    wrong = secret(False, True, dtype=dtype)
    assert wrong(system).forces is not None
    with pytest.raises(FluxError, match=r"does not balance .* without gather"):
        wrong(system, compute=("heat_flux",))
    with pytest.raises(FluxError, match="does not balance"):
        check_gathers(wrong, system.repeat(3))


def test_too_few_layers_are_found() -> None:
    with pytest.raises(FluxError, match="says layers = 1"):
        check_gathers(secret(False, False, layers=1), crystal(6, 4.2))


def test_a_rate_that_is_no_number_is_no_balance() -> None:
    """Forces may be finite where the second derivative of a norm at zero is not."""

    class Steep(Secret):
        def forward(self, *inputs: Any) -> Tensor:
            x = super().forward(*inputs)
            y: Tensor = x + _NoTangent.apply(x)  # type: ignore[no-untyped-call]
            return y

    network = Steep((False, False))
    with pytest.raises(FluxError, match=r"rate of the energy of atom \d is not"):
        check_gathers(TorchPotential(network, cutoff=3.5, layers=2), crystal(6, 4.2))


class _NoTangent(torch.autograd.Function):
    """Nothing, with a derivative of zero backwards and none forwards."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)

    @staticmethod
    def jvp(context: Any, tangent: Tensor) -> Tensor:
        return torch.full_like(tangent, math.nan)


class Odd(nn.Module):
    """Whatever it is told to return."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, numbers: Tensor, d: Tensor, *rest: Any) -> Any:
        return self.answer(d)


def test_wrong_answers_get_one_line() -> None:
    system = crystal(4, 3.0)

    def odd(answer: Any) -> TorchPotential:
        return TorchPotential(Odd(answer), cutoff=3.0, layers=1)

    with pytest.raises(FluxError, match=r"returns \(3,\), expected one energy an atom"):
        odd(lambda d: d.sum(0))(system)
    with pytest.raises(FluxError, match=r"returns float, expected"):
        odd(lambda d: 0.0)(system)
    with pytest.raises(FluxError, match=r"not finite, first at atom 0"):
        odd(lambda d: (d.sum() * 0 / 0).expand(4))(system)
    with pytest.raises(FluxError, match="neither float32 nor float64"):
        secret(False, False, dtype="float16")
    with pytest.raises(FluxError, match="layers 0"):
        secret(False, False, layers=0)


def test_the_weights_have_a_name() -> None:
    one, again, other = painn(), painn(), painn(seed=1)
    assert one.provenance["sha256"] == again.provenance["sha256"]
    assert one.provenance["sha256"] != other.provenance["sha256"]
    assert one.provenance["model"] == "python:painn.py:make"
    assert one.provenance["kind"] == "Painn"
    with pytest.raises(FluxError, match="not trained on Ag"):
        one(System(positions=[[0, 0, 0]], numbers=[47]))


def test_a_module_that_can_be_imported_and_one_that_cannot() -> None:
    def make(name: str, **parameters: Any) -> Any:
        return python_potential(name, parameters, dtype="float64", device="cpu")

    home = "gkflux.potentials.lennard_jones"
    argon = make(f"python:{home}:LennardJones", epsilon=0.01, sigma=3.4)
    assert argon.sigma == 3.4
    for name, parameters, message in (
        (f"python:{PAINN.name}", {}, "not of the form python:FILE.py:NAME"),
        ("python:nowhere.py:make", {}, "no file .*nowhere.py"),
        ("python:no.such.place:make", {}, "no module 'no'"),
        (f"python:{PAINN}:mend", {}, "no function 'mend'"),
        (f"python:{PAINN}:make", {"depth": 3}, "unexpected keyword argument 'depth'"),
        (f"python:{PAINN}:Painn", {}, "returned Painn, which is no Potential"),
    ):
        with pytest.raises(FluxError, match=message) as caught:
            make(name, **parameters)
        assert "\n" not in str(caught.value)


def test_the_code_of_the_documentation_runs(tmp_path: Path) -> None:
    section = README.read_text(encoding="utf-8").partition("## Your own model")[2]
    section = section.partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    file = tmp_path / "my_model.py"
    file.write_text(code, encoding="utf-8")
    potential: Any = gkflux.load_potential(f"python:{file}:make", "float64")
    rng = np.random.default_rng(0)
    system = System(
        positions=rng.random((4, 3)) * 4.5,
        numbers=[14] * 4,
        cell=[4.5, 4.5, 4.5],
        velocities=rng.normal(0, 0.01, (4, 3)),
    )
    gkflux.check_gathers(potential, system)
    result = potential(system, compute=("forces", "heat_flux"))
    exact = heat_flux(potential, system, formulation="hardy")
    assert distance(result.heat_flux, exact) < 1e-12
