"""The configurations in `examples` run, for a few steps."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import stepson
from gkflux.dynamics.config import load, parse
from gkflux.dynamics.run import run

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def shortened(path: Path) -> str:
    text = path.read_text()
    for long in ("50_000", "250_000", "10_000", "20_000"):
        text = text.replace(f"steps = {long}", "steps = 40")
    return text.replace("starts.spacing = 1000", "starts.spacing = 2")


def test_argon(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "argon.xyz", tmp_path)
    config = parse(shortened(EXAMPLES / "argon-40K.toml"), tmp_path / "run.toml")
    summary = run(config)
    assert summary.finished
    assert len(summary.files) == 5
    with stepson.open(summary.files[-1]) as trajectory:
        assert trajectory.metadata["heat_flux"]["gauge"] == "lattice"
        assert len(trajectory["heat_flux"]) == 21


def test_thermal_expansion(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "argon.xyz", tmp_path)
    config = parse(shortened(EXAMPLES / "argon-expansion.toml"), tmp_path / "run.toml")
    summary = run(config)
    assert summary.finished
    assert any("expand: mean volume" in line for line in summary.messages)
    with (
        stepson.open(summary.files[0]) as expanded,
        stepson.open(summary.files[-1]) as measured,
    ):
        assert 0.3 < expanded.metadata["compressibility"] < 0.7
        volume = expanded["volume"][1:].mean()
        cell = measured.metadata["cell"]
        assert np.linalg.det(cell) == pytest.approx(volume, rel=1e-12)
        assert measured.metadata["heat_flux"]["gauge"] == "lattice"


@pytest.mark.parametrize("name", ["zro2-300K.toml", "zro2-300K-paper.toml"])
def test_zirconia(name: str, tmp_path: Path, shared_data: Path) -> None:
    path = EXAMPLES / name
    load(path)
    for needed in ("300K-96-atoms.in", "300K-96-atoms-lattice.in", "model_n2.torch"):
        shutil.copy(shared_data / "zro2" / needed, tmp_path)
    text = re.sub(r"replicas = \d+", "replicas = 2", shortened(path))
    summary = run(parse(text, tmp_path / "run.toml"))
    assert summary.finished
    with stepson.open(summary.files[-1]) as trajectory:
        energy = trajectory["energy"][:] + trajectory["energy_kinetic"][:]
        assert np.ptp(energy) / 96 < 1e-3
        assert np.abs(trajectory["heat_flux"][:]).max() > 0
