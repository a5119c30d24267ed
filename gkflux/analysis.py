"""From the accumulated states to estimates, tensor and curves: pure functions of `Reduced`.

All kappa are those of the scaled flux J/(T sqrt V), so that kappa = PREFACTOR * integral.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.estimators.blocks import block_values, log_estimate, log_zeros
from gkflux.estimators.cepstral import Cepstrum, cepstrum, schur_power
from gkflux.estimators.composed import component_mean, compose, isotropy, named
from gkflux.estimators.estimate import Estimate, mean_estimate
from gkflux.estimators.first_dip import Dip, cumulative, find_dip, hann, vibes
from gkflux.plan import Settings, correlation_time
from gkflux.reduce import Reduced
from gkflux.spectrum import Spectrum
from stepson.units import BOLTZMANN, CONDUCTIVITY

Complex = NDArray[np.complex128]

__all__ = ["PREFACTOR", "Analysis", "analyse"]

PREFACTOR = CONDUCTIVITY / BOLTZMANN
"""kappa in W/(m K) of a time integral of <x x>, x = J/(T sqrt V), in eV²/(fs Å K²)."""

HOLE = 1e-12
"""Power at zero frequency, of that in the next bin, that only a removed mean leaves."""
SPORTRAN_PREFACTOR = 1.6021765e-19**2 / 1.3806504e-23 * 1e25
"""The same with the constants that SporTran pins."""


@dataclass(frozen=True)
class Analysis:
    """Everything that was estimated."""

    methods: Mapping[str, Estimate]
    record: Estimate
    """The estimate quoted."""
    reason: str
    """Why this one, in words."""
    tensor: Float
    tensor_std: Float
    tau: float
    """Correlation time, fs."""
    chance: float
    """Chance that components as different as these are equal."""
    cepstrum: Cepstrum
    spectrum: Spectrum
    dip: Dip
    blocks: Float
    """kappa of every block, W/(m K)."""
    replicas: Float
    """Of every run, W/(m K)."""
    logs: Float
    """L0 of every group of segments at the common K."""
    components: int
    curves: Mapping[str, Float]


def analyse(data: Reduced, settings: Settings) -> Analysis:
    """Estimate kappa in every way that the data allow."""
    prefactor = SPORTRAN_PREFACTOR if settings.mode == "sportran" else PREFACTOR
    spectrum = data.spectra[data.plan.skip]
    fit = _fit(spectrum, data.components, settings)
    methods: dict[str, Estimate] = {
        "cepstral": _cepstral("cepstral", fit, fit.cutoff, prefactor),
        "cepstral_aic": _cepstral("cepstral_aic", fit, fit.cutoff_aic, prefactor),
    }
    tau = correlation_time(fit.smooth(), spectrum.frequency)
    logs, weights = _groups(data, fit)
    if len(logs) >= 3:
        methods["segments"] = log_estimate("segments", logs, weights, prefactor / 2)
    runs, run_weights = _run_logs(data, fit)
    if len(runs) >= 3:
        methods["replicas"] = log_estimate("replicas", runs, run_weights, prefactor / 2)
    dip, curves, blocks = _dip(data, prefactor, settings)
    if data.channels == data.components:  # else the flux alone integrates to something else
        if len(blocks):
            methods["blocks"] = mean_estimate("blocks", blocks)
        methods["first_dip"] = _dip_estimate(dip, methods.get("blocks"), data)
    tensor, tensor_std = _tensor(spectrum, fit, data.components, prefactor)
    chance = isotropy(np.diag(tensor), np.diag(tensor_std))
    if data.components > 1 and np.all(np.isfinite(tensor_std)):
        methods["components"] = component_mean(np.diag(tensor), np.diag(tensor_std))
    if settings.mode == "vibes":
        tensor, tensor_std = _vibes(data, prefactor, methods)
    record, reason = _record(methods, chance, settings)
    curves |= _spectral_curves(data, fit, settings, prefactor)
    return Analysis(
        methods,
        record,
        reason,
        tensor,
        tensor_std,
        tau,
        chance,
        fit,
        spectrum,
        dip,
        blocks,
        prefactor / 2 * np.exp(runs),
        logs,
        data.components,
        curves,
    )


def _fit(spectrum: Spectrum, components: int, settings: Settings) -> Cepstrum:
    if not spectrum.segments:
        raise FluxError("no run is long enough for one segment of the spectrum")
    matrix = _currents(spectrum, range(components), components)
    power, dof = schur_power(matrix, components * spectrum.segments)
    power = _without_hole(power)
    factor = 1.0 if settings.mode == "sportran" else settings.aic_factor
    return cepstrum(
        power, dof=dof, length=spectrum.length, factor=factor, cutoff=settings.cutoff
    )


def _without_hole(power: Float) -> Float:
    """Fill the zero-frequency bin of a series whose mean was taken off before we saw it.

    Its logarithm would be that of a rounding error, and ruin kappa; its neighbour has the
    same expectation, as far as segments resolve the spectrum at all.
    """
    if len(power) > 2 and power[0] < HOLE * power[1]:
        return np.concatenate([power[1:2], power[1:]])
    return power


def _currents(
    spectrum: Spectrum, chosen: "range | tuple[int, ...]", components: int
) -> Complex:
    """Sum the density matrices of the currents over the chosen components."""
    matrix = spectrum.matrix
    currents = matrix.shape[1] // components
    blocks = [
        matrix[:, [m * components + a for m in range(currents)]][
            :, :, [m * components + a for m in range(currents)]
        ]
        for a in chosen
    ]
    total: Complex = np.sum(blocks, axis=0)
    return total


def _cepstral(name: str, fit: Cepstrum, cutoff: int, prefactor: float) -> Estimate:
    kappa = prefactor / 2 * float(np.exp(fit.log_zero(cutoff)))
    details = {"K": cutoff, "l": fit.dof, "N": fit.length}
    return Estimate(name, kappa, kappa * fit.log_zero_std(cutoff), details=details)


def _groups(data: Reduced, fit: Cepstrum) -> tuple[Float, Float]:
    """L0 of every group of segments; none for several currents, whose power is not kept."""
    spectrum = data.spectra[data.plan.skip]
    if data.channels != data.components or not len(spectrum.groups):
        return np.zeros(0), np.zeros(0)
    dofs = spectrum.group_segments.astype(float) * data.components
    powers = spectrum.groups / dofs[:, None]
    logs = log_zeros(powers, dofs, length=fit.length, cutoff=fit.cutoff)
    return logs, spectrum.group_segments.astype(float)


def _run_logs(data: Reduced, fit: Cepstrum) -> tuple[Float, Float]:
    """L0 of every run that has a segment."""
    segments = np.array(data.run_segments, dtype=float)
    known = segments > 0
    if data.channels != data.components or not known.any():
        return np.zeros(0), np.zeros(0)
    dofs = segments[known] * data.components
    powers = np.array(data.run_powers)[known] / dofs[:, None]
    return log_zeros(powers, dofs, length=fit.length, cutoff=fit.cutoff), segments[known]


def _dip(
    data: Reduced, prefactor: float, settings: Settings
) -> tuple[Dip, dict[str, Float], Float]:
    autocorrelation = data.lags.finalize()
    reach = int(np.count_nonzero(data.lags.pairs))
    autocorrelation = autocorrelation[:reach]
    integral = prefactor * cumulative(autocorrelation, data.spacing)
    mean = np.einsum("kaa->k", integral) / data.components
    dip = find_dip(mean, spacing=data.spacing, window=data.plan.filter_window)
    curves = {
        "lag_time": np.arange(reach, dtype=np.float64) * data.spacing,
        "autocorrelation": autocorrelation,
        "kappa_cumulative": integral,
        "kappa_cumulative_filtered": dip.curve,
        "autocorrelation_filtered": dip.slope / prefactor,
    }
    stride = data.plan.curve_stride
    if dip.index < 0 or len(data.block_curves) < 2:
        return dip, curves, np.zeros(0)
    blocks = prefactor * block_values(
        data.block_curves,
        index=dip.index / stride,
        window=data.plan.filter_window // stride,
    )
    return dip, curves, blocks


def _dip_estimate(dip: Dip, blocks: Estimate | None, data: Reduced) -> Estimate:
    details = {"cut": dip.time, "filter": data.plan.filter_window * data.spacing}
    if blocks is None:
        return Estimate("first_dip", dip.value, nan, details=details)
    return Estimate("first_dip", dip.value, blocks.std, blocks.dof, details)


def _record(
    methods: Mapping[str, Estimate], chance: float, settings: Settings
) -> tuple[Estimate, str]:
    if settings.method != "auto":
        return named(methods, settings.method)
    if settings.mode == "default":
        return compose(methods, chance)
    return named(methods, {"sportran": "cepstral", "vibes": "vibes"}[settings.mode])


def _tensor(
    spectrum: Spectrum, fit: Cepstrum, components: int, prefactor: float
) -> tuple[Float, Float]:
    """Estimate every element at the common K; off-diagonal ones by polarisation.

    kappa_ab = (kappa_+ - kappa_-)/2, kappa_± those of the flux along (a ± b)/sqrt 2: a
    cross spectrum has no logarithm, but these two have.
    """
    tensor = np.full((components, components), nan)
    errors = np.full_like(tensor, nan)

    def element(
        matrix: Complex,
    ) -> tuple[float, float]:
        power, dof = schur_power(matrix, spectrum.segments)
        power = _without_hole(power)
        if not np.all(power > 0):
            return 0.0, nan  # no flux at all in this direction
        one = cepstrum(power, dof=dof, length=spectrum.length, cutoff=fit.cutoff)
        kappa = prefactor / 2 * one.zero
        return kappa, kappa * one.log_zero_std()

    if spectrum.segments < spectrum.matrix.shape[1] // components:
        return tensor, errors
    for a in range(components):
        tensor[a, a], errors[a, a] = element(_currents(spectrum, (a,), components))
        for b in range(a):
            if spectrum.matrix.shape[1] != components:
                continue
            cross = spectrum.matrix[:, a, b].real
            mean = (spectrum.matrix[:, a, a] + spectrum.matrix[:, b, b]).real / 2
            plus, plus_std = element((mean + cross)[:, None, None].astype(complex))
            minus, minus_std = element((mean - cross)[:, None, None].astype(complex))
            tensor[a, b] = tensor[b, a] = (plus - minus) / 2
            errors[a, b] = errors[b, a] = sqrt(plus_std**2 + minus_std**2) / 2
    return tensor, errors


def _vibes(
    data: Reduced, prefactor: float, methods: dict[str, Estimate]
) -> tuple[Float, Float]:
    autocorrelation = data.lags.finalize(biased=True)[: data.lags.count]
    taper = hann(data.lags.count)[: len(autocorrelation)]
    integral = prefactor * cumulative(autocorrelation * taper[:, None, None], data.spacing)
    found = vibes(integral, spacing=data.spacing, window=data.plan.filter_window)
    details = {f"cut_{a}{a}": float(found.cut[a, a]) for a in range(data.components)}
    kappa = float(np.diag(found.kappa).mean())
    methods["vibes"] = Estimate("vibes", kappa, found.std, details=details)
    return found.kappa, np.full_like(found.kappa, nan)


def _spectral_curves(
    data: Reduced, fit: Cepstrum, settings: Settings, prefactor: float
) -> dict[str, Float]:
    """Spectra in W/(m K), kappa against K and against f*."""
    spectrum = data.spectra[data.plan.skip]
    total, n = data.survey_spectrum, data.components
    heat = np.einsum("kaa->k", total.matrix[:, :n, :n]).real / (total.segments * n)
    scan = np.array(
        [_scan_row(data.spectra[s], data, settings, prefactor) for s in data.plan.skips]
    )
    keep = min(len(fit.aic), max(4 * fit.cutoff_aic, 2 * fit.cutoff, 20))
    kappas = prefactor / 2 * np.exp(fit.log_zeros)
    power = schur_power(
        _currents(spectrum, range(data.components), data.components),
        data.components * spectrum.segments,
    )[0]
    power = _without_hole(power)
    return {
        "survey_frequency": total.frequency,
        "survey_spectrum": prefactor / 2 * heat,
        "frequency": spectrum.frequency,
        "spectrum": prefactor / 2 * power,
        "spectrum_fit": prefactor / 2 * fit.smooth(),
        "cutoff": np.arange(keep, dtype=float),
        "kappa_of_cutoff": kappas[:keep],
        "kappa_of_cutoff_std": (kappas * fit.log_zero_stds)[:keep],
        "aic": fit.aic[:keep],
        "fstar": scan[:, 0],
        "kappa_of_fstar": scan[:, 1],
        "kappa_of_fstar_std": scan[:, 2],
        "block_curves": prefactor * np.array(data.block_curves),
    }


def _scan_row(
    spectrum: Spectrum, data: Reduced, settings: Settings, prefactor: float
) -> tuple[float, float, float]:
    if not spectrum.segments:
        return spectrum.nyquist, nan, nan
    fit = _fit(spectrum, data.components, settings)
    kappa = prefactor / 2 * fit.zero
    return spectrum.nyquist, kappa, kappa * fit.log_zero_std()
