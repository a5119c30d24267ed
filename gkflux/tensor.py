"""The tensor, element by element; with a known symmetry, class by class.

Without a symmetry every element has a cepstral analysis of its own at the K of all, with
l = segments; off-diagonal ones by polarisation. With one, the spectra of equivalent
directions are averaged first, so that l counts the independent equivalent components, and
each class has a K of its own; elements that the group forbids are zero. The tensor so made
is its own mean over the group.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.estimators.cepstral import Cepstrum, cepstrum, schur_power
from gkflux.estimators.estimate import Estimate
from gkflux.plan import Settings
from gkflux.spectrum import Spectrum
from gkflux.symmetry import Symmetry

__all__ = [
    "ClassValue",
    "Tensor",
    "cepstral",
    "class_mean",
    "currents",
    "fit",
    "plain_tensor",
    "power_of",
    "symmetric_tensor",
    "turned",
]

Complex = NDArray[np.complex128]

HOLE = 1e-12
"""Power at zero frequency, of that in the next bin, that only a removed mean leaves."""


class Tensor(NamedTuple):
    """Elements and their standard errors, W/(m K), shape (C, C)."""

    kappa: Float
    std: Float


@dataclass(frozen=True)
class ClassValue:
    """One class of equivalent directions."""

    members: tuple[int, ...]
    """Directions, of `Symmetry.axes`."""
    name: str
    """``xx = yy``."""
    estimate: Estimate


def currents(spectrum: Spectrum, chosen: Sequence[int], components: int) -> Complex:
    """Sum the density matrices of the currents over the chosen components."""
    matrix = spectrum.matrix
    count = matrix.shape[1] // components
    blocks = []
    for a in chosen:
        rows = [m * components + a for m in range(count)]
        blocks.append(matrix[:, rows][:, :, rows])
    total: Complex = np.sum(blocks, axis=0)
    return total


def power_of(
    spectrum: Spectrum, chosen: Sequence[int], components: int
) -> tuple[Float, int]:
    """Return the mean power of the chosen components that carries no mass, and l."""
    matrix = currents(spectrum, chosen, components)
    power, dof = schur_power(matrix, len(chosen) * spectrum.segments)
    return without_hole(power), dof


def without_hole(power: Float) -> Float:
    """Fill the zero-frequency bin of a series whose mean was taken off before we saw it.

    Its logarithm would be that of a rounding error, and ruin kappa; its neighbour has the
    same expectation, as far as segments resolve the spectrum at all.
    """
    if len(power) > 2 and power[0] < HOLE * power[1]:
        return np.concatenate([power[1:2], power[1:]])
    return power


def fit(
    spectrum: Spectrum, chosen: Sequence[int], components: int, settings: Settings
) -> Cepstrum:
    """Analyse the mean spectrum of the chosen components.

    Raises:
        FluxError: no segment.
    """
    if not spectrum.segments:
        raise FluxError("no run is long enough for one segment of the spectrum")
    power, dof = power_of(spectrum, chosen, components)
    factor = 1.0 if settings.mode == "sportran" else settings.aic_factor
    return cepstrum(
        power, dof=dof, length=spectrum.length, factor=factor, cutoff=settings.cutoff
    )


def cepstral(name: str, found: Cepstrum, cutoff: int, prefactor: float) -> Estimate:
    """Return the value at a cut-off, with its error."""
    kappa = prefactor / 2 * float(np.exp(found.log_zero(cutoff)))
    details = {"K": cutoff, "l": found.dof, "N": found.length}
    return Estimate(name, kappa, kappa * found.log_zero_error(cutoff), details=details)


def plain_tensor(
    spectrum: Spectrum, components: int, prefactor: float, *, whole: Cepstrum
) -> Tensor:
    """Estimate every element at the K of `whole`; off-diagonal ones by polarisation.

    kappa_ab = (kappa_+ - kappa_-)/2, kappa_± those of the flux along (a ± b)/sqrt 2: a
    cross spectrum has no logarithm, but these two have.
    """
    tensor = np.full((components, components), nan)
    errors = np.full_like(tensor, nan)
    if spectrum.segments < spectrum.matrix.shape[1] // components:
        return Tensor(tensor, errors)
    for a in range(components):
        matrix = currents(spectrum, (a,), components)
        tensor[a, a], errors[a, a] = _element(spectrum, matrix, whole, prefactor)
        if spectrum.matrix.shape[1] != components:
            continue
        for b in range(a):
            value, error = _pair(spectrum, a, b, whole, prefactor)
            tensor[a, b] = tensor[b, a] = value
            errors[a, b] = errors[b, a] = error
    return Tensor(tensor, errors)


def _element(
    spectrum: Spectrum, matrix: Complex, whole: Cepstrum, prefactor: float
) -> tuple[float, float]:
    power, dof = schur_power(matrix, spectrum.segments)
    power = without_hole(power)
    if not np.all(power > 0):
        return 0.0, nan  # no flux at all in this direction
    one = cepstrum(power, dof=dof, length=spectrum.length, cutoff=whole.cutoff)
    kappa = prefactor / 2 * one.zero
    return kappa, kappa * one.log_zero_error(before=whole.cutoff_aic)


def _pair(
    spectrum: Spectrum, a: int, b: int, whole: Cepstrum, prefactor: float
) -> tuple[float, float]:
    matrix = spectrum.matrix
    cross = matrix[:, a, b].real
    mean = (matrix[:, a, a] + matrix[:, b, b]).real / 2
    plus, minus = (
        _element(spectrum, one[:, None, None].astype(complex), whole, prefactor)
        for one in (mean + cross, mean - cross)
    )
    return (plus[0] - minus[0]) / 2, sqrt(plus[1] ** 2 + minus[1] ** 2) / 2


def turned(spectrum: Spectrum, axes: Float) -> Spectrum:
    """Return the spectrum of the currents along other axes, rows of `axes`."""
    if np.array_equal(axes, np.eye(3)):
        return spectrum
    turn = np.kron(np.eye(spectrum.matrix.shape[1] // 3), axes)
    return replace(spectrum, matrix=turn @ spectrum.matrix @ turn.T)


def symmetric_tensor(
    spectrum: Spectrum, symmetry: Symmetry, settings: Settings, prefactor: float
) -> tuple[Tensor, tuple[ClassValue, ...]]:
    """Estimate the elements that the group leaves free, and put the tensor together.

    Args:
        spectrum: along x, y, z.
        symmetry: of the crystal.
        settings: of the cepstral analysis.
        prefactor: of kappa.

    Returns:
        the tensor along x, y, z, and its classes.
    """
    inside = turned(spectrum, symmetry.axes)
    classes, parts = [], []
    for members in symmetry.classes:
        found = fit(inside, members, 3, settings)
        one = cepstral("class", found, found.cutoff, prefactor)
        classes.append(ClassValue(members, symmetry.name(members), one))
        shape = np.diag([float(a in members) for a in range(3)])
        parts.append((one.kappa, one.std, shape))
    whole = fit(inside, (0, 1, 2), 3, settings)
    for a, b in symmetry.pairs if inside.matrix.shape[1] == 3 else ():
        shape = np.zeros((3, 3))
        shape[a, b] = shape[b, a] = 1.0
        parts.append((*_pair(inside, a, b, whole, prefactor), shape))
    shapes = np.array([symmetry.axes.T @ p[2] @ symmetry.axes for p in parts])
    kappa = np.einsum("p,pab->ab", [p[0] for p in parts], shapes)
    variance = np.einsum("p,pab->ab", [p[1] ** 2 for p in parts], shapes**2)
    return Tensor(kappa, np.sqrt(variance)), tuple(classes)


def class_mean(
    tensor: Tensor, classes: Sequence[ClassValue], symmetry: Symmetry
) -> Estimate:
    r"""Return the mean of the diagonal: the classes, weighted by their members.

    Logarithms of two spectra whose coherence is gamma are correlated with gamma², so

    .. math:: \sigma^2 = \sum_{ab} w_a w_b \gamma_{ab}^2 \sigma_a \sigma_b,

    and gamma is zero where the group makes kappa_ab zero.
    """
    weights = np.array([len(one.members) / 3 for one in classes])
    values = np.array([one.estimate.kappa for one in classes])
    stds = np.array([one.estimate.std for one in classes])
    coherence = np.eye(len(classes))
    inside = symmetry.axes @ tensor.kappa @ symmetry.axes.T
    for a, b in symmetry.pairs:  # there every class has one member
        squared = min(1.0, inside[a, b] ** 2 / (inside[a, a] * inside[b, b]))
        coherence[a, b] = coherence[b, a] = squared
    spread = weights * stds
    return Estimate(
        "symmetry",
        float(weights @ values),
        sqrt(float(spread @ coherence @ spread)),
        details={"values": len(classes)},
    )
