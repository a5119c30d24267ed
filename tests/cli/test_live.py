"""The displays, driven by real `Progress` objects."""

import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console, RenderableType

from gkflux.dynamics.progress import Progress, RunSummary
from stepson_cli.live import DriftHistory, LiveDisplay, PlainDisplay, display
from stepson_cli.terminal import PALETTE, Terminal
from stepson_cli.views import run as views


def a_progress(replicas: int = 2, **changes: object) -> Progress:
    progress = Progress(
        phase="running",
        stage="production",
        stage_index=1,
        stage_count=2,
        ensemble="nve",
        step=12_400,
        committed=12_000,
        steps=50_000,
        timestep=5.0,
        replicas=replicas,
        n_atoms=108,
        system="Ar108, 108 atoms",
        potential="argon, schnet, float32, cpu",
        target=90.0,
        temperature=np.linspace(89.0, 91.0, replicas),
        energy_drift=np.full(replicas, 0.1),
        kappa_replicas=np.full(replicas, 0.13),
        kappa=0.131,
        bytes_written=12_345_678,
        steps_per_second=1210.0,
        ns_per_day=522.7,
        seconds_left=62.0,
    )
    return replace(progress, **changes)  # type: ignore[arg-type]


def a_summary(**changes: object) -> RunSummary:
    summary = RunSummary(
        folder=Path("demo"),
        files=(Path("demo/a/md.son"), Path("demo/b/md.son")),
        finished=True,
        interrupted=False,
        already_finished=False,
        stage="production",
        step=50_000,
        steps=50_000,
        steps_computed=50_000,
        resumed_from={},
        bytes_written=2_000_000,
        seconds=65.0,
        messages=(),
    )
    return replace(summary, **changes)  # type: ignore[arg-type]


def rendered(view: RenderableType, width: int = 80, *, colour: bool = False) -> str:
    from rich.theme import Theme

    stream = io.StringIO()
    theme = Theme(dict(PALETTE))
    console = Console(file=stream, width=width, force_terminal=colour, theme=theme)
    console.print(view)
    return stream.getvalue()


def test_the_frame_of_two_replicas_in_eighty_columns() -> None:
    text = rendered(views.run_frame(a_progress(), title="argon.toml"))
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines == [
        "argon.toml  Ar108, 108 atoms  argon, schnet, float32, cpu",
        "stage 2 of 2  production  nve, 2 replicas" + " " * 36 + "25%",
        "━━━━━━━━━━━━━━━━━━━╸",
        "",
        "replica    temperature      drift    kappa so far",
        "                     K       K/ns         W/(m K)",
        "      0           89.0      +0.10           0.130",
        "      1           91.0      +0.10           0.130",
        "    all           90.0      +0.10           0.131",
        "",
        "step 12 400 of 50 000      62.0 ps of 250 ps     1 210 steps/s     1:02 min left",
        "saved to 12 000            12.3 MB               523 ns/day",
        "",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("replicas", [1, 4, 16])
def test_frames_fit_the_terminal(width: int, replicas: int) -> None:
    frame = views.run_frame(a_progress(replicas), title="argon.toml", rows=6, width=width)
    lines = rendered(frame, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 6 + 12 + (width < views.WIDE) * 2


def test_volumes_stand_where_kappa_would_be() -> None:
    progress = a_progress(ensemble="npt at 0.1 GPa", volume=np.array([1010.25, 990.0]))
    text = rendered(views.run_frame(progress, title="run"))
    assert "npt at 0.1 GPa, 2 replicas" in text
    assert "kappa" not in text
    rows = [line.split() for line in text.splitlines()]
    assert ["K", "K/ns", "Å³"] in rows
    assert ["1", "91.0", "+0.10", "990.0"] in rows
    assert ["all", "90.0", "+0.10", "1000.1"] in rows
    assert "90.0 K, 1000.1 Å³, 1 210" in views.progress_line(progress)


def test_replicas_of_several_machines_show_how_far_each_is() -> None:
    progress = a_progress(numbers=(4, 7), reached=(12_400, 13_600))
    shown = rendered(views.run_frame(progress, title="argon.toml", width=80))
    rows = [
        line.split() for line in shown.splitlines() if line.split()[:1] in (["4"], ["7"])
    ]
    assert [" ".join(row[-2:]) for row in rows] == ["12 400", "13 600"]


def test_replicas_that_do_not_fit_are_counted() -> None:
    text = rendered(views.run_frame(a_progress(16), title="x", rows=5))
    assert "12 more" in text
    assert "all" in text


WARNED, ALARMED = "\x1b[33m", "\x1b[1;31m"


def colours(progress: Progress, earlier: float | None) -> set[str]:
    """The colours of the row of the only replica."""
    before = None if earlier is None else np.array([earlier])
    frame = views.run_frame(progress, title="x", earlier=before)
    drift = f"{progress.energy_drift[0]:+.2f}"
    row = next(x for x in rendered(frame, colour=True).splitlines() if drift in x)
    return {code for code in (WARNED, ALARMED) if code in row}


@pytest.mark.parametrize(
    ("drift", "found"),
    [(0.1, set()), (12.0, {WARNED}), (-12.0, {WARNED}), (90.0, {ALARMED})],
)
def test_drifting_replicas_change_colour(drift: float, found: set[str]) -> None:
    assert colours(a_progress(1, energy_drift=np.array([drift])), 0.99 * drift) == found


def test_a_drift_is_judged_when_it_is_known() -> None:
    drifting = a_progress(1, energy_drift=np.array([12.0]))
    assert colours(drifting, None) == set()
    assert colours(drifting, np.nan) == set()
    assert colours(drifting, -8.0) == set()  # it has changed a lot since half of the time
    assert colours(replace(drifting, step=1000), 12.0) == set()  # 5 ps


def test_the_history_remembers_half_of_the_time_with_few_entries() -> None:
    history = DriftHistory()
    assert history.half(100) is None
    for step in range(0, 50_001, 10):
        history.add(a_progress(1, step=step, energy_drift=np.array([float(step)])))
    for step in (1000, 12_340, 50_000):
        found = history.half(step)
        assert found is not None
        assert step / 2 / 1.2 < found[0] <= step / 2
    assert len(history) < 150
    history.add(a_progress(1, stage="next"))
    assert len(history) == 1


def test_what_is_not_known_yet_is_a_dash() -> None:
    nothing = np.array([np.nan])
    progress = a_progress(
        1, energy_drift=nothing, kappa_replicas=nothing, kappa=np.nan, seconds_left=np.nan
    )
    text = rendered(views.run_frame(progress, title="x"))
    assert "nan" not in text
    assert "– left" in text


def test_a_stop_that_was_asked_for_is_seen_at_once() -> None:
    assert "saving, then stopping" in rendered(
        views.run_frame(a_progress(), title="x", stopping=True)
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["finished after 1:05 min; 2 files, 2 MB in demo", "next: stepson gk demo"]),
        ({"already_finished": True}, ["finished before: nothing to do", "stepson gk demo"]),
        (
            {"finished": False, "interrupted": True, "step": 12_400},
            [
                "stopped at step 12 400 of 50 000 of production",
                "go on with: stepson run a.toml",
            ],
        ),
    ],
)
def test_summaries_name_the_next_command(
    changes: dict[str, object], words: list[str]
) -> None:
    text = rendered(views.summary(a_summary(**changes), command="stepson run a.toml"))
    assert all(word in text for word in words)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_at_starts_ends_messages_and_once_a_minute() -> None:
    err, clock = io.StringIO(), Clock()
    with PlainDisplay(Terminal(err=err), clock=clock) as shown:
        for second in range(0, 181, 10):
            clock.now = float(second)
            shown.update(a_progress(step=100 * second))
        shown.update(a_progress(message="the energy of replica 1 drifts"))
        shown.update(a_progress(phase="finished", step=50_000))
    lines = err.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["production:"] * 4 + ["!", "production"]
    assert "step 6 000" in lines[1]
    assert "\x1b" not in err.getvalue()


def test_an_interrupted_plain_run_ends_with_where_it_is() -> None:
    err = io.StringIO()
    with PlainDisplay(Terminal(err=err)) as shown:
        shown.update(a_progress())
    assert (
        err.getvalue()
        .splitlines()[-1]
        .startswith("production: step 12 400 of 50 000 (25%)")
    )


def test_a_stage_is_announced_when_it_knows_where_it_starts() -> None:
    err, clock = io.StringIO(), Clock()
    with PlainDisplay(Terminal(err=err), clock=clock) as shown:
        shown.update(a_progress(phase="starting", step=0))
        clock.now = 1000.0
        shown.update(a_progress(phase="starting", step=0))
        assert err.getvalue() == ""
        shown.update(a_progress(resumed_from=12_000))
    assert err.getvalue().splitlines()[0].endswith("50 000 steps of 5 fs, from step 12 000")


def test_a_run_that_cannot_start_says_nothing_of_progress() -> None:
    err = io.StringIO()
    with PlainDisplay(Terminal(err=err)) as shown:
        shown.update(a_progress(phase="starting", step=0))
    assert err.getvalue() == ""


def test_quiet_displays_keep_messages_only() -> None:
    err = io.StringIO()
    with PlainDisplay(Terminal(-1, err=err)) as shown:
        shown.update(a_progress())
        shown.update(a_progress(message="drifts"))
        shown.update(a_progress(phase="finished"))
    assert err.getvalue() == "! drifts\n"


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return Screen()


def test_finished_stages_and_messages_stay_above_the_frame(screen: Screen) -> None:
    with display(Terminal(err=screen), "argon.toml") as shown:
        assert isinstance(shown, LiveDisplay)
        shown.update(a_progress(stage="thermalise", phase="finished"))
        shown.update(a_progress(message="the cell is small"))
    text = screen.getvalue()
    assert (
        text.index("thermalise") < text.index("the cell is small") < text.rindex("saved to")
    )
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_the_frame_follows_the_size_of_the_terminal(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("LINES", "18")
    with LiveDisplay(Terminal(err=screen), "argon.toml") as shown:
        shown.update(a_progress(16))
    last = screen.getvalue().split("argon.toml")[-1]
    assert "12 more" in last  # 18 lines, 13 of them for other things
    assert "1:02 min left" in last  # in two columns, so that nothing is cut


def test_a_stop_while_everything_loads_is_seen(screen: Screen) -> None:
    with LiveDisplay(Terminal(err=screen), "argon.toml") as shown:
        shown.stopping = True
    assert "stopping as soon as" in screen.getvalue()


def test_updates_never_wait_for_the_terminal(screen: Screen) -> None:
    with LiveDisplay(Terminal(err=screen), "argon.toml") as shown:
        start = time.perf_counter()
        for _ in range(1000):
            shown.update(a_progress())
        one_drawing = time.perf_counter()
        rendered(views.run_frame(a_progress(), title="x"))
        drawing = time.perf_counter() - one_drawing
        assert (one_drawing - start) / 1000 < drawing


class Window(Screen):
    """A terminal whose window can be closed."""

    closed_by_user = False

    def write(self, text: str) -> int:
        if self.closed_by_user:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_closed_window_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    window = Window()
    with LiveDisplay(Terminal(err=window), "argon.toml") as shown:
        shown.update(a_progress())
        window.closed_by_user = True
        time.sleep(0.6)  # two drawings
        shown.update(a_progress(message="drifts"))


def test_a_terminal_that_cannot_redraw_gets_lines() -> None:
    assert isinstance(display(Terminal(err=io.StringIO()), "x"), PlainDisplay)
