"""A run that ends when kappa is known well enough, killed or not."""

import threading
from itertools import pairwise
from pathlib import Path

import pytest

import stepson
from gkflux.dynamics.config import parse
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.progress import Listener, Progress, RunSummary
from gkflux.dynamics.setup import Ingredients
from gkflux.dynamics.until import check_wish, looks, run_until
from gkflux.errors import FluxError
from tests.gkflux.dynamics.harmonic import oscillators
from tests.gkflux.dynamics.runs import TWO_STAGES, Counting, assert_same_files, perform

LONG = TWO_STAGES.replace("steps = 600", "steps = 6_000")


def go(
    folder: Path,
    wanted: float,
    *,
    text: str = LONG,
    stop: threading.Event | None = None,
    potential: Counting | None = None,
    listener: Listener | None = None,
) -> RunSummary:
    ingredients = Ingredients(
        oscillators(), potential or Counting(), "oscillators", None, "cpu"
    )
    context = RunContext(parse(text, folder / "run.toml"), folder, ingredients, listener)
    return run_until(context, wanted, stop or threading.Event())


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error bar is believed from little data on; else a test would take minutes."""
    monkeypatch.setattr("gkflux.verdict.CONVERGED", 100.0)


def last_step(folder: Path) -> int:
    with stepson.open(folder / "cold" / "00" / "md.son") as trajectory:
        return trajectory.last_step


def test_looks_are_a_fixed_row() -> None:
    stage = parse(LONG, Path("run.toml")).stage[-1]
    found = looks(stage)
    assert (found[0], found[-1]) == (300, 6000)
    assert all(step % 10 == 0 for step in found)
    assert all(1.2 < b / a < 1.3 for a, b in pairwise(found[:-1]))
    assert looks(stage.model_copy(update={"steps": 7})) == [7]


def test_it_ends_at_the_first_look_that_is_good_enough(tmp_path: Path) -> None:
    seen: list[Progress] = []
    done = go(tmp_path / "a", 0.5, listener=seen.append)
    end = last_step(tmp_path / "a")
    row = looks(parse(LONG, tmp_path / "run.toml").stage[-1])
    assert end in row[:-1]
    assert done.finished
    lines = [line for line in done.messages if "kappa = " in line]
    assert "converged" in lines[-1]
    assert not any("converged" in line for line in lines[:-1])
    ends = [each for each in seen if each.stage == "cold" and each.phase == "finished"]
    assert [each.step for each in ends] == [end]
    running = [p for p in seen if p.stage == "cold" and p.phase == "running"]
    assert {each.steps for each in running} == {6000}
    # one that runs so far at once gives the same
    plain = LONG.replace("steps = 6_000", f"steps = {end}")
    perform(tmp_path / "b", plain)
    assert_same_files(tmp_path / "a", tmp_path / "b")


def test_again_there_is_nothing_to_do(tmp_path: Path) -> None:
    go(tmp_path, 0.5)
    before = last_step(tmp_path)
    again = go(tmp_path, 0.5)
    assert again.already_finished
    assert again.steps_computed == 0
    assert last_step(tmp_path) == before


@pytest.mark.parametrize("calls", [700, 2000])
def test_a_run_that_was_stopped_ends_where_it_would_have(
    tmp_path: Path, calls: int
) -> None:
    stop, count = threading.Event(), 0

    def each() -> None:
        nonlocal count
        count += 1
        if count == calls:
            stop.set()

    first = go(tmp_path / "a", 0.2, stop=stop, potential=Counting(each))
    assert first.interrupted
    second = go(tmp_path / "a", 0.2)
    assert second.finished
    go(tmp_path / "b", 0.2)
    assert last_step(tmp_path / "a") == last_step(tmp_path / "b")
    assert_same_files(tmp_path / "a", tmp_path / "b")


def test_what_is_never_good_enough_runs_to_its_end(tmp_path: Path) -> None:
    text = TWO_STAGES
    done = go(tmp_path, 1e-6, text=text)
    assert done.finished
    assert last_step(tmp_path) == 600
    assert "more data needed" in done.messages[-1] or "error bar" in done.messages[-1]


@pytest.mark.parametrize("wanted", [0.0, 1.0, -0.1, float("nan")])
def test_errors_that_mean_nothing(wanted: float) -> None:
    with pytest.raises(FluxError, match="between 0 and 1"):
        check_wish(parse(LONG, Path("run.toml")), wanted)


def test_a_run_without_a_flux() -> None:
    text = LONG.replace("heat_flux = { every = 2 }", "")
    with pytest.raises(FluxError, match="needs an nve stage with a heat flux"):
        check_wish(parse(text, Path("run.toml")), 0.1)
