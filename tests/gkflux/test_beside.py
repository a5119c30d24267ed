"""Mass currents of trajectories, as recorded or of velocities; against SporTran."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.beside import MassCurrents, current_source
from gkflux.correlate import Float
from gkflux.potentials.lennard_jones import LennardJones
from stepson.batch import Batch
from tests.gkflux.dynamics.runs import perform

KAPPA, KAPPA_STD = 0.49830975139544453, 0.028018311619340822
"""Of molten NaCl with two currents, f* = 14 THz: SporTran's regression test."""
NA, CL = 22.98976928, 35.453
VOLUME = 65013.301261


def table(shared_data: Path) -> Float:
    lines = (shared_data / "sportran" / "NaCl.dat").read_text().splitlines()
    rows = [line for line in lines if line[:1] in "0123456789 -" and line.strip()]
    return np.array([[float(cell) for cell in row.split()] for row in rows])


def salt(
    path: Path, data: Float, beside: str, *, every: int = 1, moved: float = 5.0
) -> Path:
    """One atom of each kind, whose velocities are those of all Na and all Cl."""
    sodium = data[:, None, 4:7]
    velocities = np.concatenate([sodium, -sodium * NA / CL], axis=1)
    masses = np.array([NA, CL])
    fields = [
        stepson.Field("heat_flux", "float64", (3,), "eV Å/ps", every=1),
        stepson.Field("temperature", "float64", (), "K", every=1),
        stepson.Field("positions", "float64", ("atom", 3), "Å", every=len(data) - 1),
    ]
    values: dict[str, Any] = {"heat_flux": data[:, 1:4], "temperature": data[:, 0]}
    if beside == "velocities":
        fields.append(
            stepson.Field("velocities", "float64", ("atom", 3), "Å/fs", every=every)
        )
    if beside == "mass_currents":
        fields.append(
            stepson.Field("mass_currents", "float64", (2, 3), "amu Å/fs", every=1)
        )
        values["mass_currents"] = masses[:, None] * velocities
    with stepson.create(
        path,
        fields=fields,
        numbers=[11, 17],
        masses=masses,
        cell=np.eye(3) * VOLUME ** (1 / 3),
        pbc=True,
        timestep=5.0,
        metadata={"ensemble": "nve", "temperature": 1400.0},
    ) as out:
        last = len(data) - 1
        for step in range(len(data)):
            row = {name: column[step] for name, column in values.items()}
            if step in (0, last):
                row["positions"] = np.array([[0.0, 0, 0], [2, 2, 2 + moved * step / last]])
            if beside == "velocities" and step % every == 0:
                row["velocities"] = velocities[step]
            out.append(step=step, **row)
    return path


load = gkflux.GreenKubo.from_trajectories


@pytest.mark.parametrize("beside", ["velocities", "mass_currents"])
def test_molten_salt_from_a_trajectory(
    shared_data: Path, tmp_path: Path, beside: str
) -> None:
    path = salt(tmp_path / "md.son", table(shared_data), beside)
    found = load(path, mode="sportran", fstar=14.0)
    assert found.settings["currents"] == 2
    assert found.kappa == pytest.approx(KAPPA, rel=1e-9)
    assert found.kappa_std == pytest.approx(KAPPA_STD, rel=1e-9)
    check = {c.name: c for c in found.checks}["diffusion"]
    assert check.status == "pass"
    assert beside.replace("_", " ") in check.message
    without = load(path, mode="sportran", fstar=14.0, currents="none")
    assert found.kappa / without.kappa == pytest.approx(0.773, abs=0.01)
    assert {c.name: c.status for c in without.checks}["diffusion"] == "warn"
    # states of the flux alone are not those with currents
    states = tmp_path / "states"
    load(path, currents="none", states=states)
    assert load(path, states=states).kappa == load(path).kappa


def test_which_species_is_left_out_does_not_matter(shared_data: Path) -> None:
    """The currents of both are proportional, as the momentum is zero."""
    data = table(shared_data)
    known: dict[str, Any] = {"volume": VOLUME, "temperature": data[:, 0].mean()}
    options: dict[str, Any] = {"timestep": 5.0, "mode": "sportran", "fstar": 14.0}
    for factor in (NA, -1e6, 1e-6):
        currents = factor * data[None, :, 4:7]
        found = gkflux.kappa(1e-3 * data[:, 1:4], currents=currents, **known, **options)
        assert found.kappa == pytest.approx(KAPPA, rel=1e-9)


def test_too_rare_velocities_or_a_solid_give_none(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(4001, 7))
    data[:, 0] += 1400
    rare = load(salt(tmp_path / "rare.son", data, "velocities", every=4))
    assert rare.settings["currents"] == 1
    check = {c.name: c for c in rare.checks}["diffusion"]
    assert check.status == "warn"
    assert "mass_currents = true" in check.message
    solid = load(salt(tmp_path / "solid.son", data, "velocities", moved=0.3))
    assert solid.settings["currents"] == 1
    assert "diffusion" not in {c.name for c in solid.checks}
    with pytest.raises(gkflux.FluxError, match="no lattice about which"):
        load(tmp_path / "rare.son", gauge="virials")
    with pytest.raises(gkflux.FluxError, match="unknown currents 'all': auto or none"):
        load(tmp_path / "solid.son", currents="all")


def test_currents_are_the_momenta_of_the_species() -> None:
    generator = np.random.default_rng(2)
    numbers = np.array([40, 8, 8, 40, 1, 8])
    masses = generator.uniform(1, 90, size=6)
    v = generator.normal(size=(5, 6, 3))
    steps = np.arange(5)
    batch = Batch({"velocities": v}, {"velocities": steps})
    rows = MassCurrents.of(numbers, masses)(np.zeros((5, 3)), steps, batch)
    assert rows.shape == (5, 9)
    for place, kind in enumerate((1, 8)):  # zirconium is the last one
        expected = sum(masses[i] * v[:, i] for i in range(6) if numbers[i] == kind)
        np.testing.assert_allclose(rows[:, 3 + 3 * place : 6 + 3 * place], expected)
    with pytest.raises(gkflux.FluxError, match="not stored at every sample"):
        MassCurrents.of(numbers, masses)(np.zeros((5, 3)), steps + 1, batch)


MIXTURE = """
[system]
structure = "none"
temperature = 40
seed = 1
[potential]
model = "none"
[[stage]]
name = "nve"
timestep = 2.0
steps = 40
record = { every = 2, dtype = { velocities = "float64" } }
heat_flux = { every = 2, HOW }
[output]
folder = "out"
"""


def argon() -> gkflux.System:
    """A crystal of two isotopes of different names."""
    atoms = pytest.importorskip("ase.build").bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms = atoms.repeat((3, 3, 3))
    numbers = np.where(np.arange(len(atoms)) % 2, 18, 36)
    return gkflux.System(
        positions=atoms.positions, cell=np.asarray(atoms.cell), numbers=numbers, pbc=True
    )


def recorded(folder: Path, how: str, lattice: Float | None = None) -> stepson.Trajectory:
    potential: Any = LennardJones(epsilon=0.0104, sigma=3.4, cutoff=7.0)
    text = MIXTURE.replace("HOW", how)
    perform(folder, text, potential=potential, system=argon(), lattice=lattice)
    return stepson.open(folder / "nve" / "md.son")


def test_a_run_records_them(tmp_path: Path) -> None:
    with recorded(tmp_path, "mass_currents = true") as trajectory:
        assert current_source(trajectory) == "mass_currents"
        masses, numbers = argon().masses, argon().numbers
        stored, v = trajectory["mass_currents"][:], trajectory["velocities"][:]
        assert stored.shape == (21, 2, 3)
        for place, kind in enumerate((18, 36)):
            chosen = numbers == kind
            expected = np.einsum("n,kna->ka", masses[chosen], v[:, chosen])
            np.testing.assert_allclose(stored[:, place], expected, atol=1e-12)
        assert np.abs(stored).max() > 0.1
        np.testing.assert_allclose(stored.sum(axis=1), 0, atol=1e-9)


def test_a_run_records_both_gauges(tmp_path: Path) -> None:
    sites = argon().positions
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        recorded(tmp_path / "one", "plain = true", sites) as both,
        recorded(tmp_path / "two", "gauge = 'none'") as plain,
    ):
        one = both["heat_flux_plain"][:]
        np.testing.assert_allclose(one, plain["heat_flux"][:], rtol=1e-9, atol=1e-12)
        assert both.fields["heat_flux_plain"].attributes["gauge"] == "none"
        assert both.fields["heat_flux_plain"].attributes["convective"] is True
        assert np.abs(one - both["heat_flux"][:]).max() > 1e-4
        assert "heat_flux_plain" not in plain.fields
