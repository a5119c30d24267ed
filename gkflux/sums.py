"""The second pass over one run: lag sums of its blocks, spectra of its segments.

A contiguous piece of a run is divided into blocks, whose running integrals say how large
the errors are; a leaf (see `leaves`) is a part of a block, or several whole ones. Segments
take no notice of either. What is kept does not grow with the length of the run.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gkflux.correlate import Float, LagAccumulator, LagState, PooledLags, merge
from gkflux.estimators.first_dip import cumulative
from gkflux.leaves import LEAF, Leaf
from gkflux.plan import Plan
from gkflux.runs import Run
from gkflux.segments import Layout, SegmentLeaf, SegmentState, merge_segments
from gkflux.spectrum import Spectrum

__all__ = ["PieceSums", "RunSums", "Summation", "Sums"]


class Sums(NamedTuple):
    """What pieces that do not touch hold, together."""

    lags: PooledLags
    terms: Float
    """Of their blocks, see `_terms`; shape (blocks, 1 + C, points)."""
    spectra: tuple[Spectrum, ...]
    """One a decimation."""

    def merge(self, other: "Sums") -> "Sums":
        """Return what both hold."""
        spectra = zip(self.spectra, other.spectra, strict=True)
        return Sums(
            self.lags.merge(other.lags),
            np.concatenate([self.terms, other.terms]),
            tuple(mine.merge(theirs) for mine, theirs in spectra),
        )


class PieceSums(NamedTuple):
    """What consecutive samples of one piece hold."""

    number: int
    """Of the piece in its run."""
    whole: LagState
    """Of whole blocks."""
    rest: LagState
    """Of the samples behind them."""
    terms: Float
    """Of the whole blocks."""
    spectra: tuple[SegmentState, ...]
    """One a decimation."""

    def close(self) -> Sums:
        """Return what the piece holds, if nothing follows."""
        lags = PooledLags.of(merge(self.whole, self.rest))
        return Sums(lags, self.terms, tuple(one.finalize() for one in self.spectra))


class RunSums(NamedTuple):
    """What consecutive samples of a run hold."""

    closed: tuple[Sums, ...]
    """Of all pieces but the last: none, or one."""
    last: PieceSums

    def close(self) -> Sums:
        """Return what the run holds."""
        last = self.last.close()
        return self.closed[0].merge(last) if self.closed else last


class Summation(NamedTuple):
    """The second pass over one run; travels to where its leaves are read."""

    run: Run
    pieces: tuple[tuple[int, int], ...]
    plan: Plan
    components: int

    @property
    def leaves(self) -> list[Leaf]:
        """A part of a block each, or several blocks; of one piece."""
        last = self.pieces[-1]
        return [
            Leaf(a, b, piece != last or b < piece[1])
            for piece in self.pieces
            for a, b in pairwise(self._edges(*piece))
        ]

    def _edges(self, start: int, stop: int) -> list[int]:
        """Where leaves begin, and the end of the piece; only that end depends on it."""
        block = self.plan.block
        if block <= LEAF:
            return [*range(start, stop, LEAF // block * block), stop]
        blocks = range(start, stop, block)
        return [*(a for b in blocks for a in range(b, min(b + block, stop), LEAF)), stop]

    def read(self, leaf: Leaf) -> RunSums:
        """Read one leaf."""
        number = next(n for n, piece in enumerate(self.pieces) if leaf.start < piece[1])
        origin = self.pieces[number][0]
        spectra = [
            SegmentLeaf(layout, leaf.start - origin, leaf.stop - origin)
            for layout in self._layouts()
        ]
        lags = _Blocks(self.plan, self.components, self.run, leaf.start - origin)
        for chunk in self.run.read(leaf.start, leaf.stop):
            lags.update(chunk.flux[:, : self.components])
            for spectrum in spectra:
                spectrum.update(chunk.flux)
        states = tuple(spectrum.state() for spectrum in spectra)
        return RunSums((), PieceSums(number, *lags.state(), states))

    def _layouts(self) -> list[Layout]:
        run, chosen = self.run, self.plan
        return [
            Layout(
                length,
                skip,
                run.spacing,
                run.channels,
                chosen.group_every if skip == chosen.skip else 0,
            )
            for skip, length in zip(chosen.skips, chosen.lengths, strict=True)
        ]

    def merge(self, first: RunSums, second: RunSums) -> RunSums:
        """What is in both; `second` is a leaf, and follows."""
        if first.last.number != second.last.number:
            return RunSums((first.close(),), second.last)
        return RunSums(first.closed, self._merge(first.last, second.last))

    def _merge(self, first: PieceSums, second: PieceSums) -> PieceSums:
        spectra = zip(first.spectra, second.spectra, strict=True)
        whole, rest = merge(first.whole, second.whole), merge(first.rest, second.rest)
        terms = [first.terms, second.terms]
        if rest.count == self.plan.block:
            terms.append(_terms(rest, self.plan, self.run.spacing)[None])
            whole, rest = merge(whole, rest), LagState.empty(rest.window, self.components)
        return PieceSums(
            first.number,
            whole,
            rest,
            np.concatenate(terms),
            tuple(merge_segments(mine, theirs) for mine, theirs in spectra),
        )

    def key(self) -> dict[str, object]:
        """What a state of this pass depends on, beside the run."""
        chosen = self.plan
        return {
            "pass": "sums",
            "pieces": self.pieces[:-1],
            "origin of the last piece": self.pieces[-1][0],
            "components": self.components,
            "window": chosen.window,
            "block": chosen.block,
            "skips": chosen.skips,
            "lengths": chosen.lengths,
            "group": [chosen.skip, chosen.group_every],
        }


class _Blocks:
    """Lag sums of a leaf, block by block."""

    def __init__(self, chosen: Plan, components: int, run: Run, start: int) -> None:
        self._plan, self._components, self._run = chosen, components, run
        self._whole = LagState.empty(chosen.window, components)
        self._leaf = LagAccumulator(chosen.window, components)
        self._missing = chosen.block - start % chosen.block
        """Samples to the end of the block."""
        self._begun = start % chosen.block > 0
        """Whether the block began in another leaf: it is not ours to close."""
        self._terms: list[Float] = []

    def update(self, rows: Float) -> None:
        """Take the samples that follow."""
        while len(rows):
            taken, rows = rows[: self._missing], rows[self._missing :]
            self._leaf.update(taken)
            self._missing -= len(taken)
            if not self._missing and not self._begun:
                self._close()

    def _close(self) -> None:
        block = self._leaf.state()
        self._terms.append(_terms(block, self._plan, self._run.spacing))
        self._whole = merge(self._whole, block)
        self._leaf = LagAccumulator(self._plan.window, self._components)
        self._missing = self._plan.block

    def state(self) -> tuple[LagState, LagState, Float]:
        """Return the sums of whole blocks, those of the rest, and terms of the blocks."""
        points = -(-(self._plan.window + 1) // self._plan.curve_stride)
        none = np.zeros((0, 1 + self._components, points))
        terms = np.stack(self._terms) if self._terms else none
        return self._whole, self._leaf.state(), terms


def _terms(block: LagState, chosen: Plan, spacing: float) -> Float:
    r"""Running integrals from which that of a block follows, whatever mean is taken off.

    The autocorrelation of x - m is, summed over components,

    .. math:: \sum_a \frac{S_{aa}(k)}{n_k} - m_a \frac{L_a(k) + E_a(k)}{n_k} + m_a^2

    with n pairs, L and E the sums over their later and earlier samples; the integral of
    each term is kept, the first one summed, thinned; shape (1 + C, points), nan at lags
    without pairs.
    """
    late, early = block.edge_sums()
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = block.pairs[:, None]
        traces = np.einsum("kaa->k", block.sums)[:, None] / pairs
        curves = np.concatenate([traces, (late + early) / pairs], axis=1)
    thinned: Float = cumulative(curves, spacing)[:: chosen.curve_stride].T
    return np.ascontiguousarray(thinned)
