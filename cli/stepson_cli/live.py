"""What a person sees while a run goes on.

Theory of operation. The dynamics calls `Display.update` from its own loop, which only
stores the newest `Progress` and queues what must not be lost (messages, finished stages).
A thread draws: so neither a slow terminal nor one that is held with Ctrl-S ever stops the
steps. It redraws four times a second, or less often where drawing is dear: at most one
part in fifty of the time.

Three displays, chosen by `display`: a frame that redraws itself on a terminal, plain
lines off one (a line at stage starts and ends, at messages, and once a minute), nothing
under ``-q`` except messages.
"""

import threading
import time
from bisect import bisect
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, Self

from stepson_cli.terminal import Terminal
from stepson_cli.views import run as views

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import RenderableType

    from gkflux.dynamics.progress import Progress

__all__ = ["Display", "DriftHistory", "LiveDisplay", "PlainDisplay", "display"]

REFRESH = 0.25  # s between two drawings
SHARE = 50  # drawing may take one part in so many of the time
OTHER_LINES = 13  # of the frame: everything but the replicas
LINE_EVERY = 60.0  # s between two plain lines


class Display(Protocol):
    """Shows the progress of a run, as a context manager."""

    stopping: bool

    def update(self, progress: "Progress") -> None:
        """Take the newest state; returns at once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None: ...


def display(terminal: Terminal, title: str) -> Display:
    """Choose the display that suits the terminal.

    Args:
        terminal: where to draw.
        title: such as the name of the configuration.
    """
    return LiveDisplay(terminal, title) if terminal.live else PlainDisplay(terminal)


class DriftHistory:
    """Remembers the drifts of a stage, to tell a slope from the noise of its beginning.

    The error of a fitted slope falls as time to the power 3/2, so the change since half of
    the time is about three times the error that is left: good enough for a colour.
    """

    def __init__(self) -> None:
        self._stage: tuple[str, tuple[int, ...]] = "", ()
        self._steps: list[int] = []
        self._drifts: list[NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, progress: "Progress") -> None:
        """Take a state; kept only where time has grown by a tenth, so that few are."""
        if (progress.stage, progress.numbers) != self._stage:
            self._stage = progress.stage, progress.numbers
            self._steps, self._drifts = [], []
        if not self._steps or progress.step > 1.1 * self._steps[-1]:
            self._steps.append(progress.step)
            self._drifts.append(progress.energy_drift)

    def half(self, step: int) -> "NDArray[np.float64] | None":
        """The drifts at about half of a step, or None where they are not known."""
        place = bisect(self._steps, step // 2) - 1
        return self._drifts[place] if place >= 0 else None


class LiveDisplay:
    """A frame that redraws itself, with finished stages and messages standing above it."""

    def __init__(self, terminal: Terminal, title: str) -> None:
        from rich.live import Live

        self.stopping = False
        self._title = title
        self._console = terminal.err
        self._began = time.monotonic()
        self._progress: Progress | None = None
        self._above: deque[RenderableType] = deque()
        self._history = DriftHistory()
        self._over = threading.Event()
        self._live = Live(
            console=self._console, auto_refresh=False, get_renderable=self._frame
        )
        self._drawing = threading.Thread(target=self._draw, name="display", daemon=True)

    def __repr__(self) -> str:
        return f"LiveDisplay({self._title!r})"

    def __enter__(self) -> Self:
        self._live.start()
        self._drawing.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._drawing.join(timeout=2.0)  # a held terminal must not hold the end of the run
        self._refresh()
        with suppress(OSError):
            self._live.stop()

    def update(self, progress: "Progress") -> None:
        """Keep the newest state; queue the end of a stage and messages for the drawing."""
        last = self._progress
        if last is not None and last.stage != progress.stage:
            self._above.append(views.stage_line(last))
        if progress.message is not None:
            self._above.append(views.message_line(progress.message))
        self._history.add(progress)
        self._progress = progress

    def _frame(self) -> "RenderableType":
        elapsed = time.monotonic() - self._began
        if self._progress is None:
            return views.starting(self._title, elapsed, stopping=self.stopping)
        return views.run_frame(
            self._progress,
            title=self._title,
            rows=self._console.height - OTHER_LINES,
            width=self._console.width,
            elapsed=elapsed,
            stopping=self.stopping,
            earlier=self._history.half(self._progress.step),
        )

    def _refresh(self) -> None:
        # A terminal that has gone (its window was closed) must not end the run.
        with suppress(OSError):
            while self._above:
                self._console.print(self._above.popleft())
            self._live.refresh()

    def _draw(self) -> None:
        cost = 0.0
        while not self._over.wait(max(REFRESH, SHARE * cost)):
            start = time.thread_time()
            self._refresh()
            cost = time.thread_time() - start


class PlainDisplay:
    """Plain lines: at the start and the end of a stage, at messages, and once a minute."""

    def __init__(
        self, terminal: Terminal, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stopping = False
        self._terminal = terminal
        self._clock = clock
        self._next = clock()
        self._last: Progress | None = None
        self._announced = ""

    def __repr__(self) -> str:
        return f"PlainDisplay(last={self._last and self._last.step})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        last = self._last
        if last and last.stage == self._announced and last.phase != "finished":
            self._terminal.say(views.progress_line(last))

    def update(self, progress: "Progress") -> None:
        """Print what is new since the last call."""
        last, self._last = self._last, progress
        # Only what has started knows from which step.
        if progress.stage != self._announced and progress.phase != "starting":
            self._announced = progress.stage
            self._terminal.say(views.stage_start_line(progress))
            self._next = self._clock() + LINE_EVERY
        if progress.message is not None:
            self._terminal.say(views.message_line(progress.message), verbosity=-1)
        if progress.phase == "finished" and (last is None or last.phase != "finished"):
            self._terminal.say(views.stage_line(progress))
        elif progress.stage == self._announced and self._clock() >= self._next:
            self._terminal.say(views.progress_line(progress))
            self._next = self._clock() + LINE_EVERY
