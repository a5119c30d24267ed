"""From the accumulated states to estimates, tensor and curves: pure functions of `Reduced`.

All kappa are those of the scaled flux J/(T sqrt V), so that kappa = PREFACTOR * integral.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np

from gkflux.correlate import Float
from gkflux.estimators.blocks import block_values, log_estimate, log_zeros
from gkflux.estimators.cepstral import Cepstrum
from gkflux.estimators.composed import component_mean, compose, isotropy, named
from gkflux.estimators.estimate import Estimate, mean_estimate
from gkflux.estimators.first_dip import Dip, cumulative, find_dip, hann, vibes
from gkflux.plan import Settings, correlation_time, smoothed
from gkflux.reduce import Reduced
from gkflux.spectrum import Spectrum
from gkflux.symmetry import Symmetry
from gkflux.tensor import (
    ClassValue,
    Tensor,
    cepstral,
    class_mean,
    fit,
    plain_tensor,
    power_of,
    symmetric_tensor,
    turned,
)
from stepson.units import BOLTZMANN, CONDUCTIVITY

__all__ = ["PREFACTOR", "Analysis", "analyse"]

PREFACTOR = CONDUCTIVITY / BOLTZMANN
"""kappa in W/(m K) of a time integral of <x x>, x = J/(T sqrt V), in eV²/(fs Å K²)."""

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
    tensor: Tensor
    """Averaged over the point group, where it is known."""
    plain: Tensor
    """Every element for itself."""
    classes: tuple[ClassValue, ...]
    """Of equivalent components, where the point group is known."""
    inside: Tensor
    """`plain` along the axes of the classes; without them `plain` itself."""
    tau: float
    """Correlation time, fs."""
    chance: float
    """Chance that components as different as these are equal; with a point group: those
    of a class."""
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

    @property
    def equivalent(self) -> int:
        """Components of the smallest class: what the least known one rests on."""
        sizes = [len(one.members) for one in self.classes]
        return min(sizes, default=self.components)


def analyse(
    data: Reduced, settings: Settings, symmetry: Symmetry | None = None
) -> Analysis:
    """Estimate kappa in every way that the data allow.

    Args:
        data: what was accumulated.
        settings: the caller's wishes.
        symmetry: of the crystal, where it is known.
    """
    prefactor = SPORTRAN_PREFACTOR if settings.mode == "sportran" else PREFACTOR
    spectrum = data.spectra[data.plan.skip]
    whole = fit(spectrum, range(data.components), data.components, settings)
    methods: dict[str, Estimate] = {
        "cepstral": cepstral("cepstral", whole, whole.cutoff, prefactor),
        "cepstral_aic": cepstral("cepstral_aic", whole, whole.cutoff_aic, prefactor),
    }
    tau = correlation_time(smoothed(whole), spectrum.frequency)
    logs, weights = _groups(data, whole)
    if len(logs) >= 3:
        methods["segments"] = log_estimate("segments", logs, weights, prefactor / 2)
    runs, run_weights = _run_logs(data, whole)
    if len(runs) >= 3:
        methods["replicas"] = log_estimate("replicas", runs, run_weights, prefactor / 2)
    dip, curves, blocks = _dip(data, prefactor, settings)
    if data.channels == data.components:  # else the flux alone integrates to something else
        if len(blocks):
            methods["blocks"] = mean_estimate("blocks", blocks)
        methods["first_dip"] = _dip_estimate(dip, methods.get("blocks"), data)
    tensors = _tensors(data, whole, settings, symmetry, prefactor)
    methods |= tensors.methods
    plain = tensors.plain
    if settings.mode == "vibes":
        plain = _vibes(data, prefactor, methods)
    record, reason = _record(methods, tensors, symmetry, settings)
    curves |= _spectral_curves(data, whole, settings, prefactor)
    return Analysis(
        methods=methods,
        record=record,
        reason=reason,
        tensor=plain if tensors.symmetric is None else tensors.symmetric,
        plain=plain,
        classes=tensors.classes,
        inside=tensors.inside,
        tau=tau,
        chance=tensors.chance,
        cepstrum=whole,
        spectrum=spectrum,
        dip=dip,
        blocks=blocks,
        replicas=prefactor / 2 * np.exp(runs),
        logs=logs,
        components=data.components,
        curves=curves,
    )


def _groups(data: Reduced, whole: Cepstrum) -> tuple[Float, Float]:
    """L0 of every group of segments; none for several currents, whose power is not kept."""
    spectrum = data.spectra[data.plan.skip]
    if data.channels != data.components or not len(spectrum.groups):
        return np.zeros(0), np.zeros(0)
    dofs = spectrum.group_segments.astype(float) * data.components
    powers = spectrum.groups / dofs[:, None]
    logs = log_zeros(powers, dofs, length=whole.length, cutoff=whole.cutoff)
    return logs, spectrum.group_segments.astype(float)


def _run_logs(data: Reduced, whole: Cepstrum) -> tuple[Float, Float]:
    """L0 of every run that has a segment."""
    segments = np.array(data.run_segments, dtype=float)
    known = segments > 0
    if data.channels != data.components or not known.any():
        return np.zeros(0), np.zeros(0)
    dofs = segments[known] * data.components
    powers = np.array(data.run_powers)[known] / dofs[:, None]
    return log_zeros(powers, dofs, length=whole.length, cutoff=whole.cutoff), segments[
        known
    ]


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


@dataclass(frozen=True)
class _Tensors:
    """Everything about single elements."""

    plain: Tensor
    inside: Tensor
    symmetric: Tensor | None
    classes: tuple[ClassValue, ...]
    chance: float
    methods: dict[str, Estimate]


def _tensors(
    data: Reduced,
    whole: Cepstrum,
    settings: Settings,
    symmetry: Symmetry | None,
    prefactor: float,
) -> _Tensors:
    spectrum, count = data.spectra[data.plan.skip], data.components
    plain = plain_tensor(spectrum, count, prefactor, whole=whole)
    methods: dict[str, Estimate] = {}
    if count > 1 and np.all(np.isfinite(plain.std)):
        methods["components"] = component_mean(np.diag(plain.kappa), np.diag(plain.std))
    if symmetry is None:
        chance = isotropy(np.diag(plain.kappa), np.diag(plain.std))
        return _Tensors(plain, plain, None, (), chance, methods)
    inside = plain_tensor(turned(spectrum, symmetry.axes), count, prefactor, whole=whole)
    symmetric, classes = symmetric_tensor(spectrum, symmetry, settings, prefactor)
    if len(classes) > 1:
        methods["symmetry"] = class_mean(symmetric, classes, symmetry)
    chance = isotropy(np.diag(inside.kappa), np.diag(inside.std), symmetry.classes)
    return _Tensors(plain, inside, symmetric, classes, chance, methods)


def _record(
    methods: Mapping[str, Estimate],
    tensors: _Tensors,
    symmetry: Symmetry | None,
    settings: Settings,
) -> tuple[Estimate, str]:
    if settings.method != "auto":
        return named(methods, settings.method)
    if settings.mode == "default":
        if symmetry is None:
            return compose(methods, tensors.chance)
        return compose(methods, 1.0)  # what differs is known: no need to test for it
    return named(methods, {"sportran": "cepstral", "vibes": "vibes"}[settings.mode])


def _vibes(data: Reduced, prefactor: float, methods: dict[str, Estimate]) -> Tensor:
    autocorrelation = data.lags.finalize(biased=True)[: data.lags.count]
    taper = hann(data.lags.count)[: len(autocorrelation)]
    integral = prefactor * cumulative(autocorrelation * taper[:, None, None], data.spacing)
    found = vibes(integral, spacing=data.spacing, window=data.plan.filter_window)
    details = {f"cut_{a}{a}": float(found.cut[a, a]) for a in range(data.components)}
    kappa = float(np.diag(found.kappa).mean())
    methods["vibes"] = Estimate("vibes", kappa, found.std, details=details)
    return Tensor(found.kappa, np.full_like(found.kappa, nan))


def _spectral_curves(
    data: Reduced, whole: Cepstrum, settings: Settings, prefactor: float
) -> dict[str, Float]:
    """Spectra in W/(m K), kappa against K and against f*."""
    spectrum = data.spectra[data.plan.skip]
    total, n = data.survey_spectrum, data.components
    heat = np.einsum("kaa->k", total.matrix[:, :n, :n]).real / (total.segments * n)
    scan = np.array(
        [_scan_row(data.spectra[s], data, settings, prefactor) for s in data.plan.skips]
    )
    keep = min(len(whole.aic), max(4 * whole.cutoff_aic, 2 * whole.cutoff, 20))
    kappas = prefactor / 2 * np.exp(whole.log_zeros)
    power, _ = power_of(spectrum, range(n), n)
    return {
        "survey_frequency": total.frequency,
        "survey_spectrum": prefactor / 2 * heat,
        "frequency": spectrum.frequency,
        "spectrum": prefactor / 2 * power,
        "spectrum_fit": prefactor / 2 * whole.smooth(),
        "cutoff": np.arange(keep, dtype=float),
        "kappa_of_cutoff": kappas[:keep],
        "kappa_of_cutoff_std": (kappas * whole.log_zero_stds)[:keep],
        "aic": whole.aic[:keep],
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
    found = fit(spectrum, range(data.components), data.components, settings)
    kappa = prefactor / 2 * found.zero
    return spectrum.nyquist, kappa, kappa * found.log_zero_error()
