"""Runs at constant pressure: what is stored, where later stages start, restarts."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.dynamics.config import ConfigError, parse
from gkflux.dynamics.mean_volume import mean_volume
from gkflux.dynamics.progress import Progress
from gkflux.errors import FluxError
from tests.gkflux.dynamics.harmonic import SIDE, oscillators
from tests.gkflux.dynamics.runs import (
    Counting,
    assert_same_files,
    perform,
    stopped_after,
)

CHAIN = """
[system]
structure = "none"
temperature = 300
seed = 11
[potential]
model = "none"
[[stage]]
name = "press"
ensemble = "npt"
timestep = 2.0
steps = 200
relaxation = 100
pressure = 0.03
compressibility = 0.3
record.every = 4
[[stage]]
name = "again"
ensemble = "npt"
timestep = 2.0
steps = 100
friction = 0.01
pressure = 0.03
compressibility = 0.3
replicas = 2
record.every = 4
[[stage]]
name = "hold"
ensemble = "csvr"
timestep = 2.0
steps = 60
relaxation = 50
replicas = 2
[[stage]]
name = "measure"
timestep = 2.0
steps = 60
replicas = 2
heat_flux = { every = 2, gauge = "lattice" }
[output]
folder = "out"
commit_seconds = 1e-9
commit_steps = 20
"""
CHAIN = CHAIN.replace('"none"\ntemp', '"none"\nlattice = "none"\ntemp')
SITES = oscillators().positions


def chain(folder: Path, calls: int | None = None) -> list[str]:
    """Run, perhaps until so many force calls; return what was said."""
    if calls is not None:
        return list(stopped_after(folder, calls, CHAIN, lattice=SITES).messages)
    return list(perform(folder, CHAIN, lattice=SITES).messages)


def test_volumes_are_told_while_they_fluctuate(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []

    def listen(progress: Progress) -> None:
        if progress.phase == "running" and progress.message is None:
            seen.append((progress.ensemble, progress.volume is not None))
            if progress.volume is not None:
                assert progress.volume.shape == (progress.replicas,)
                assert (np.abs(progress.volume - SIDE**3) < 300).all()

    perform(tmp_path, CHAIN, lattice=SITES, listener=listen)
    assert {("npt at 0.03 GPa", True), ("csvr", False), ("nve", False)} == set(seen)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pressure")
    said = chain(folder)
    (line,) = (text for text in said if "stage press: mean volume" in text)
    assert "times those of the structure" in line
    return folder


def test_volume_pressure_and_cell_are_stored(unbroken: Path) -> None:
    with stepson.open(unbroken / "press" / "md.son") as trajectory:
        names = ["energy", "energy_kinetic", "temperature", "volume", "pressure", "cell"]
        assert list(trajectory.fields)[:6] == names
        assert trajectory.fields["pressure"].unit == "eV/Å³"
        volume, cell = trajectory["volume"][:], trajectory["cell"][:]
        assert len(volume) == 51
        np.testing.assert_allclose(np.linalg.det(cell), volume, rtol=1e-12)
        assert volume[0] == pytest.approx(SIDE**3)
        assert np.ptp(volume) > 10
        np.testing.assert_array_equal(cell[:, 0, 1], 0.0)
        about = trajectory.metadata
        assert about["pressure"] == 0.03
        assert about["compressibility"] == 0.3
        assert about["degrees_of_freedom"] == 9
        last = trajectory.checkpoint()
        np.testing.assert_allclose(last["cell"], cell[-1], rtol=1e-15)
        np.testing.assert_allclose(
            trajectory["positions"][-1], last["positions"], atol=1e-5
        )


def test_constant_pressure_goes_on_with_the_cell_of_the_moment(unbroken: Path) -> None:
    with stepson.open(unbroken / "press" / "md.son") as before:
        for k, step in enumerate((150, 200)):
            start = before.checkpoint(step)
            with stepson.open(unbroken / "again" / f"0{k}" / "md.son") as after:
                np.testing.assert_array_equal(after.metadata["cell"], start["cell"])
                np.testing.assert_array_equal(after["cell"][0], start["cell"])
                assert after.metadata["degrees_of_freedom"] == 12
                assert after["energy"][0] == pytest.approx(energy_of(start), rel=1e-12)


def energy_of(state: dict[str, np.ndarray]) -> float:
    batch = Counting().batch([oscillators()])
    return float(batch.forces(state["positions"][None], state["cell"][None]).energy[0])


def test_constant_volume_after_it_has_the_mean_cell_of_all_replicas(unbroken: Path) -> None:
    files = [unbroken / "again" / f"0{k}" / "md.son" for k in range(2)]
    volumes = []
    for file in files:
        with stepson.open(file) as trajectory:
            column = trajectory["volume"]
            volumes += [
                v for s, v in zip(column.steps[:], column[:], strict=True) if s > 48
            ]
    mean = float(np.mean(volumes))
    assert mean_volume(files, 100).volume == pytest.approx(mean, rel=1e-14)
    cells = []
    for k, file in enumerate(files):
        with (
            stepson.open(unbroken / "hold" / f"0{k}" / "md.son") as held,
            stepson.open(unbroken / "measure" / f"0{k}" / "md.son") as measured,
            stepson.open(file) as before,
        ):
            cell = held.metadata["cell"]
            cells.append(cell)
            assert np.linalg.det(cell) == pytest.approx(mean, rel=1e-12)
            assert held.metadata["start"]["mean_volume"]["volume"] == mean
            assert "volume" not in held.fields
            last, first = before.checkpoint(), held.checkpoint(0)
            scale = (mean / np.linalg.det(last["cell"])) ** (1 / 3)
            np.testing.assert_allclose(
                first["positions"], last["positions"] * scale, rtol=1e-12
            )
            np.testing.assert_array_equal(measured.metadata["cell"], cell)
            sites = SITES * (mean ** (1 / 3) / SIDE)
            np.testing.assert_allclose(measured.metadata["lattice"], sites, rtol=1e-12)
            assert measured.checkpoint()["hop"] is None
    np.testing.assert_array_equal(cells[0], cells[1])


@pytest.mark.parametrize("calls", [[90, 150, 90, 60, 40, 50], [230, 130, 70]])
def test_stopped_anywhere_the_bytes_are_the_same(
    unbroken: Path, tmp_path: Path, calls: list[int]
) -> None:
    for count in calls:
        chain(tmp_path, count)
    chain(tmp_path)
    assert_same_files(unbroken, tmp_path)


def test_green_kubo_takes_no_run_at_constant_pressure(tmp_path: Path) -> None:
    system = oscillators()
    fields = [stepson.Field("heat_flux", "float64", (3,), "eV Å/fs")]
    path = tmp_path / "md.son"
    with stepson.create(
        path,
        fields=fields,
        numbers=system.numbers,
        cell=system.cell,
        timestep=1.0,
        metadata={"ensemble": "npt"},
    ) as out:
        md = gkflux.MolecularDynamics(
            Counting(),
            system,
            temperature=300,
            timestep=1.0,
            ensemble="npt",
            relaxation=50,
            pressure=0.0,
            compressibility=0.1,
            writer=out,
        )
        md.run(40)
    assert md.state.cell is not None
    assert abs(np.linalg.det(md.state.cell) - SIDE**3) > 0.1
    with pytest.raises(FluxError, match="only npt stages"):
        gkflux.GreenKubo.from_trajectories(path)
    with pytest.raises(FluxError, match="its cell changes"):
        gkflux.GreenKubo.from_trajectories(path, any_ensemble=True)


def test_constant_pressure_of_a_molecule_is_refused() -> None:
    from gkflux.system import System

    cluster = System(positions=SITES, numbers=[18] * 4)
    known: dict[str, Any] = {"temperature": 300, "timestep": 1.0, "relaxation": 50}
    with pytest.raises(FluxError, match="periodic in all directions"):
        gkflux.MolecularDynamics(Counting(), cluster, ensemble="npt", pressure=0.0, **known)
    with pytest.raises(FluxError, match="'lattice' has no meaning while the cell"):
        gkflux.MolecularDynamics(
            Counting(),
            oscillators(),
            ensemble="npt",
            pressure=0.0,
            compressibility=1.0,
            gauge="lattice",
            lattice=SITES,
            **known,
        )


def test_all_ensembles_from_a_script() -> None:
    """`MolecularDynamics` is the dynamics of a run: the same noise, so the same bits."""
    pressed = {"pressure": 0.1, "compressibility": 0.2}
    choices: tuple[dict[str, Any], ...] = (
        {"ensemble": "csvr", "relaxation": 50.0},
        {"ensemble": "npt", "relaxation": 50.0, **pressed},
        {"ensemble": "npt", "friction": 0.01, **pressed},
    )
    for options in choices:
        md = gkflux.MolecularDynamics(
            Counting(),
            oscillators(),
            temperature=300,
            timestep=2.0,
            seed=3,
            **options,
        )
        md.run(50)
        assert 20 < md.state.temperature < 2000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("relaxation = 100\n", "", "needs one thermostat"),
        (
            "pressure = 0.03\ncompressibility = 0.3\nrecord",
            "record",
            "needs pressure (GPa)",
        ),
        ("compressibility", "compresibility", "did you mean 'compressibility'?"),
    ],
)
def test_what_is_missing_is_said(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(CHAIN.replace(old, new), Path("run.toml"))
