r"""Taking the part of a solid's heat flux away that carries no heat.

With the virials W_i of the atoms (`gkflux.flux.heat_flux_virials`; rows along the place,
columns along the velocity),

.. math::

    J(t) = \sum_i W_i(t) v_i(t) =
        \underbrace{\sum_i (W_i - \langle W_i \rangle) v_i}_{\text{carries heat}}
        + \underbrace{\sum_i \langle W_i \rangle v_i}_{\text{gauge}}

the second part is d/dt of :math:`\sum_i \langle W_i \rangle u_i`, bounded as long as the
displacements u_i are: it adds nothing to the conductivity, and noise to its estimate. Of a
crystal whose atoms are all equivalent the mean virials are all the same, and the gauge part
is that of the momentum: zero.

Two passes, where virials are stored: their mean, then `flux_of_virials` with it. One pass,
where the run keeps the sum of the virials beside J (`MeanVirials` merges, so a run adds to
it as it goes): afterwards `gauge_part` needs the velocities only. The mean must be over the
whole run, or 5 to 10 ps of it at least: over 5 frames it doubles the variance of the flux.

Knoop, Scheffler, Carbogno, PRB 107, 224304 (2023).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gkflux.correlate import Float
from gkflux.errors import FluxError

__all__ = ["MeanVirials", "flux_of_virials", "gauge_part", "without_gauge"]


class MeanVirials(NamedTuple):
    """Mean of the virials over some frames; those of two sets of frames merge."""

    frames: int
    """How many."""
    mean: Float
    """<W_i>, eV, shape (n, 3, 3)."""

    @classmethod
    def empty(cls, n_atoms: int) -> "MeanVirials":
        """Return that of no frame."""
        return cls(0, np.zeros((n_atoms, 3, 3)))

    @classmethod
    def of(cls, virials: ArrayLike) -> "MeanVirials":
        """Return that of frames, shape (k, n, 3, 3); those that are not finite are left."""
        rows = np.asarray(virials, dtype=np.float64)
        if rows.ndim != 4 or rows.shape[2:] != (3, 3):
            raise FluxError(
                f"virials of shape {rows.shape}, expected (frames, atoms, 3, 3)"
            )
        rows = rows[np.isfinite(rows).all(axis=(1, 2, 3))]
        if not len(rows):
            return cls.empty(np.shape(virials)[1])
        return cls(len(rows), rows.mean(axis=0))

    def merge(self, other: "MeanVirials") -> "MeanVirials":
        """Return that of both sets of frames."""
        frames = self.frames + other.frames
        if not frames:
            return self
        step = other.mean - self.mean
        return MeanVirials(frames, self.mean + step * (other.frames / frames))


def gauge_part(mean: ArrayLike, velocities: ArrayLike) -> Float:
    """Return sum_i <W_i> v_i of frames.

    Args:
        mean: <W_i>, eV, shape (n, 3, 3).
        velocities: Å/fs, shape (k, n, 3).

    Returns:
        eV Å/fs, shape (k, 3).

    Raises:
        FluxError: shapes that do not fit.
    """
    w, v = np.asarray(mean, np.float64), np.asarray(velocities, np.float64)
    if v.ndim != 3 or w.shape != (v.shape[1], 3, 3) or v.shape[2] != 3:
        raise FluxError(
            f"virials of shape {w.shape} and velocities of shape {v.shape}, expected "
            "(atoms, 3, 3) and (frames, atoms, 3)"
        )
    # sum over b and n at once: a product of matrices
    flat = np.ascontiguousarray(w.transpose(0, 2, 1)).reshape(-1, 3)
    part: Float = v.reshape(len(v), -1) @ flat
    return part


def without_gauge(flux: ArrayLike, mean: ArrayLike, velocities: ArrayLike) -> Float:
    """Take the gauge part out of a flux that was summed already: the end of one pass.

    Args:
        flux: J, eV Å/fs, shape (k, 3).
        mean: <W_i>, eV, shape (n, 3, 3).
        velocities: Å/fs, shape (k, n, 3).
    """
    result: Float = np.asarray(flux, dtype=np.float64) - gauge_part(mean, velocities)
    return result


def flux_of_virials(
    virials: ArrayLike, velocities: ArrayLike, mean: ArrayLike | None = None
) -> Float:
    """Return sum_i (W_i - <W_i>) v_i of frames: the second of two passes.

    Args:
        virials: W_i, eV, shape (k, n, 3, 3).
        velocities: Å/fs, shape (k, n, 3).
        mean: <W_i>, shape (n, 3, 3); None: the flux with its gauge part.

    Returns:
        eV Å/fs, shape (k, 3).
    """
    w, v = np.asarray(virials, np.float64), np.asarray(velocities, np.float64)
    if w.ndim != 4 or w.shape != (*v.shape, 3):
        raise FluxError(
            f"virials of shape {w.shape} and velocities of shape {v.shape}, expected "
            "(frames, atoms, 3, 3) and (frames, atoms, 3)"
        )
    if mean is not None:
        w = w - np.asarray(mean, np.float64)
    flux: Float = np.einsum("knab,knb->ka", w, v)
    return flux
