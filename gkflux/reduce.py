"""From runs of any length to the few arrays that the estimators need, in two passes.

The first pass (`survey`) reads every run once: moments of temperature, energy and volume
over blocks of time, frames that are not finite, gaps, and a spectrum over short segments.
From that follow the settings of the second (`plan`): correlation time, decimation,
segment length, lag window, length of the blocks. The second pass (`accumulate`) fills the
exact accumulators of `correlate` and `spectrum`. Both keep to bounded memory: a chunk of
samples, and states whose size does not depend on the length of the runs.

Each run's flux is scaled by its own 1/(T sqrt V), so runs at slightly different
temperatures pool, and the prefactor left is one constant.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np

from gkflux.correlate import Float, LagAccumulator, LagState, PooledLags, merge
from gkflux.errors import FluxError
from gkflux.estimators.cepstral import cepstrum
from gkflux.estimators.first_dip import cumulative
from gkflux.moments import Moments
from gkflux.runs import Chunk, Run
from gkflux.spectrum import Spectrum, SpectrumAccumulator, segment_length

__all__ = [
    "Plan",
    "Reduced",
    "Settings",
    "Survey",
    "accumulate",
    "correlation_time",
    "plan",
    "survey",
]

SURVEY_SEGMENT = 4096
"""Samples of a segment of the first pass."""
MOMENT_BLOCKS = 32
"""Stretches of time whose moments are kept apart: drift is a line through their means."""
MAX_WINDOW = 65_536
"""Lags kept at most."""
MAX_BLOCKS = 32
"""Blocks of all runs together, for errors."""
CURVE_POINTS = 2048
"""Points at which the running integral of a block is kept."""
MAX_PIECES = 256
"""Contiguous pieces that one run may fall into."""


@dataclass(frozen=True)
class Settings:
    """What the caller may choose; None means: decide from the data."""

    mode: str = "default"
    """`default`, `sportran` or `vibes`."""
    method: str = "auto"
    """Estimator of record: `auto` (the composed rule), `cepstral`, `first_dip`,
    `replicas`."""
    fstar: float | None = None
    """f*, THz: the spectrum is decimated to this Nyquist frequency."""
    aic_factor: float = 2.0
    """K = aic_factor * K_AIC."""
    cutoff: int | None = None
    """K itself."""
    lag: float | None = None
    """Longest lag of the autocorrelation, fs."""
    filter_time: float | None = None
    """Width of the filter of the first dip, fs: the period of the slowest vibration."""
    relative_error: float = 0.1
    """Wanted kappa_std / kappa, for the advice how much more data is needed."""


@dataclass(frozen=True)
class Survey:
    """What the first pass found out about one run."""

    run: Run
    pieces: tuple[tuple[int, int], ...]
    """Contiguous, finite ranges of samples."""
    bad: int
    """Samples that are not finite."""
    gaps: int
    """Places where the spacing of the samples is not that of the run."""
    moments: dict[str, tuple[Moments, ...]]
    """Of temperature, energy, volume and the flux components, in blocks of time."""
    spectrum: Spectrum
    """Over short segments, undecimated."""

    def total(self, name: str) -> Moments:
        """Moments of a quantity over the whole run."""
        result = Moments()
        for block in self.moments.get(name, ()):
            result = result.merge(block)
        return result

    @property
    def temperature(self) -> float:
        """Mean kinetic temperature of the frames analysed, K."""
        found = self.total("temperature")
        return found.mean if found.count else float(self.run.temperature or 0.0)

    @property
    def volume(self) -> float:
        """Mean volume of the frames analysed, Å³."""
        found = self.total("volume")
        return found.mean if found.count else float(self.run.volume or 0.0)

    @property
    def scale(self) -> float:
        """1/(T sqrt V): the flux times this pools with that of other runs."""
        return 1.0 / (self.temperature * sqrt(self.volume))


@dataclass(frozen=True)
class Plan:
    """Settings of the second pass, all from the first."""

    tau: float
    """Correlation time, fs: see `correlation_time`."""
    skips: tuple[int, ...]
    """Decimations whose spectra are kept; the scan over f*."""
    skip: int
    """The decimation of record."""
    lengths: tuple[int, ...]
    """N_s for each of `skips`."""
    window: int
    """Longest lag, samples."""
    filter_window: int
    """Filter of the first dip, samples."""
    block: int
    """Samples of a block."""
    group_every: int
    """Segments of a group of the spectrum of record."""


@dataclass
class Reduced:
    """Everything that the estimators need; its size does not depend on the length of the
    runs.
    """

    plan: Plan
    surveys: list[Survey]
    spacing: float
    channels: int
    components: int
    lags: PooledLags
    states: list[LagState] = field(default_factory=list)
    spectra: dict[int, Spectrum] = field(default_factory=dict)
    run_spectra: list[Spectrum] = field(default_factory=list)
    """Of the decimation of record, without the matrix: the groups of each run."""
    block_curves: list[Float] = field(default_factory=list)
    """Running integral of each block at `curve_lags`, scaled, shape (points, C, C)."""
    block_runs: list[int] = field(default_factory=list)
    """Run of each block."""

    @property
    def curve_stride(self) -> int:
        """Lags between two points of `block_curves`."""
        return max(1, ceil((self.plan.window + 1) / CURVE_POINTS))


Progress = Callable[[str, int, int], None]


def survey(run: Run) -> Survey:
    """Read a run once; see `Survey`.

    Raises:
        FluxError: no finite samples, too many gaps, or no temperature or volume.
    """
    length = min(SURVEY_SEGMENT, run.samples)
    spectrum = SpectrumAccumulator(length, run.channels, run.spacing)
    moments: dict[str, list[Moments]] = {}
    tracker = _Pieces(run)
    first: int | None = None
    for chunk in run.chunks():
        if first is None and len(chunk.steps):
            first = int(chunk.steps[0])
        finite = tracker.update(chunk)
        spectrum.update(chunk.flux if finite.all() else chunk.flux[finite])
        series = dict(chunk.scalars)
        for component in range(run.channels):
            series[f"flux_{component}"] = (chunk.steps, chunk.flux[:, component])
        _add_moments(moments, series, first or 0, run)
    result = Survey(
        run,
        tracker.pieces(),
        tracker.bad,
        tracker.gaps,
        {name: tuple(blocks) for name, blocks in moments.items()},
        spectrum.state(),
    )
    _refuse_incomplete(result)
    return result


def _refuse_incomplete(found: Survey) -> None:
    name = found.run.name
    if sum(stop - start for start, stop in found.pieces) < 16:
        raise FluxError(f"{name}: fewer than 16 finite samples of the heat flux")
    if not found.temperature > 0:
        raise FluxError(
            f"{name}: no kinetic temperature; kappa goes with 1/T², give temperature= in K"
        )
    if not found.volume > 0:
        raise FluxError(f"{name}: no volume (a cluster?); give volume= in Å³")


class _Pieces:
    """Finds the contiguous, finite ranges of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen = 0
        self._edges: list[int] = [0]
        self._holes: list[int] = []
        self._last: int | None = None
        self.bad = 0
        self.gaps = 0

    def update(self, chunk: Chunk) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Take a chunk, return which of its samples are finite."""
        finite = np.isfinite(chunk.flux).all(axis=1)
        steps = chunk.steps if self._last is None else np.append(self._last, chunk.steps)
        offset = self._seen + (self._last is None)
        jumps = np.flatnonzero(np.diff(steps) != self._run.every) + offset
        holes = np.flatnonzero(~finite) + self._seen
        self.gaps += len(jumps)
        self.bad += len(holes)
        self._edges += jumps.tolist()
        self._holes += holes.tolist()
        if len(self._edges) + len(self._holes) > 64 * MAX_PIECES:
            self._refuse()
        self._seen += len(chunk.steps)
        if len(chunk.steps):
            self._last = int(chunk.steps[-1])
        return finite

    def pieces(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges of at least two samples."""
        cuts = sorted(
            {*self._edges, *self._holes, *(h + 1 for h in self._holes), self._seen}
        )
        holes = set(self._holes)
        found = [
            (a, b)
            for a, b in zip(cuts, cuts[1:], strict=False)
            if a not in holes and b - a > 1
        ]
        if len(found) > MAX_PIECES or (self._holes and not found):
            self._refuse()
        return tuple(found)

    def _refuse(self) -> None:
        raise FluxError(
            f"{self._run.name}: {self.bad} samples are not finite and {self.gaps} are not "
            f"{self._run.every} steps after the one before; keep the evenly spaced, finite ones"
        )


def _add_moments(
    moments: dict[str, list[Moments]],
    series: dict[str, tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", Float]],
    first: int,
    run: Run,
) -> None:
    span = max(1, run.samples * run.every)
    for name, (steps, values) in series.items():
        blocks = moments.setdefault(name, [Moments()] * MOMENT_BLOCKS)
        where = np.clip((steps - first) * MOMENT_BLOCKS // span, 0, MOMENT_BLOCKS - 1)
        for index in np.unique(where):
            blocks[index] = blocks[index].merge(Moments.of(values[where == index]))


def correlation_time(spectrum: Float, frequency: Float) -> float:
    """Return the time that resolves the spectrum near zero frequency, fs.

    It is 1/(2 pi f_2), f_2 the lowest frequency at which the (smooth) spectrum has left
    the range from half to twice its value at zero: exactly tau for an exponential decay,
    and for a solid, whose flux oscillates, the scale on which the spectrum rises from
    kappa to its first band. It is this, not the integral of the normalised
    autocorrelation (which oscillations make as small as one likes), that says how long a
    run must be. White noise gives half the sampling time.

    Args:
        spectrum: smooth density, shape (bins,).
        frequency: THz, shape (bins,).
    """
    ratio = spectrum / spectrum[0]
    away = np.flatnonzero((ratio < 0.5) | (ratio > 2.0))
    bin_ = int(away[0]) if len(away) else len(frequency) - 1
    if not len(away):
        return float(1e3 / (4 * frequency[bin_]))
    low, high = np.log(ratio[bin_ - 1]), np.log(ratio[bin_])
    edge = np.log(2.0) * np.sign(high)
    part = (edge - low) / (high - low)
    half = frequency[bin_ - 1] + part * (frequency[bin_] - frequency[bin_ - 1])
    return float(1e3 / (2 * np.pi * half))


def plan(surveys: Sequence[Survey], settings: Settings) -> Plan:
    """Choose the settings of the second pass."""
    spacing = surveys[0].run.spacing
    lengths = [stop - start for s in surveys for start, stop in s.pieces]
    smooth, frequency = _pooled_survey(surveys)
    tau = correlation_time(smooth, frequency)
    if settings.mode == "sportran":
        return _sportran_plan(settings, spacing, lengths, tau)
    skip = _edge_skip(smooth, frequency, settings, max(lengths))
    skips = _scan(skip, max(lengths), tau / spacing) if settings.fstar is None else (skip,)
    least = [max(2048, ceil(200 * tau / (spacing * s))) for s in skips]
    chosen = tuple(
        segment_length([n // s for n in lengths], low)
        for s, low in zip(skips, least, strict=True)
    )
    filter_window = _filter_window(smooth, frequency, settings, tau, spacing)
    window = _window(settings, spacing, lengths, tau, filter_window)
    block = _block(lengths, window, tau / spacing, filter_window)
    segments = sum(n // skip // chosen[skips.index(skip)] for n in lengths)
    return Plan(
        tau, skips, skip, chosen, window, filter_window, block, max(1, ceil(segments / 64))
    )


def _sportran_plan(
    settings: Settings, spacing: float, lengths: list[int], tau: float
) -> Plan:
    skip = 1 if settings.fstar is None else max(1, round(500.0 / spacing / settings.fstar))
    decimated = (min(lengths) - min(lengths) % 2) // skip
    window = min(MAX_WINDOW, min(lengths) // 2)
    filter_window = max(3, round(2 * tau / spacing))
    length = decimated - decimated % 2
    return Plan(tau, (skip,), skip, (length,), window, filter_window, min(lengths), 1)


def _pooled_survey(surveys: Sequence[Survey]) -> tuple[Float, Float]:
    longest = max(s.spectrum.length for s in surveys)
    pooled: Spectrum | None = None
    for found in surveys:
        if found.spectrum.length == longest and found.spectrum.segments:
            part = found.spectrum.scaled(found.scale)
            pooled = part if pooled is None else pooled.merge(part)
    assert pooled is not None
    components = min(3, pooled.matrix.shape[1])
    power = np.einsum("kaa->k", pooled.matrix[:, :components, :components]).real
    dof = components * pooled.segments
    fit = cepstrum(_positive(power / dof), dof=dof, length=longest)
    return fit.smooth(), pooled.frequency


def _positive(power: Float) -> Float:
    """Lift bins without power (a constant component, a removed mean) above zero."""
    if not np.any(power > 0):
        raise FluxError("the heat flux is zero throughout; was it computed?")
    return np.maximum(power, power[power > 0].min() * 1e-3 if np.any(power <= 0) else 0.0)


def _edge_skip(smooth: Float, frequency: Float, settings: Settings, longest: int) -> int:
    """Decimate to the frequency below which 99 % of the power lies, or to f*."""
    nyquist = frequency[-1]
    if settings.fstar is not None:
        return max(1, round(nyquist / settings.fstar))
    share = np.cumsum(smooth) / smooth.sum()
    edge = frequency[min(len(share) - 1, int(np.searchsorted(share, 0.99)) + 1)]
    return int(max(1, min(nyquist // edge, longest // 512)))


def _scan(skip: int, longest: int, tau: float) -> tuple[int, ...]:
    """Decimations around `skip`, none of which averages over more than two thirds of
    tau.
    """
    most = max(skip, min(longest // 512, int(tau / 1.5)))
    wanted = {max(1, round(skip * factor)) for factor in (0.5, 0.75, 1, 1.5, 2, 3, 4)}
    return tuple(sorted(s for s in wanted if s <= most or s == skip))


def _filter_window(
    smooth: Float, frequency: Float, settings: Settings, tau: float, spacing: float
) -> int:
    """One period of the slowest peak of the spectrum, or 2 tau where it has none."""
    if settings.filter_time is not None:
        return max(3, int(settings.filter_time / spacing))
    logs = np.log(smooth)
    rises = np.flatnonzero((logs[1:-1] > logs[:-2]) & (logs[1:-1] >= logs[2:])) + 1
    peaks = [p for p in rises if logs[p] - logs[:p].min() > np.log(1.5)]
    period = 1e3 / frequency[peaks[0]] if peaks else 2 * tau
    return max(3, ceil(max(period, tau) / spacing))


def _window(
    settings: Settings, spacing: float, lengths: list[int], tau: float, filter_window: int
) -> int:
    if settings.lag is not None:
        return int(max(16, min(settings.lag / spacing, max(lengths) - 1)))
    if settings.mode == "vibes":
        return int(min(MAX_WINDOW, max(lengths) - 1))
    wanted = max(40 * tau / spacing, 12 * filter_window, 64)
    return int(max(16, min(wanted, max(lengths) // 4, MAX_WINDOW)))


def _block(lengths: list[int], window: int, tau: float, filter_window: int) -> int:
    """Samples of a block: at most 32 blocks in all, each long against the cut."""
    least = max(1.5 * window, 100 * tau, 20 * filter_window)
    return ceil(max(sum(lengths) / MAX_BLOCKS, min(least, max(lengths) / 4)))


def accumulate(
    surveys: Sequence[Survey],
    chosen: Plan,
    *,
    progress: Progress | None = None,
    workers: int = 1,
) -> Reduced:
    """Read every run a second time and fill the accumulators.

    Args:
        surveys: the first pass.
        chosen: `plan` of them.
        progress: called with what is done, how many runs are, and of how many.
        workers: threads, one run each; the transforms release the interpreter lock.
    """
    first = surveys[0].run
    components = min(3, first.channels)
    result = Reduced(
        chosen,
        list(surveys),
        first.spacing,
        first.channels,
        components,
        PooledLags(chosen.window, components),
    )
    mean = _mean(surveys, components)
    reducers = [_RunReducer(s, chosen, components, mean) for s in surveys]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for number, done in enumerate(pool.map(_RunReducer.reduce, reducers)):
            _pool(result, done, number)
            if progress is not None:
                progress(f"reduced {done.found.run.name}", number + 1, len(surveys))
    return result


def _mean(surveys: Sequence[Survey], components: int) -> Float:
    """Mean of the scaled flux over all runs, shape (components,)."""
    total, count = np.zeros(components), 0
    for found in surveys:
        parts = [found.total(f"flux_{a}") for a in range(components)]
        total += found.scale * np.array([p.mean * p.count for p in parts])
        count += parts[0].count
    return total / count


class _RunReducer:
    """The second pass over one run."""

    def __init__(self, found: Survey, chosen: Plan, components: int, mean: Float) -> None:
        self.found = found
        self._plan = chosen
        self._components = components
        self._mean = mean
        self.states: list[LagState] = []
        self.curves: list[Float] = []
        self.spectra: dict[int, Spectrum] = {}

    def reduce(self) -> "_RunReducer":
        """Read the run; the results are attributes."""
        for start, stop in self.found.pieces:
            self._reduce_piece(start, stop)
        return self

    def _reduce_piece(self, start: int, stop: int) -> None:
        chosen, run = self._plan, self.found.run
        spectra = {
            skip: SpectrumAccumulator(
                length,
                run.channels,
                run.spacing,
                skip,
                chosen.group_every if skip == chosen.skip else 0,
            )
            for skip, length in zip(chosen.skips, chosen.lengths, strict=True)
        }
        blocks = max(1, (stop - start) // chosen.block)
        edges = np.linspace(start, stop, blocks + 1).astype(int)[1:].tolist()
        state = LagState.empty(chosen.window, self._components)
        leaf = LagAccumulator(chosen.window, self._components)
        for rows in self._rows(start, stop, edges):
            leaf.update(rows[0][:, : self._components])
            for spectrum in spectra.values():
                spectrum.update(rows[0])
            if rows[1]:  # the end of a block
                part = leaf.state()
                self.curves.append(self._curve(part))
                state = merge(state, part)
                leaf = LagAccumulator(chosen.window, self._components)
        self.states.append(state)
        for skip, spectrum in spectra.items():
            part_spectrum = spectrum.state()
            known = self.spectra.get(skip)
            self.spectra[skip] = (
                part_spectrum if known is None else known.merge(part_spectrum)
            )

    def _rows(
        self, start: int, stop: int, edges: list[int]
    ) -> Iterator[tuple[Float, bool]]:
        """Give the samples of a piece, cut at the ends of blocks."""
        at, ends = 0, iter(edges)
        end = next(ends)
        for chunk in self.found.run.chunks():
            low, high = max(start, at), min(stop, at + len(chunk.flux))
            while low < high:
                upto = min(high, end)
                yield chunk.flux[low - at : upto - at], upto == end
                low = upto
                if upto == end:
                    end = next(ends, stop)
            at += len(chunk.flux)
            if at >= stop:
                return

    def _curve(self, block: LagState) -> Float:
        """Running integral of one block, centred by the mean of all data, thinned."""
        pool = PooledLags(block.window, self._components)
        pool.add(block, self.found.scale)
        autocorrelation = pool.finalize(mean=self._mean)
        curve = cumulative(autocorrelation, self.found.run.spacing)
        stride = max(1, ceil((block.window + 1) / CURVE_POINTS))
        thinned: Float = curve[::stride].copy()
        return thinned


def _pool(result: Reduced, done: _RunReducer, number: int) -> None:
    scale = done.found.scale
    for state in done.states:
        result.lags.add(state, scale)
    for skip, spectrum in done.spectra.items():
        part = spectrum.scaled(scale)
        known = result.spectra.get(skip)
        result.spectra[skip] = part if known is None else known.merge(part)
        if skip == result.plan.skip:
            result.run_spectra.append(part)
    result.block_curves += done.curves
    result.block_runs += [number] * len(done.curves)
