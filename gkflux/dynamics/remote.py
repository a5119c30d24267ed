"""What runs on a worker of a cluster: one batch at a time, and the answers it gives.

Theory of operation. A batch is a task of dask, bound to one worker (`work`). While it runs,
whoever started the run asks a few times a second how far it is (`ask`, which the worker
answers beside its tasks); the same question tells it to stop. So the connection carries
everything in one direction of initiative, and a batch that is not asked for `SILENCE`
seconds knows that nobody waits for it any more: it commits, lets go of its files and ends.
Frames never travel: a worker writes its own files, on a file system that all share.
"""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import stepson
from gkflux.dynamics.batch import BatchRun
from gkflux.dynamics.config import RunConfig
from gkflux.dynamics.context import RunContext
from gkflux.dynamics.progress import Progress
from gkflux.dynamics.provenance import Settings
from gkflux.dynamics.setup import Ingredients
from gkflux.dynamics.stage import StageRun
from gkflux.errors import FluxError
from stepson.errors import StepsonError, WriterError

__all__ = ["Answer", "Introduction", "Job", "Outcome", "Recipe", "ask", "introduce", "work"]

SILENCE = 30.0
"""Seconds without a question after which a batch stops by itself."""
PATIENCE = 90.0
"""Seconds to wait for files that another process holds: one that stops after `SILENCE`, or
that died on a machine whose locks a file server has yet to forget."""
DECISIVE = ("numpy", "torch", "numba", "vesin")

Recipe = Callable[[RunConfig, str], Ingredients]
"""Makes atoms and potential from a configuration and a device: `setup.prepare`."""


@dataclass(frozen=True)
class Job:
    """One batch, as it travels to its worker.

    Attributes:
        token: names this batch in `ask`.
        config: the whole run.
        folder: of the output, the same path everywhere.
        device: ``cpu`` or ``cuda``.
        stage: its number.
        replicas: numbers of those in the batch.
        settings: of the stage, as whoever started the run sees them.
        recipe: makes atoms and potential.
    """

    token: str
    config: RunConfig
    folder: Path
    device: str
    stage: int
    replicas: tuple[int, ...]
    settings: Settings
    recipe: Recipe


@dataclass(frozen=True)
class Outcome:
    """How a batch ended.

    Attributes:
        finished: its files hold the last step of the stage.
        computed: steps.
        seconds: wall time in the loop.
        resumed: where it was taken up again, or None.
        last: what nobody has asked for any more.
        error: one line, or None.
        kind: whether that concerns files or physics.
    """

    finished: bool
    computed: int
    seconds: float
    resumed: int | None
    last: "Answer"
    error: str | None = None
    kind: Literal["flux", "writer"] = "flux"


@dataclass(frozen=True)
class Answer:
    """What a batch tells when asked: its newest state, and the lines since last time."""

    progress: Progress | None
    messages: tuple[str, ...]


class _Post:
    """Where a batch leaves its news, and hears that it should stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.heard = time.monotonic()
        self._progress: Progress | None = None
        self._messages: deque[str] = deque()

    def update(self, progress: Progress) -> None:
        """Take the newest state; called from the loop."""
        if progress.message is not None:
            self._messages.append(progress.message)
        self._progress = progress

    def say(self, message: str) -> None:
        """Leave a line."""
        self._messages.append(message)

    def take(self) -> Answer:
        """Return the newest state, and each message once."""
        messages = []
        with suppress(IndexError):
            while True:
                messages.append(self._messages.popleft())
        return Answer(self._progress, tuple(messages))


_posts: dict[str, _Post] = {}
_prepared: dict[str, Ingredients] = {}


def ask(token: str, stop: bool) -> Answer | None:
    """Answer for a batch of this process; None where it has not begun, or is over.

    Args:
        token: of its job.
        stop: commit and end.
    """
    post = _posts.get(token)
    if post is None:
        return None
    post.heard = time.monotonic()
    if stop:
        post.stop.set()
    return post.take()


def work(job: Job) -> Outcome:
    """Run one batch on this worker, from wherever its files end."""
    post = _posts[job.token] = _Post()
    context: RunContext | None = None
    finished, error = False, None
    try:
        with _watched(post):
            stage = _stage(job, post)
            context = stage.context
            batch = BatchRun(stage, job.replicas, alone=False)
            _wait_for_files(batch.files, post)
            if not post.stop.is_set():
                finished, _ = batch.compute(post.stop)
    except StepsonError as caught:
        error = caught
    finally:
        del _posts[job.token]
    return Outcome(
        finished=finished,
        computed=0 if context is None else context.computed,
        seconds=0.0 if context is None else context.seconds,
        resumed=None if context is None else next(iter(context.resumed.values()), None),
        last=post.take(),
        error=None if error is None else str(error),
        kind="writer" if isinstance(error, WriterError) else "flux",
    )


@contextmanager
def _watched(post: _Post) -> Iterator[None]:
    """Stop the batch when nobody asks any more, or when the worker is closing."""
    from dask.distributed import get_worker

    worker: Any = get_worker()
    _use_threads(worker.state.nthreads)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            silent = time.monotonic() - post.heard > SILENCE
            if silent or worker.status.name.startswith(("clos", "stop", "fail")):
                post.stop.set()

    watching = threading.Thread(target=watch, name="watch", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _use_threads(count: int) -> None:
    """A worker of k threads computes its one batch with k threads."""
    import numba
    import torch

    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(max(1, min(count, most)))
    torch.set_num_threads(max(1, count))


def _stage(job: Job, post: _Post) -> StageRun:
    """Prepare the stage as it is seen from here, and check that it is the same.

    Raises:
        FluxError: structure, lattice or model are not those of whoever started the run.
    """
    key = f"{job.config.path} {job.config.model_dump_json()} {job.device}"
    for known in (_prepared.get(key), None):
        ingredients = job.recipe(job.config, job.device) if known is None else known
        _prepared.clear()
        _prepared[key] = ingredients
        context = RunContext(job.config, job.folder, ingredients, post.update)
        stage = StageRun(context, job.stage)
        if stage.settings == job.settings:
            return stage
    here, there = stage.settings, job.settings
    key = next(key for key in sorted({*here, *there}) if here.get(key) != there.get(key))
    raise FluxError(
        f"{key} is {here.get(key)} on this worker, and {there.get(key)} where the run was "
        "started; give all machines the same files"
    )


def _wait_for_files(files: Sequence[Path], post: _Post) -> None:
    """Wait until the worker that had these files lets go of them, or is forgotten."""
    deadline, said = time.monotonic() + PATIENCE, False
    for path in files:
        while not _free(path) and time.monotonic() < deadline:
            if not said:
                post.say(f"{path} is still held by another process; waiting for its end")
                said = True
            if post.stop.wait(0.2):
                return


def _free(path: Path) -> bool:
    """Whether nobody has the flock of a file; True where that cannot be known."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    return True


@dataclass(frozen=True)
class Introduction:
    """What a worker is.

    Attributes:
        stepson: its version.
        versions: of the libraries that may change the last bits.
        fault: why it cannot be used, or None.
    """

    stepson: str
    versions: dict[str, str]
    fault: str | None


def introduce(probe: Path, word: str) -> Introduction:
    """Tell who this worker is, and whether it sees the folder of the run.

    Args:
        probe: a file that whoever started the run has just written.
        word: its content.
    """
    versions = {}
    for name in DECISIVE:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return Introduction(stepson.__version__, versions, _fault(probe, word))


def _fault(probe: Path, word: str) -> str | None:
    folder = probe.parent
    try:
        seen = probe.read_text() == word
    except OSError:
        seen = False
    if not seen:
        return f"it does not see {folder}: put the output on a file system that all share"
    mine = folder / f"{probe.name}.{uuid4().hex}"
    try:
        mine.touch(exist_ok=False)
        mine.unlink()
    except OSError as error:
        return f"it cannot write in {folder}: {error.strerror}"
    return None
