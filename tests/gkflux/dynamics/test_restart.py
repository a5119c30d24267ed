"""A run that was stopped or killed ends, at last, with the bytes of one that was not."""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from gkflux.dynamics.guards import UnstableError
from gkflux.dynamics.provenance import ChangedRunError
from gkflux.dynamics.replicas import start_steps
from gkflux.errors import FluxError
from gkflux.system import System
from stepson.errors import WriterError
from stepson.scan import read_commit
from tests.gkflux.dynamics.harmonic import oscillators
from tests.gkflux.dynamics.runs import (
    TWO_STAGES,
    Counting,
    assert_same_files,
    contents,
    killed_in,
    killed_in_a_write,
    perform,
    slow_run,
    stopped_after,
)

STEADY = TWO_STAGES.replace("commit_seconds = 1e-9", "commit_seconds = 1000")
"""Commits at the same steps every time: only those of ``commit_steps``."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    summary = perform(folder)
    assert summary.finished
    assert not summary.already_finished
    assert summary.steps_computed == 901
    return folder


def test_what_a_run_leaves(unbroken: Path) -> None:
    with stepson.open(unbroken / "cold" / "01" / "md.son") as trajectory:
        assert trajectory.sealed
        assert list(trajectory["heat_flux"].steps[:]) == list(range(0, 601, 2))
        assert list(trajectory["positions"].steps[:]) == list(range(0, 601, 5))
        assert trajectory["energy"].steps[-1] == 600
        about = trajectory.metadata
        assert about["degrees_of_freedom"] == 9
        assert about["replica"] == 1
        assert about["start"]["step"] == 261
        assert about["start"]["file"] == "warm/md.son"
        assert about["config"] == TWO_STAGES
        assert about["timestep"] == 2.0
        with stepson.open(unbroken / "warm" / "md.son") as before:
            assert about["start"]["uuid"] == before.uuid
            start = before.checkpoint(261)
        kinetic, energy = trajectory["energy_kinetic"][:], trajectory["energy"][:]
        assert np.ptp(kinetic + energy) < 0.02 * np.ptp(kinetic)
        np.testing.assert_allclose(
            trajectory["positions"][0], start["positions"], atol=1e-6
        )
        momentum = trajectory["velocities"][0].sum(axis=0, dtype=np.float64)
        np.testing.assert_allclose(momentum, 0, atol=1e-8)


def test_a_finished_run_says_so(unbroken: Path) -> None:
    summary = perform(unbroken)
    assert summary.already_finished
    assert summary.finished
    assert summary.steps_computed == 0
    assert str(summary).startswith("finished before")


def test_stopping_at_any_step_changes_nothing(unbroken: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    stops = 0
    while True:
        summary = stopped_after(tmp_path, rng.randint(1, 150))
        if summary.finished:
            break
        assert summary.interrupted
        stops += 1
    assert stops > 5
    assert_same_files(unbroken, tmp_path)


@pytest.fixture(scope="module")
def forks() -> multiprocessing.context.ForkServerContext:
    """Children of a server that has imported everything: each starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.gkflux.dynamics.runs", "numba", "blosc2", "vesin"]
    )
    return context


def killed_again_and_again(
    folder: Path,
    forks: multiprocessing.context.ForkServerContext,
    child_of: Callable[..., None],
    moment: Callable[[int], tuple[object, ...]],
) -> None:
    """Kill a run at its k-th moment, go on until the next, and so on to the end."""
    text = STEADY.replace("= 301", "= 121").replace("= 600", "= 150")
    text = text.replace("replicas = 3", "replicas = 2")
    whole, broken = folder / "whole", folder / "broken"
    perform(whole, text)
    kills, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        child = forks.Process(target=child_of, args=(str(broken), text, *moment(kills)))
        child.start()
        child.join()
        assert child.exitcode is not None
        kills, code = kills + 1, child.exitcode
    assert code == 0
    assert kills > 12
    assert_same_files(whole, broken)


def test_killed_at_every_sync(
    tmp_path: Path, forks: multiprocessing.context.ForkServerContext
) -> None:
    """Between the files of a batch, before the first checkpoint, in an epoch, at the seal.

    And at the change of stages; by turns just before a sync and just after it.
    """
    killed_again_and_again(tmp_path, forks, killed_in, lambda k: (1 + k // 2, k % 2 == 0))


def test_killed_in_the_middle_of_writes(
    tmp_path: Path, forks: multiprocessing.context.ForkServerContext
) -> None:
    """Half of a block, of a checkpoint, of a commit, of the first bytes, of the seal."""
    killed_again_and_again(tmp_path, forks, killed_in_a_write, lambda k: (1 + k,))


def test_killed_at_twenty_random_moments(
    tmp_path: Path, forks: multiprocessing.context.ForkServerContext
) -> None:
    text = TWO_STAGES.replace("steps = 301", "steps = 2001").replace("= 600", "= 4000")
    text = text.replace("1e-9\ncommit_steps = 50", "0.01")
    began = time.monotonic()
    perform(tmp_path / "whole", text)
    span = time.monotonic() - began
    rng = random.Random(7)
    kills, round_ = 0, 0
    while kills < 20:
        folder = tmp_path / str(round_)
        child = forks.Process(target=slow_run, args=(str(folder), text))
        child.start()
        child.join(timeout=rng.uniform(0, span / 3))
        if child.exitcode is None:
            child.kill()
            child.join()
        if child.exitcode == -signal.SIGKILL:
            kills += 1
            continue
        assert child.exitcode == 0
        assert_same_files(tmp_path / "whole", folder)
        round_ += 1
    perform(folder, text)
    assert_same_files(tmp_path / "whole", folder)


def test_files_one_epoch_apart_meet_again(unbroken: Path, tmp_path: Path) -> None:
    """Take the last epoch from one file: the others wait, nothing is written twice."""
    stopped_after(tmp_path, 301 + 1 + 250, STEADY)
    torn = tmp_path / "cold" / "02" / "md.son"
    with stepson.open(torn) as trajectory:
        steps = trajectory.checkpoint_steps
        first = trajectory.opened.tail.commit.previous
    with torn.open("r+b") as bytes_of_file:
        bytes_of_file.truncate(first + 256)
    sizes = {f: f.stat().st_size for f in tmp_path.glob("cold/0[01]/md.son")}
    summary = stopped_after(tmp_path, 20, STEADY)
    assert summary.resumed_from["cold"] == steps[0]
    for file, size in sizes.items():
        with stepson.open(file) as trajectory:
            assert trajectory.checkpoint_steps[-1] == steps[1]
            assert file.stat().st_size - size < 8192
    perform(tmp_path)
    assert_same_files(unbroken, tmp_path)


def test_only_the_loop_commits_after_a_restart_too(tmp_path: Path) -> None:
    """One epoch of more frames than a block holds is one commit, not one a block."""
    text = STEADY.replace("commit_steps = 50", "").replace("every = 5", "every = 1")
    stopped_after(tmp_path, 301 + 1 + 100, text)
    file = tmp_path / "cold" / "01" / "md.son"
    with stepson.open(file) as trajectory:
        before = trajectory.opened.tail.commit.commits
    assert perform(tmp_path, text).finished
    with stepson.open(file) as trajectory:
        assert len(trajectory["positions"]) == 601
        opened, epoch, sealed = 1, 1, 1
        assert trajectory.opened.tail.commit.commits - before == opened + epoch + sealed


def test_a_missing_file_is_computed_again(unbroken: Path, tmp_path: Path) -> None:
    stopped_after(tmp_path, 301 + 1 + 250)
    (tmp_path / "cold" / "01" / "md.son").unlink()
    perform(tmp_path)
    assert_same_files(unbroken, tmp_path)


def test_more_steps_in_the_last_stage(unbroken: Path, tmp_path: Path) -> None:
    perform(tmp_path, TWO_STAGES.replace("steps = 600", "steps = 200"))
    summary = perform(tmp_path)
    assert summary.resumed_from == {"cold": 200}
    assert_same_files(unbroken, tmp_path)


def alone(text: str) -> str:
    """The first stage without the second, with checkpoints at 0, 169 and 301 alone."""
    first, rest = text.split('[[stage]]\nname = "cold"')
    return (first + "[output]" + rest.split("[output]")[1]).replace("= 50", "= 170")


def test_an_appended_stage_computes_its_start_again(unbroken: Path, tmp_path: Path) -> None:
    """The first stage ran alone, so it has no checkpoints where replicas start."""
    perform(tmp_path, alone(STEADY))
    summary = perform(tmp_path)
    said = "computed again from step 169 of the stage before"
    assert sum(said in line for line in summary.messages) == 2
    assert_same_files(unbroken, tmp_path)


def test_other_bits_are_said_and_each_file_stays_continuous(tmp_path: Path) -> None:
    stopped_after(tmp_path, 301 + 1 + 250)
    behind = tmp_path / "cold" / "02" / "md.son"
    with stepson.open(behind) as trajectory:
        first = trajectory.opened.tail.commit.previous
    with behind.open("r+b") as bytes_of_file:
        bytes_of_file.truncate(first + 256)
    other = Counting()
    other.springs = other.springs * (1 + 1e-12)
    summary = perform(tmp_path, potential=other)
    assert any("other bits" in line for line in summary.messages)
    assert any("recomputed frames differ" in line for line in summary.messages)
    for k in range(3):
        with stepson.open(tmp_path / "cold" / f"{k:02d}" / "md.son") as trajectory:
            assert list(trajectory["heat_flux"].steps[:]) == list(range(0, 601, 2))
            jumps = np.abs(np.diff(trajectory["positions"][:], axis=0)).max()
            assert jumps < 0.5


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("seed = 42", "seed = 43", "system.seed"),
        ("friction = 0.02", "friction = 0.03", "stage.friction"),
        ("temperature = 300", "temperature = 310", "system.temperature"),
        ("steps = 301", "steps = 401", "stage.steps"),
        ("steps = 600", "steps = 500", "stage.steps"),
        ("{ every = 2 }", "{ every = 4 }", "stage.heat_flux.every"),
        ("every = 5", "every = 10", "stage.record.every"),
    ],
)
def test_another_configuration_is_refused(
    unbroken: Path, old: str, new: str, key: str
) -> None:
    before = {f: f.read_bytes() for f in unbroken.glob("**/md.son")}
    with pytest.raises(ChangedRunError) as caught:
        perform(unbroken, TWO_STAGES.replace(old, new))
    lines = str(caught.value).splitlines()
    assert "choose another output folder" in lines[0]
    assert any(line.split()[0] == key for line in lines[2:])
    assert before == {f: f.read_bytes() for f in unbroken.glob("**/md.son")}


def test_another_model_structure_or_number_of_replicas_is_refused(unbroken: Path) -> None:
    with pytest.raises(ChangedRunError, match=r"potential\.sha256"):
        perform(unbroken, potential=Counting(sha256="1"))
    moved = oscillators().moved(oscillators().positions + 0.01)
    with pytest.raises(ChangedRunError, match=r"system\.positions"):
        perform(unbroken, system=moved)
    fewer = TWO_STAGES.replace("replicas = 3", "replicas = 2")
    with pytest.raises(FluxError, match="replicas = 2"):
        perform(unbroken, fewer)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    stopped_after(tmp_path, 301 + 1 + 100)
    with stepson.open(tmp_path / "cold" / "01" / "md.son", "a") as held:
        with pytest.raises(WriterError):
            perform(tmp_path)
        held.abandon()
    assert perform(tmp_path).finished


def test_an_unsealed_finished_run_is_sealed(unbroken: Path, tmp_path: Path) -> None:
    perform(tmp_path)
    file = tmp_path / "warm" / "md.son"
    stepson.open(file, "a").abandon()
    with stepson.open(file) as trajectory:
        assert not trajectory.sealed
    assert perform(tmp_path).already_finished
    with stepson.open(file) as trajectory:
        assert trajectory.sealed
    assert contents(file) == contents(unbroken / "warm" / "md.son")


def test_a_longer_stage_stays_as_long_as_it_is(unbroken: Path, tmp_path: Path) -> None:
    """Fewer steps than are there are refused, and a stage may follow what was extended."""
    short = TWO_STAGES.replace("steps = 600", "steps = 200")
    perform(tmp_path, short)
    assert perform(tmp_path).finished
    before = {f: f.read_bytes() for f in tmp_path.glob("**/md.son")}
    with pytest.raises(ChangedRunError) as caught:
        perform(tmp_path, short)
    assert caught.value.differences == [("stage.steps", "600 so far", "200")]
    assert before == {f: f.read_bytes() for f in tmp_path.glob("**/md.son")}
    third = '[[stage]]\nname = "third"\ntimestep = 2.0\nsteps = 20\nreplicas = 3\n[output]'
    text = TWO_STAGES.replace("[output]", third)
    assert perform(tmp_path, text).finished
    assert perform(tmp_path, text).already_finished
    longer = text.replace("steps = 600", "steps = 700")
    with pytest.raises(ChangedRunError, match=r"stage\.steps"):
        perform(tmp_path, longer)
    for name in ("cold/00", "cold/01", "cold/02"):
        shutil.move(tmp_path / name, tmp_path / f"{name[-1]}.away")
    with pytest.raises(ChangedRunError, match=r"start\.step"):
        perform(tmp_path, longer)


def test_stages_before_are_checked_though_their_files_are_gone(tmp_path: Path) -> None:
    stopped_after(tmp_path, 301 + 1 + 100)
    (tmp_path / "warm" / "md.son").unlink()
    with pytest.raises(ChangedRunError, match=r"warm\.friction") as caught:
        perform(tmp_path, TWO_STAGES.replace("0.02", "0.03"))
    assert caught.value.differences == [("warm.friction", "0.02", "0.03")]
    assert not list(tmp_path.glob("warm/*"))


def test_another_name_of_a_stage_is_refused(tmp_path: Path) -> None:
    """But what was put aside, is of a stage left out or of another run is left alone."""
    stopped_after(tmp_path, 301 + 1 + 100)
    with pytest.raises(ChangedRunError, match=r"stage\.name  cold +frozen"):
        perform(tmp_path, TWO_STAGES.replace('"cold"', '"frozen"'))
    shutil.copytree(tmp_path / "cold", tmp_path / "cold.bak")
    other = TWO_STAGES.replace('"cold"', '"ice"').replace('"warm"', '"water"')
    assert stopped_after(tmp_path, 400, other.replace("42", "43")).stage == "ice"
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "md.son").write_text("not ours")
    assert perform(tmp_path).finished
    assert perform(tmp_path, alone(TWO_STAGES)).already_finished


def test_everything_is_checked_before_anything_is_computed(tmp_path: Path) -> None:
    stopped_after(tmp_path, 301 + 1 + 100)
    middle = (
        '[[stage]]\nname = "middle"\ntimestep = 2.0\nsteps = 99\n[[stage]]\nname = "cold"'
    )
    with pytest.raises(ChangedRunError, match=r"stage\.index"):
        perform(tmp_path, TWO_STAGES.replace('[[stage]]\nname = "cold"', middle))
    assert not (tmp_path / "middle").exists()


def test_a_file_that_cannot_be_read_may_be_moved_away(
    unbroken: Path, tmp_path: Path
) -> None:
    stopped_after(tmp_path, 301 + 1 + 250)
    file = tmp_path / "cold" / "01" / "md.son"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FluxError, match="move that file away"):
        perform(tmp_path)
    file.unlink()
    summary = perform(tmp_path)
    assert any("1 of 3 files are missing" in line for line in summary.messages)
    assert_same_files(unbroken, tmp_path)


def test_a_file_that_is_far_behind_catches_up_alone(unbroken: Path, tmp_path: Path) -> None:
    """Many epochs are cut off one file: it is said, and what is caught up is kept."""
    stopped_after(tmp_path, 301 + 1 + 380, STEADY)
    file = tmp_path / "cold" / "02" / "md.son"
    with stepson.open(file) as trajectory:
        commit = trajectory.opened.tail.commit
        for _ in range(5):
            commit = read_commit(trajectory.source, commit.previous, commit.uuid)
        end = commit.offset + 256
    with file.open("r+b") as bytes_of_file:
        bytes_of_file.truncate(end)
    summary = stopped_after(tmp_path, 30, STEADY)
    assert summary.interrupted
    begun = summary.resumed_from["cold"]
    assert begun < 300
    assert summary.step == begun + 29
    (line,) = summary.messages
    assert line.startswith(f"{file} holds no state after step {begun}: it catches up")
    assert perform(tmp_path).resumed_from["cold"] == begun + 29
    assert_same_files(unbroken, tmp_path)


def test_a_folder_that_is_moved_during_the_run(unbroken: Path, tmp_path: Path) -> None:
    """In the middle of either stage: the files go on, and then it is said."""
    for calls in (100, 301 + 1 + 100):
        here, there = tmp_path / f"{calls}", tmp_path / f"{calls}.moved"
        moved = partial(here.rename, there)
        with pytest.raises(FluxError, match="moved or deleted"):
            perform(here, potential=Counting(nth(calls, moved)))
        assert not here.exists()
        perform(there)
        assert_same_files(unbroken, there)


def test_another_run_that_is_a_moment_faster(tmp_path: Path) -> None:
    """Both find an empty folder; the second comes between the first's look and create."""
    at_once, potential = threading.Event(), Counting()
    at_once.set()
    make = potential.batch

    def overtaken(*args: Any, **options: Any) -> Any:
        perform(tmp_path, stop=at_once)
        return make(*args, **options)

    potential.batch = overtaken  # type: ignore[method-assign]
    with pytest.raises(WriterError, match="just been created by another run"):
        perform(tmp_path, potential=potential)
    assert perform(tmp_path).finished


def nth(calls: int, action: Callable[[], Any]) -> Callable[[], None]:
    """Return what does something at the n-th call."""
    count = 0

    def each() -> None:
        nonlocal count
        count += 1
        if count == calls:
            action()

    return each


def test_a_kill_between_seal_and_farewell_leaves_no_owner(tmp_path: Path) -> None:
    perform(tmp_path)
    left = tmp_path / "cold" / "00" / "md.son.lock"
    left.write_text("{}")
    assert perform(tmp_path).already_finished
    assert not left.exists()


def test_a_failed_integration_keeps_the_good_frames(tmp_path: Path) -> None:
    calls = 0

    def each() -> None:
        nonlocal calls
        calls += 1
        if calls == 301 + 1 + 124:
            potential.running.springs[:] = np.nan

    potential = Counting(each)
    with pytest.raises(UnstableError, match="not finite") as caught:
        perform(tmp_path, potential=potential)
    assert caught.value.step == 123
    with stepson.open(tmp_path / "cold" / "02" / "md.son") as trajectory:
        assert trajectory["heat_flux"].steps[-1] == 122
        assert trajectory["positions"].steps[-1] == 120
        assert np.isfinite(trajectory["energy"][:]).all()
        assert not trajectory.sealed
        assert trajectory.checkpoint_steps[-1] <= 122


def test_a_full_disk_stops_the_run_and_costs_nothing(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.fdatasync, 25

    def full(descriptor: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(WriterError, match="No space left"):
        perform(tmp_path)
    monkeypatch.undo()
    assert perform(tmp_path).finished
    assert_same_files(unbroken, tmp_path)


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    unbroken: Path, tmp_path: Path
) -> None:
    stopped_after(tmp_path, 301 + 1 + 230, STEADY)
    at_once = threading.Event()
    at_once.set()
    assert perform(tmp_path, STEADY, stop=at_once).steps_computed == 0
    file = tmp_path / "cold" / "01" / "md.son"
    with stepson.open(file) as trajectory:
        steps = trajectory.checkpoint_steps
        state = trajectory.checkpoint()["velocities"].tobytes()
    damaged = bytearray(file.read_bytes())
    damaged[damaged.rindex(state) + 11] ^= 4
    file.write_bytes(damaged)
    summary = perform(tmp_path)
    said = f"the checkpoint of step {steps[1]}"
    assert any(said in line and "damaged" in line for line in summary.messages)
    assert summary.resumed_from == {"cold": steps[0]}
    assert_same_files(unbroken, tmp_path)


def test_a_stop_while_a_start_is_computed_again(unbroken: Path, tmp_path: Path) -> None:
    perform(tmp_path, alone(STEADY))
    for calls in (5, 10):
        summary = stopped_after(tmp_path, calls)
        assert summary.interrupted
        assert (summary.stage, summary.step) == ("cold", 0)
        assert not (tmp_path / "cold").exists()
    perform(tmp_path)
    assert_same_files(unbroken, tmp_path)


def test_start_steps_are_those_of_the_design() -> None:
    from gkflux.dynamics.config import parse

    stages = parse(TWO_STAGES, Path("x")).stage
    assert start_steps(stages[1], stages[0]) == [221, 261, 301]
    even = TWO_STAGES.replace("starts = { spacing = 40 }\n", "")
    stages = parse(even, Path("x")).stage
    assert start_steps(stages[1], stages[0]) == [201, 251, 301]


CHAIN = """
[system]
structure = "none"
temperature = 300
[potential]
model = "none"
[[stage]]
name = "a"
ensemble = "langevin"
timestep = 2.0
steps = 50
friction = 0.02
replicas = 2
record = { every = 10, fields = [] }
[[stage]]
name = "b"
ensemble = "langevin"
timestep = 1.0
steps = 50
friction = 0.02
temperature = 200
replicas = 2
[output]
folder = "out"
commit_steps = 20
"""


def test_replicas_go_on_from_their_own_last_state(tmp_path: Path) -> None:
    cluster = System(positions=oscillators().positions, numbers=[18] * 4)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    perform(whole, CHAIN, system=cluster)
    for k in range(2):
        with (
            stepson.open(whole / "a" / f"{k:02d}" / "md.son") as before,
            stepson.open(whole / "b" / f"{k:02d}" / "md.son") as after,
        ):
            assert list(before.fields) == ["energy", "energy_kinetic", "temperature"]
            assert before.metadata["cell"] is None
            assert before.metadata["degrees_of_freedom"] == 12
            assert after.metadata["temperature"] == 200
            assert after.metadata["start"]["uuid"] == before.uuid
            assert after["energy"][0] == before["energy"][-1]
            assert after["energy_kinetic"][0] == before["energy_kinetic"][-1]
    for calls in (30, 40, 12):
        stop, count = threading.Event(), iter(range(calls))
        each = partial(_stop_at_end, count, stop)
        perform(broken, CHAIN, system=cluster, potential=Counting(each), stop=stop)
    perform(broken, CHAIN, system=cluster)
    assert_same_files(whole, broken)
    zero, one = (contents(whole / "a" / f"0{k}" / "md.son") for k in range(2))
    assert zero["energy"] != one["energy"]


def _stop_at_end(count: Iterator[int], stop: threading.Event) -> None:
    if next(count, None) is None:
        stop.set()
