"""Running cases: by kind and number, in several processes, each with a limit of time.

`run_case` is one of them; a result says what went wrong in a word, and `repeat` how to see
it again. Memory is the peak of the whole process, so it is a bound for each case in it; a
case is to blame only if it raised the peak by much.
"""

import faulthandler
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

from tests.stepson.crashes.cases import Outcome, cut, failing
from tests.stepson.crashes.flips import flip
from tests.stepson.crashes.kills import killed, shortened
from tests.stepson.crashes.life import Lost
from tests.stepson.crashes.readers import reader

__all__ = ["KINDS", "Result", "repeat", "run_case", "run_cases"]

SECONDS = 60
MEMORY = 512 * 2**20
BATCH = 25


def short(kind: str, seed: int) -> Outcome:
    """Short writes that go on, or after which the disk is full."""
    return shortened(kind, seed) if seed % 4 == 0 else failing("short", seed)


def double(kind: str, seed: int) -> Outcome:
    """Power losses and kills during the recovery of the one before, four times."""
    return failing("power" if seed % 2 else "kill", seed, lives=4)


KINDS: dict[str, tuple[Callable[[str, int], Outcome], int]] = {
    "short": (short, 1000),
    "enospc": (failing, 1100),
    "eio": (failing, 1600),
    "power": (failing, 2800),
    "double": (double, 800),
    "sigkill": (killed, 300),
    "cut": (cut, 1200),
    "flip": (flip, 2000),
    "reader": (reader, 120),
}
"""What runs a case, and how many there are by default."""


class Result(NamedTuple):
    """Of one case."""

    kind: str
    seed: int
    opened: bool
    appended: bool
    wrong: str
    """Empty, "wrong data", "lost commit", "hang", "memory", "error"."""
    told: str
    """The traceback where something is wrong."""
    memory: int
    seconds: float


class Hang(BaseException):
    """A case that does not end."""


def _alarm(signum: int, frame: object) -> None:
    raise Hang


def repeat(result: Result) -> str:
    """The command that runs exactly this case again."""
    return (
        f"python benchmarks/crashes.py --kinds {result.kind} --seed {result.seed} --cases 1"
    )


def run_case(kind: str, seed: int) -> Result:
    """Run a case; nothing it does is raised."""
    start, opened, appended, wrong, told = time.perf_counter(), False, False, "", ""
    peak = _peak()
    before = signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened, appended = KINDS[kind][0](kind, seed)
    except Hang:
        wrong, told = "hang", traceback.format_exc()
    except Lost:
        wrong, told = "lost commit", traceback.format_exc()
    except AssertionError:
        wrong, told = "wrong data", traceback.format_exc()
    except Exception:
        wrong, told = "error", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    memory = _peak()
    if not wrong and memory > max(MEMORY, peak + MEMORY // 4):
        wrong, told = "memory", f"{memory} bytes"
    seconds = time.perf_counter() - start
    return Result(kind, seed, opened, appended, wrong, told, memory, seconds)


def _peak() -> int:
    """Bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _run_batch(kind: str, seeds: range) -> list[Result]:
    faulthandler.enable()
    return [run_case(kind, seed) for seed in seeds]


def run_cases(
    counts: Iterable[tuple[str, int, int]], processes: int
) -> Iterator[list[Result]]:
    """Run cases in batches, in any order.

    Args:
        counts: kind, first seed, number of cases.
        processes: how many run at once.
    """
    batches = [
        (kind, range(start, min(start + BATCH, first + count)))
        for kind, first, count in counts
        for start in range(first, first + count, BATCH)
    ]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: dict[Any, tuple[str, range]] = {
            pool.submit(_run_batch, *each): each for each in batches
        }
        for done in as_completed(waiting):
            kind, seeds = waiting[done]
            try:
                yield done.result()
            except BrokenProcessPool as error:
                told = f"the process died in one of {kind} {seeds}: {error}"
                yield [Result(kind, seeds[0], False, False, "error", told, 0, 0.0)]
                return
