"""The scripts that measure: they run, and they notice when what they read is wrong."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import stepson

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def terabyte(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("terabyte")


def result_of(script: str, folder: Path, *options: str) -> Any:
    command = [sys.executable, str(FOLDER / script), *options]
    run = subprocess.run(
        [*command, "--json", str(folder / "result.json")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads((folder / "result.json").read_text())
    assert json.loads(run.stdout) == found
    return found


def test_a_small_terabyte_is_an_ordinary_file(
    terabyte: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terabyte, "CHECKPOINT_EVERY", 2)
    made = terabyte.make(tmp_path / "md.son", 2e7)
    with stepson.open(tmp_path / "md.son") as trajectory:
        assert len(trajectory) == made["frames"] == 640
        assert trajectory.sealed
        assert trajectory.verify(deep=True).ok
        positions, velocities = terabyte.atoms()
        assert np.array_equal(trajectory["positions"][300], positions)
        assert np.array_equal(trajectory["velocities"][639], velocities)
        raw = sum(trajectory.opened.table.totals.raw)
        assert raw == made["logical_bytes"] >= 2e7
        assert trajectory.checkpoint_steps == [255, 511]
        assert trajectory.checkpoint()["step"] == 511
        assert np.array_equal(trajectory.checkpoint()["positions"], positions)
    good = terabyte.stream(tmp_path / "md.son", made["heat_flux_crc32c"])
    assert good["as_written"]
    assert not terabyte.stream(tmp_path / "md.son", 0)["as_written"]


@pytest.mark.slow
def test_terabyte_runs(tmp_path: Path) -> None:
    figure = tmp_path / "figure.svg"
    options = ("--sizes", "6e8", "1e9", "--folder", str(tmp_path), "--figure", str(figure))
    found = result_of("terabyte.py", tmp_path, *options)
    missed = [row["what"] for row in found["targets"] if not row["met"]]
    # times are those of a machine at work
    assert [what for what in missed if "MiB" in what] == []
    assert len(found["sizes"]) == 2
    for size in found["sizes"]:
        assert size["sealed"]["heat_flux"]["as_written"]
        assert size["killed"]["open"]["reads"] <= 4
    assert figure.read_text().startswith("<?xml")


@pytest.mark.slow
@pytest.mark.peer
def test_peers_run(tmp_path: Path) -> None:
    figure, frames = tmp_path / "figure.svg", tmp_path / "frames"
    options = ("--quick", "--frames", str(frames), "--figure", str(figure))
    found = result_of("peers.py", tmp_path, *options)
    tables = [each["formats"] for each in found["datasets"].values()]
    failed = {
        f"{name}: {row['failed']}"
        for table in tables
        for name, row in table.items()
        if "failed" in row and "ModuleNotFoundError" not in row["failed"]
    }
    assert not failed
    for table in tables:
        assert table["stepson lossless"]["error"] == 0
        assert table["stepson 1e-4 Å"]["error"] <= 1e-4
    for name, row in found["cut"].items():
        if name.startswith("stepson"):
            assert {kind: row[kind]["readable"] for kind in row} == {
                "cut": 512,
                "killed": 512,
                "killed, cut": 384,
            }
            assert not any("wrong" in each for each in row.values())
    assert figure.read_text().startswith("<?xml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("open_time.py", ()),
        ("startup.py", ()),
        ("step_time.py", ("--atoms", "96", "--seconds", "0.2")),
        ("run_file.py", ("--frames", "256")),
    ],
)
def test_script_runs(script: str, options: tuple[str, ...]) -> None:
    if script == "run_file.py":
        pytest.importorskip("mdtraj", reason="XTC, of the extra `bench`")
    command = [sys.executable, str(FOLDER / script), *options]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)
