"""Heat between groups of atoms: against the energies of the groups along a trajectory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gkflux
from gkflux.errors import FluxError
from gkflux.flux import heat_between
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.system import System
from stepson.units import KINETIC

Network = Callable[..., SchNetPotential]
Crystal = Callable[..., System]
Array = NDArray[np.float64]
LENGTH = 4.0
"""fs of a trajectory."""


def test_the_flat_name_is_this_function() -> None:
    assert gkflux.heat_between is heat_between


def books(
    potential: SchNetPotential, start: System, groups: list[int], timestep: float
) -> tuple[Array, Array]:
    """Velocity Verlet: what each group gains, and the integral of what it receives, eV."""
    x, v = np.array(start.positions), np.array(start.velocities)
    mass, forces = KINETIC * start.masses[:, None], np.zeros_like(start.positions)
    energies, currents = [], []
    for step in range(round(LENGTH / timestep) + 1):
        if step:
            v += 0.5 * timestep * forces / mass
            x = x + timestep * v
        now: Any = potential(start.moved(x), compute=("energies", "forces"))
        forces = now.forces
        if step:
            v += 0.5 * timestep * forces / mass
        own = 0.5 * (mass * v * v).sum(1) + now.energies
        energies.append(np.bincount(groups, own).astype(float))
        currents.append(heat_between(potential, start.moved(x), groups, v).sum(0))
    received = np.trapezoid(currents, dx=timestep, axis=0)
    return energies[-1] - energies[0], np.asarray(received)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_groups_gain_what_they_receive(
    network: Network, crystal: Crystal, layers: int
) -> None:
    """Up to the error of the integrator and of the sum over time: both fall as h²."""
    system, groups = crystal(12, 5.5), [0] * 4 + [1] * 4 + [2] * 4
    errors = []
    for timestep in (0.4, 0.2):
        gain, received = books(network(layers), system, groups, timestep)
        errors.append(np.abs(gain - received).max() / np.abs(gain).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] < 1e-3


def test_what_one_receives_another_gives(network: Network, crystal: Crystal) -> None:
    system = crystal(12, 5.5)
    currents = heat_between(network(2), system, np.arange(12) % 3)
    np.testing.assert_array_equal(currents, -currents.T)
    assert np.abs(currents[np.triu_indices(3, 1)]).min() > 1e-6


def test_two_slabs_touch_twice_and_three_tell_the_surfaces_apart(
    network: Network, crystal: Crystal
) -> None:
    system = crystal(16, 11.0)
    place = np.linalg.solve(system.cell.T, system.positions.T)[2] % 1  # type: ignore[union-attr]
    three = (place * 3).astype(int)
    two = np.minimum(three, 1)
    fine, coarse = (heat_between(network(2), system, groups) for groups in (three, two))
    assert coarse[0, 1] == pytest.approx(fine[0, 1] + fine[0, 2], rel=1e-12)


def test_a_mask_is_two_groups_and_nobody_is_a_group_too(
    network: Network, crystal: Crystal
) -> None:
    system = crystal()
    mask = np.arange(6) > 2
    np.testing.assert_array_equal(
        heat_between(network(2), system, mask), heat_between(network(2), system, mask * 1)
    )
    assert heat_between(network(2), system, np.zeros(6, int)).shape == (1, 1)


def test_mistakes(network: Network, crystal: Crystal) -> None:
    system = crystal()
    with pytest.raises(FluxError, match=r"groups have shape \(5,\), expected \(6,\)"):
        heat_between(network(1), system, np.zeros(5, int))
    with pytest.raises(FluxError, match="groups are of type float64"):
        heat_between(network(1), system, np.zeros(6))
    with pytest.raises(FluxError, match="atom 4 is in group -1"):
        heat_between(network(1), system, [0, 0, 1, 1, -1, 0])
    with pytest.raises(FluxError, match="atom 2 is in group 10000000 of a structure of 6"):
        heat_between(network(1), system, [0, 0, 10**7, 1, 1, 0])
    with pytest.raises(FluxError, match="needs velocities"):
        heat_between(network(1), system.moved(system.positions), np.zeros(6, int))
