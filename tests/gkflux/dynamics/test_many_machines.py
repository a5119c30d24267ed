"""Replicas spread over worker processes: the same bytes, whoever dies."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from gkflux.dynamics import cluster
from gkflux.dynamics.config import RunConfig, parse
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.progress import Progress, RunSummary
from gkflux.dynamics.recovery import Held, sort_into_groups
from gkflux.dynamics.remote import introduce
from gkflux.dynamics.run import run_stages
from gkflux.dynamics.setup import Ingredients
from gkflux.dynamics.state import Floats
from gkflux.dynamics.workers import team
from gkflux.errors import FluxError
from gkflux.potentials.base import Evaluation
from tests.gkflux.dask_processes import Dask, until
from tests.gkflux.dynamics.harmonic import HarmonicBatch, oscillators
from tests.gkflux.dynamics.runs import (
    TWO_STAGES,
    Counting,
    assert_same_files,
    perform,
    stopped_after,
)

ROOT = Path(__file__).resolve().parents[3]
LONG = (
    TWO_STAGES.replace("= 600", "= 8_000")
    .replace("replicas = 3", "replicas = 4")
    .replace("1e-9\ncommit_steps = 50", "0.02")
)


def springs(config: RunConfig, device: str) -> Ingredients:
    """What workers prepare: the oscillators of `perform`."""
    return Ingredients(oscillators(), Counting(), "oscillators", None, device)


class Failing(Counting):
    """Of two replicas in a batch, the second one fails."""

    def batch(self, systems: Any, *, skin: float | None = None) -> HarmonicBatch:
        plain = super().batch(systems)
        return FailingBatch(plain.springs, plain.sites, self.quartic)


class FailingBatch(HarmonicBatch):
    calls = 0

    def forces(self, positions: Floats, cells: Floats | None = None) -> Evaluation:
        self.calls += 1
        found = super().forces(positions, cells)
        if self.calls > 300 and len(positions) == 2:
            found.forces[1, 3] = np.nan
        return found


def failing(config: RunConfig, device: str) -> Ingredients:
    return Ingredients(oscillators(), Failing(), "oscillators", None, device)


def spread(
    folder: Path,
    text: str = TWO_STAGES,
    *,
    listener: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    recipe: Callable[[RunConfig, str], Ingredients] = springs,
    **where: Any,
) -> RunSummary:
    """Run a configuration with oscillators in `folder`, by workers."""
    config = parse(text, folder / "run.toml")
    context = RunContext(config, folder, recipe(config, "cpu"), listener)
    with team(context, device="cpu", recipe=recipe, **where) as others:
        assert others is not None
        return run_stages(context, stop or threading.Event(), others)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A cluster of two workers."""
    found = Dask(tmp_path_factory.mktemp("dask"))
    try:
        found.workers(2)
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert perform(folder, LONG).finished
    return folder


def saved(folder: Path, replicas: Sequence[int] = range(4)) -> list[int]:
    """The last step of replicas of the second stage that is on the disk."""
    steps = []
    for k in replicas:
        path = folder / "cold" / f"{k:02d}" / "md.son"
        with stepson.open(path) as trajectory:
            steps.append(max(trajectory.checkpoint_steps, default=-1))
    return steps


@contextmanager
def killing(folder: Path) -> Iterator[list[int]]:
    """Meanwhile, kill who writes the last replica, in the middle; yield the process."""
    file, killed = folder / "cold" / "03" / "md.son", list[int]()

    def kill() -> None:
        until(file.exists)
        until(lambda: saved(folder, [3])[0] > 0)
        owner = json.loads((file.parent / "md.son.lock").read_text())
        os.kill(owner["pid"], signal.SIGKILL)
        killed.append(owner["pid"])

    killer = threading.Thread(target=kill)
    killer.start()
    yield killed
    killer.join()


def test_workers_leave_the_files_that_one_process_does(
    dask: Dask, unbroken: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    summary = spread(tmp_path, LONG, scheduler=dask.address, listener=told.append)
    assert summary.finished
    assert summary.steps_computed == 301 + 2 * 8_000
    assert_same_files(unbroken, tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"md.son"}
    last = told[-1]
    assert (last.phase, last.step, last.committed) == ("finished", 8_000, 8_000)
    assert last.numbers == (0, 1, 2, 3)
    assert np.isfinite(last.temperature).all()
    assert any("replicas 0 to 1 on tcp" in line for line in summary.messages)
    with (
        stepson.open(tmp_path / "cold" / "00" / "md.son") as one,
        stepson.open(tmp_path / "cold" / "03" / "md.son") as other,
    ):
        assert one.metadata["replica"] == 0
        assert other.metadata["replica"] == 3
        assert one.metadata["start"]["step"] < other.metadata["start"]["step"]
    assert spread(tmp_path, LONG, scheduler=str(dask.file)).already_finished


def test_a_worker_that_is_killed_costs_nothing(
    dask: Dask, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three; what it had goes on with the other two."""
    monkeypatch.setattr(cluster, "CENSUS", 0.1)
    dask.workers()
    with killing(tmp_path) as killed:
        summary = spread(tmp_path, LONG, scheduler=dask.address)
    assert summary.finished
    assert killed[0] in [child.pid for child in dask.children]
    assert sum(line.count(" on tcp") for line in summary.messages) == 1 + 3 + 2
    assert_same_files(unbroken, tmp_path)


@pytest.mark.slow
def test_workers_of_this_machine_one_killed(unbroken: Path, tmp_path: Path) -> None:
    """Its replicas go on with the other one, from their last checkpoint."""
    with killing(tmp_path) as killed:
        summary = spread(tmp_path, LONG, workers=2)
    assert killed[0] != os.getpid()
    assert summary.finished
    assert any("is lost; replicas 2 to 3 go on" in line for line in summary.messages)
    assert_same_files(unbroken, tmp_path)


@pytest.mark.slow
def test_a_stop_saves_everywhere_and_any_number_of_workers_goes_on(
    dask: Dask, tmp_path: Path
) -> None:
    """Stopped, then two batches at different steps, then one process for the rest."""
    text = LONG.replace("8_000", "60_000")
    whole, tmp_path = tmp_path / "whole", tmp_path / "run"
    perform(whole, text)
    for part in (0.2, 0.5):
        stop = threading.Event()

        def far(progress: Progress, part: float = part, stop: Any = stop) -> None:
            if progress.stage == "cold" and max(progress.reached) > part * 60_000:
                stop.set()

        summary = spread(tmp_path, text, scheduler=dask.address, listener=far, stop=stop)
        assert summary.interrupted
        assert summary.step == min(saved(tmp_path))
        assert not list(tmp_path.rglob("*.lock"))
    steps = saved(tmp_path)
    summary = perform(tmp_path, text)
    assert summary.finished
    if len(set(steps)) > 1:
        assert any("catches up alone" in line for line in summary.messages)
    assert_same_files(whole, tmp_path)


@pytest.mark.slow
def test_one_process_then_workers(dask: Dask, unbroken: Path, tmp_path: Path) -> None:
    stopped_after(tmp_path, 301 + 1 + 700, LONG)
    summary = spread(tmp_path, LONG, scheduler=dask.address)
    assert summary.finished
    assert summary.resumed_from == {"cold": 699}
    assert_same_files(unbroken, tmp_path)


def test_a_guard_names_the_replica_and_the_worker(dask: Dask, tmp_path: Path) -> None:
    text = LONG.replace("replicas = 4", "replicas = 3")
    with pytest.raises(FluxError, match=r"replica 2, atom 3: not finite.*\(on tcp://"):
        spread(tmp_path, text, recipe=failing, scheduler=dask.address)
    with stepson.open(tmp_path / "cold" / "02" / "md.son") as trajectory:
        assert np.isfinite(trajectory["energy"][:]).all()
    assert not list(tmp_path.rglob("*.lock"))


def test_no_worker_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WAIT", 0.2)
    empty = Dask(tmp_path)
    try:
        with pytest.raises(FluxError, match=r"there is no worker .* `dask worker tcp://"):
            spread(tmp_path / "run", scheduler=empty.address)
    finally:
        empty.end()


@pytest.mark.slow
def test_a_worker_of_another_version_is_not_used(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text(
        "import stepson\nstepson.__version__ = '0.0.1'\n"
    )
    found = Dask(tmp_path)
    try:
        found.workers(PYTHONPATH=os.pathsep.join([str(other), str(ROOT)]))
        with pytest.raises(FluxError, match=r"tcp://.*it has stepson 0\.0\.1, and this is"):
            spread(tmp_path / "run", scheduler=found.address)
    finally:
        found.end()


def test_a_worker_without_the_folder_says_so(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    fault = introduce(probe, "word").fault
    assert fault is not None
    assert f"does not see {tmp_path}" in fault
    probe.write_text("word")
    assert introduce(probe, "word").fault is None
    assert list(tmp_path.iterdir()) == [probe]


def held(*checkpoints: int, end: int = 0) -> Held:
    return Held(None, 0, end, {step: {} for step in checkpoints})  # type: ignore[arg-type]


def test_no_probe_is_left_on_a_full_disk(
    dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        spread(tmp_path / "run", scheduler=dask.address)
    assert list((tmp_path / "run").iterdir()) == []


def test_files_that_share_a_checkpoint_are_one_group() -> None:
    one, ahead = held(40, 50), held(50, 60)
    assert sort_into_groups([ahead, one, one]) == [[0, 1, 2]]
    assert sort_into_groups([one, held(70, 80), ahead, None]) == [[3], [0, 2], [1]]
    assert sort_into_groups([held(end=30), None]) == [[0, 1]]
    # each shares one with its neighbour, and all of them none
    assert sort_into_groups([held(20, 30), held(30, 40), held(40, 50)]) == [[0, 1], [2]]
    # the last shares one with the first, but not the one that the first two share
    assert sort_into_groups([held(20, 30), held(30, 40), held(20, 50)]) == [[0, 1], [2]]


def stepson_run(config: Path, folder: Path, *words: str) -> "subprocess.Popen[str]":
    call = [sys.executable, "-m", "stepson_cli", "run", str(config), "-o", str(folder)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    return subprocess.Popen(
        [*call, *words],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def owners(folder: Path) -> set[int]:
    """The processes that write the last stage."""
    locks = [lock.read_text() for lock in folder.glob("production/*/md.son.lock")]
    return {int(json.loads(text)["pid"]) for text in locks if text}


def alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.mark.slow
def test_the_command_with_workers_interrupted_and_killed(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group of the terminal; SIGKILL the command only."""
    text = (ROOT / "examples" / "argon-40K.toml").read_text()
    text = text.replace("50_000", "20_000").replace("10_000", "400")
    text = text.replace("[3, 3, 3]", "[2, 2, 2]")
    (tmp_path / "argon.xyz").write_text((ROOT / "examples" / "argon.xyz").read_text())
    config, whole, folder = tmp_path / "run.toml", tmp_path / "whole", tmp_path / "run"
    config.write_text(text + "commit_seconds = 0.2\n")
    plain = stepson_run(config, whole)
    _, said = plain.communicate()
    assert plain.returncode == 0, said

    def begun(process: "subprocess.Popen[str]", before: set[int]) -> set[int]:
        until(lambda: process.poll() is not None or len(owners(folder) - before) == 2, 300)
        assert process.poll() is None, process.communicate()
        return owners(folder) - before

    first = stepson_run(config, folder, "--workers", "2")
    workers = begun(first, set())
    os.killpg(first.pid, signal.SIGINT)
    out, said = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert "Traceback" not in said
    assert f"stepson run {config}" in " ".join(out.split())
    assert "--workers 2" in " ".join(out.split())
    assert not any(map(alive, workers))
    assert not owners(folder)

    second = stepson_run(config, folder, "--workers", "2")
    orphans = begun(second, set())
    second.kill()
    second.communicate()
    until(lambda: not any(map(alive, orphans)), 120)

    third = stepson_run(config, folder, "--workers", "3")
    _, said = third.communicate()
    assert third.returncode == 0, said
    assert_same_files(whole, folder)
