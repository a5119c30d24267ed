r"""Spectra of one contiguous run from any cuts of it: a monoid, as `correlate.LagState` is.

Segments begin at multiples of `span` = N_s x skip samples from the start of the run, be the
run cut where it may. A state of the samples from `start` up to `stop` holds the sum over
the whole segments in between, and as they are the samples before the first and behind the
last of them; `merge` completes the segment that straddles the seam. So any tree of merges
over any cuts sums the same segments.
"""

from dataclasses import dataclass, replace

import numpy as np

from gkflux.correlate import Float
from gkflux.spectrum import Spectrum, SpectrumAccumulator

__all__ = ["Layout", "SegmentLeaf", "SegmentState", "merge_segments"]

Complex = np.ndarray[tuple[int, ...], np.dtype[np.complex128]]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Layout:
    """How a run is decimated and cut into segments."""

    length: int
    """N_s, decimated samples of a segment."""
    skip: int
    """Samples of a block mean."""
    spacing: float
    """Between samples before decimation, fs."""
    channels: int
    group_every: int = 0
    """Segments whose power is kept apart as one group; 0: none is."""

    @property
    def span(self) -> int:
        """Samples of a segment before decimation."""
        return self.length * self.skip

    def accumulator(self, segment: int) -> SpectrumAccumulator:
        """Return an empty sum, whose first segment has this number."""
        return SpectrumAccumulator(
            self.length,
            self.channels,
            self.spacing,
            self.skip,
            self.group_every,
            first=segment,
        )


@dataclass(frozen=True)
class SegmentState:
    """Spectral sums of the samples from `start` up to `stop` of a contiguous run."""

    layout: Layout
    start: int
    stop: int
    sums: Spectrum
    """Over the whole segments."""
    head: Float
    """Samples before the first beginning of a segment; all, where there is none."""
    tail: Float
    """Samples behind the last one, shape (k, C)."""

    @property
    def open(self) -> bool:
        """Whether no segment begins or ends here."""
        return -(-self.start // self.layout.span) * self.layout.span > self.stop

    def finalize(self) -> Spectrum:
        """Return the sum over the whole segments; what is left over is counted."""
        left = (len(self.head) + len(self.tail)) // self.layout.skip
        return replace(self.sums, dropped=left)


class SegmentLeaf:
    """Feed it the samples from `start` up to `stop` in order, take the `SegmentState`."""

    def __init__(self, layout: Layout, start: int, stop: int) -> None:
        span = layout.span
        low = -(-start // span) * span
        high = stop // span * span
        self._layout, self._range = layout, (start, stop)
        self._edges = (stop, stop) if low > stop else (low, high)
        self._at = start
        self._head: list[Float] = []
        self._tail: list[Float] = []
        self._sums = layout.accumulator(low // span)

    def update(self, rows: Float) -> None:
        """Take the samples that follow, shape (k, C)."""
        low, high = (min(max(0, edge - self._at), len(rows)) for edge in self._edges)
        if low:
            self._head.append(rows[:low].copy())
        if high > low:
            self._sums.update(rows[low:high])
        if high < len(rows):
            self._tail.append(rows[high:].copy())
        self._at += len(rows)

    def state(self) -> SegmentState:
        """Return the state of all samples of the range."""
        empty = np.zeros((0, self._layout.channels))
        return SegmentState(
            self._layout,
            *self._range,
            self._sums.state(),
            np.concatenate([empty, *self._head]),
            np.concatenate([empty, *self._tail]),
        )


def merge_segments(first: SegmentState, second: SegmentState) -> SegmentState:
    """Return the state of both ranges together; `second` follows `first` without a gap."""
    if first.layout != second.layout or first.stop != second.start:
        raise ValueError(
            f"states of the samples up to {first.stop} and from {second.start} on do not "
            "merge, or those of different segments"
        )
    layout, sums = first.layout, first.sums
    if first.open:
        head = np.concatenate([first.head, second.head])
        return SegmentState(
            layout, first.start, second.stop, second.sums, head, second.tail
        )
    tail = np.concatenate([first.tail, second.head])
    if not second.open:
        if len(tail):  # one whole segment
            straddling = layout.accumulator(first.stop // layout.span)
            straddling.update(tail)
            sums = sums.join(straddling.state())
        sums, tail = sums.join(second.sums), second.tail
    return SegmentState(layout, first.start, second.stop, sums, first.head, tail)
