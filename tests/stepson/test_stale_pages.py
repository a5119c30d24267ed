"""What is cached is not believed before it was read back from the disk, and little is."""

import ctypes
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stepson.errors import DamageWarning
from stepson.source import LocalSink
from stepson.trajectory import Trajectory
from stepson.writing import resume
from tests.stepson import faults
from tests.stepson.faults import FaultySink, Run, State
from tests.stepson.files import Memory

PAGE = os.sysconf("SC_PAGESIZE")
RUN = 2**11 * PAGE
"""The longest that Linux caches as one."""
SIZE = 3 * RUN


def cached(descriptor: int) -> NDArray[np.bool_]:
    """Whether each page of a file is in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size, told = ctypes.c_size_t(SIZE), ctypes.create_string_buffer(SIZE // PAGE)
    place = libc.mmap(None, size, 1, 1, descriptor, ctypes.c_long(0))
    assert libc.mincore(ctypes.c_void_p(place), size, told) == 0
    libc.munmap(ctypes.c_void_p(place), size)
    pages = np.frombuffer(told.raw[: SIZE // PAGE], np.uint8)
    return np.asarray(pages % 2 == 1)


@pytest.fixture
def sink(tmp_path: Path) -> LocalSink:
    """A file whose pages are all in the cache, in runs as long as the kernel makes them."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    made = LocalSink(os.open(tmp_path / "file", flags))
    made.write([bytes(SIZE)])
    made.sync()
    before = cached(made.descriptor).all()
    made.forget()
    if not before or cached(made.descriptor).any():
        pytest.skip("this file system keeps no pages, or drops none")
    made.read_at(0, SIZE)
    return made


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="of Linux")
@pytest.mark.parametrize("start", [1, RUN + 10_001, 2 * RUN - 1, 2 * RUN])
def test_no_page_behind_a_byte_stays_cached(sink: LocalSink, start: int) -> None:
    """Kernels keep runs of pages of which only a part is to be dropped."""
    sink.forget(start)
    pages, first = cached(sink.descriptor), start // PAGE
    assert not pages[first:].any()
    assert pages[: start // RUN * (RUN // PAGE)].all()


@dataclass
class Hole(FaultySink):
    """A disk with a cache that shows zeros somewhere until it is dropped there."""

    hole: range = range(0)

    def read_at(self, offset: int, length: int) -> bytes:
        data = bytearray(super().read_at(offset, length))
        for place in range(
            max(offset, self.hole.start), min(offset + len(data), self.hole.stop)
        ):
            data[place - offset] = 0
        return bytes(data)

    def forget(self, start: int = 0) -> None:
        super().forget(start)
        self.hole = range(self.hole.start, min(self.hole.stop, start))


def lived_twice() -> Run:
    """Closed once, so that it has an INDEX, and gone on with."""
    sink = FaultySink(np.random.default_rng(3))
    first = faults.begin(sink)
    faults.go_on(first, 3)
    first.writer.close()
    writer = resume(sink, faults.NOWHERE, commit="manual", threaded=False)
    run = Run(writer, sink, first.states)
    faults.go_on(run, 3)
    return run


@pytest.mark.parametrize("end", ["torn", "whole", "sealed"])
def test_stale_pages_anywhere_change_nothing(end: str) -> None:
    """As of file systems whose caches are not coherent: all is found, read, and copied."""
    run = lived_twice()
    cache = platter = run.sink.platter
    state = run.states[-1]
    if end == "torn":  # by a sync that failed
        last = run.writer._appender.committed
        platter, state = cache[: last.start].ljust(len(cache), b"\0"), run.states[-2]
    if end == "sealed":
        run.writer.close()
        cache = platter = run.sink.platter
    for place in range(0, len(cache), 150):
        hole = range(place, place + 200)
        stale = Hole(np.random.default_rng(place), cache, platter, hole=hole)
        with warnings.catch_warnings():  # what is cached is damaged, and may be called so
            warnings.simplefilter("ignore", DamageWarning)
            writer = resume(stale, faults.NOWHERE, commit="manual", threaded=False)
        points = [load()["step"] for _, load in writer.checkpoints()]
        assert State(writer.frames, points[-1]) == state
        writer.append(state.frames, **faults.values_at(state.frames))
        writer.close()
        found = Trajectory(Memory(stale.platter), faults.NOWHERE)
        assert faults.read_state(found) == State(state.frames + 1, state.checkpoint)
        assert found.verify(deep=True).ok
        assert found.opened.tree.roots[0].rows[-1, 4], "the small fields were not copied"


def test_only_the_end_of_a_file_is_read_back() -> None:
    """The cost of opening for append does not depend on the size of the file."""
    sink = FaultySink(np.random.default_rng(3))
    run = faults.begin(sink)
    faults.go_on(run, 4)
    before = run.writer._appender.committed.previous
    dropped: list[int] = []
    again = FaultySink(np.random.default_rng(0), sink.platter, sink.platter)
    again.forget = lambda start=0: dropped.append(start)  # type: ignore[method-assign]
    resume(again, faults.NOWHERE, commit="manual", threaded=False)
    assert dropped == [before]
