"""Frames go to the disk beside the steps: in time, holding nothing up, until it is full."""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from gkflux.dynamics import loop
from gkflux.dynamics.epochs import EpochThread
from gkflux.dynamics.recording import Recorder
from stepson.errors import WriterError
from tests.gkflux.dynamics.runs import (
    TWO_STAGES,
    Counting,
    assert_same_files,
    perform,
)

ROOT = Path(__file__).resolve().parents[3]
SLOW = TWO_STAGES.replace("commit_seconds = 1e-9\ncommit_steps = 50", "")
"""Commits by the clock alone, at the default interval."""


class Clock:
    """A second passes at every force call."""

    def __init__(self) -> None:
        self.now = 0.0

    def tick(self) -> None:
        self.now += 1.0

    def monotonic(self) -> float:
        return self.now


def checkpoints(path: Path) -> list[int]:
    """Every step of which a file holds the state."""
    with stepson.open(path) as trajectory:
        found = []
        for step in range(int(trajectory.steps[-1]) + 1):
            try:
                trajectory.checkpoint(step)
            except stepson.StepsonError:
                continue
            found.append(step)
    return found


def test_half_a_minute_is_the_most_that_a_crash_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, submit = Clock(), EpochThread.submit

    def quick_disk(thread: Any, step: int, *rest: Any) -> None:
        submit(thread, step, *rest)
        while thread.committed < step:  # the clock of the test does not run for the disk
            time.sleep(0.001)

    monkeypatch.setattr(EpochThread, "submit", quick_disk)
    monkeypatch.setattr(loop, "time", clock)
    perform(tmp_path, SLOW, potential=Counting(clock.tick))
    for k in range(3):
        steps = checkpoints(tmp_path / "cold" / f"{k:02d}" / "md.son")
        assert (steps[0], steps[-1]) == (0, 600)
        assert max(np.diff(steps)) <= 30
        assert min(np.diff(steps)[:-1]) >= 29


def test_a_disk_that_hangs_does_not_hold_up_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second commit of the last stage hangs until 300 more steps are done."""
    hang, go_on = threading.Event(), threading.Event()
    real, calls = os.fdatasync, 0

    def stuck(descriptor: Any) -> None:
        if hang.is_set() and threading.current_thread().name == "epochs":
            assert go_on.wait(timeout=30), "the steps have waited for the disk"
        real(descriptor)

    def each() -> None:
        nonlocal calls
        calls += 1
        if calls == 302 + 100:
            hang.set()
        elif calls == 302 + 400:
            go_on.set()

    monkeypatch.setattr(os, "fdatasync", stuck)
    text = TWO_STAGES.replace("commit_steps = 50", "")
    assert perform(tmp_path, text, potential=Counting(each)).finished
    assert go_on.is_set()
    monkeypatch.undo()
    perform(tmp_path / "plain")
    assert_same_files(tmp_path / "plain" / "cold", tmp_path / "cold")


def test_what_waits_for_a_slow_disk_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs at most: one that is collected, one handed over, one being written."""
    monkeypatch.setattr(loop, "WAITING", 20_000)
    sizes = []
    real = EpochThread.submit

    def submit(thread: Any, step: int, epoch: Any, *rest: Any) -> None:
        sizes.append(sum(v.nbytes for c in epoch.cadences for v in c.values.values()))
        assert thread._jobs.qsize() <= 1
        real(thread, step, epoch, *rest)

    monkeypatch.setattr(EpochThread, "submit", submit)
    assert perform(tmp_path, SLOW).finished
    assert 20_000 <= max(sizes) < 22_000


def test_after_a_failure_no_file_gets_another_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second file cannot be written while the next epoch is handed over already."""
    fields = [stepson.Field("energy", "float64", (), "eV")]
    writers = [
        stepson.create(
            tmp_path / f"{k}.son",
            fields=fields,
            numbers=[18],
            commit="manual",
            threaded=False,
        )
        for k in range(2)
    ]
    handed_over = threading.Event()

    def full(**options: Any) -> None:
        assert handed_over.wait(timeout=30)
        raise WriterError("no space")

    monkeypatch.setattr(writers[1], "commit", full)
    thread = EpochThread(writers, 0)
    recorder = Recorder(tuple(fields), 2, 1)
    for step in (1, 2):
        recorder.put(step, {"energy": np.zeros(2)})
        thread.submit(step, recorder.take(), None)
    handed_over.set()
    with pytest.raises(WriterError, match="no space"):
        thread.close()
    assert [thread.committed, writers[0].last_step] == [0, 1]
    for writer in writers:
        writer.abandon()


def command(
    config: Path, folder: Path, **options: Any
) -> "subprocess.CompletedProcess[str]":
    call = [
        sys.executable,
        "-m",
        "stepson_cli",
        "run",
        "-q",
        str(config),
        "-o",
        str(folder),
    ]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    env = os.environ | {"PYTHONPATH": paths, "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(call, env=env, capture_output=True, text=True, **options)


def configured(folder: Path) -> Path:
    """Argon, a stage of about two megabytes a replica."""
    text = (ROOT / "examples" / "argon-40K.toml").read_text()
    text = (
        text.replace("50_000", "1_200")
        .replace("10_000", "200")
        .replace("[3, 3, 3]", "[2, 2, 2]")
    )
    text = text.replace("every = 20, precision.positions = 1e-4", "every = 1")
    text = text.replace("replicas = 4", "replicas = 2")
    shutil.copy(ROOT / "examples" / "argon.xyz", folder)
    (folder / "run.toml").write_text(text + "commit_seconds = 0.05\n")
    return folder / "run.toml"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of 600 kB in a folder, where this user may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(folder)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("this user cannot mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def assert_stopped_cleanly(
    done: "subprocess.CompletedProcess[str]", folder: Path, reason: str
) -> None:
    """One line that says why, and every file valid."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    for path in folder.glob("**/md.son"):
        with stepson.open(path) as trajectory:
            assert trajectory.verify().ok
    assert not list(folder.rglob("*.lock"))


@pytest.mark.slow
def test_a_full_disk_stops_the_command_which_goes_on_when_there_is_space(
    tmp_path: Path,
) -> None:
    config, whole, disk = configured(tmp_path), tmp_path / "whole", tmp_path / "disk"
    assert command(config, whole).returncode == 0
    with small_disk(disk):
        done = command(config, disk / "run")
        assert_stopped_cleanly(done, disk, "No space left on device")
        again = command(config, disk / "run")
        assert_stopped_cleanly(again, disk, "No space left on device")
        grown = ["mount", "-o", "remount,size=60m", str(disk)]
        subprocess.run(grown, check=True)
        assert command(config, disk / "run").returncode == 0
        assert_same_files(whole, disk / "run")


@pytest.mark.slow
def test_a_limit_on_file_size_stops_the_command_in_the_same_way(tmp_path: Path) -> None:
    config, whole, folder = configured(tmp_path), tmp_path / "whole", tmp_path / "limited"
    assert command(config, whole).returncode == 0
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    done = command(config, folder, preexec_fn=limit)
    assert_stopped_cleanly(done, folder, "File too large")
    assert command(config, folder).returncode == 0
    assert_same_files(whole, folder)
