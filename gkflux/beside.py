r"""What is read of a trajectory beside its heat flux, and what it changes.

Mass currents
    A fluid of several species carries energy with its mass. The conductivity is that of
    the part of J which no mass current explains (`schur_power`), so the currents of all
    species but one, :math:`j_s = \sum_{i \in s} m_i v_i`, are further channels: recorded
    as `mass_currents`, or computed of velocities that are stored at every sample of the
    flux. Which species is left out does not matter, as their sum is the momentum, zero.

Gauge
    In a solid :math:`\sum_i \langle W_i \rangle v_i` is the time derivative of a bounded
    quantity: it carries no heat, but noise. W_i are the virials of the atoms, J = sum_i
    W_i v_i. Their mean takes all frames, so the files are read twice: `virials` first, at
    whatever cadence; then the flux, with velocities. Where the run has summed them itself,
    as `mean_virials` in METADATA, the first pass is saved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import stepson
from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.gauge_removal import MeanVirials, gauge_part
from stepson.batch import Batch

__all__ = [
    "Beside",
    "GaugeRemoval",
    "MassCurrents",
    "current_source",
    "frames_of",
    "mean_virials",
]

BYTES = 64 << 20
"""Of per-atom fields in a batch."""
MASS_CURRENTS = "amu Å/fs"


class Beside(Protocol):
    """Reads further fields and changes the rows of the flux."""

    @property
    def channels(self) -> int:
        """Numbers of a row after it."""

    @property
    def variant(self) -> str:
        """What the rows depend on beside the files: states of others are not theirs."""

    def fields(self, trajectory: stepson.Trajectory) -> tuple[str, ...]:
        """Names of the fields that are read."""

    def __call__(self, flux: Float, steps: NDArray[np.int64], batch: Batch) -> Float:
        """Return the rows, shape (k, channels), of those of the flux, shape (k, 3)."""


def frames_of(trajectory: stepson.Trajectory, names: Sequence[str], most: int) -> int:
    """Samples of a batch of some fields, so that memory stays bounded."""
    size = sum(trajectory.fields[n].sample_bytes(trajectory.n_atoms) for n in names)
    return max(1, min(most, BYTES // max(1, size)))


def _at(batch: Batch, name: str, steps: NDArray[np.int64]) -> Float:
    """Samples of a field at the steps of the flux.

    Raises:
        FluxError: one is missing.
    """
    mine = np.asarray(batch.steps[name], np.int64)
    where = np.searchsorted(mine, steps)
    if len(steps) and not np.isin(steps, mine).all():
        raise FluxError(f"{name} is not stored at every sample of the heat flux")
    return np.asarray(batch[name][where], dtype=np.float64)


@dataclass(frozen=True)
class MassCurrents:
    """Adds the mass currents of all species but the last."""

    weights: Float
    """Masses of the atoms of each of these species, amu, shape (M - 1, n)."""

    @classmethod
    def of(cls, numbers: NDArray[Any], masses: Float) -> "MassCurrents":
        """Return those of a system of at least two species."""
        kinds = np.unique(numbers)[:-1]
        return cls(np.where(numbers == kinds[:, None], masses, 0.0))

    @property
    def channels(self) -> int:
        """Numbers of a row: of the flux, and of the currents."""
        return 3 * (1 + len(self.weights))

    @property
    def variant(self) -> str:
        """What the samples depend on beside the files."""
        return "mass currents"

    def fields(self, trajectory: stepson.Trajectory) -> tuple[str, ...]:
        """Recorded currents, or else velocities."""
        name = current_source(trajectory)
        return () if name is None else (name,)

    def __call__(self, flux: Float, steps: NDArray[np.int64], batch: Batch) -> Float:
        """Append the currents to the flux."""
        if "mass_currents" in batch.steps:
            currents = _at(batch, "mass_currents", steps)[:, :-1]
        else:
            currents = np.einsum(
                "sn,kna->ksa", self.weights, _at(batch, "velocities", steps)
            )
        return np.concatenate([flux, currents.reshape(len(flux), -1)], axis=1)


def current_source(trajectory: stepson.Trajectory) -> str | None:
    """Return the field of which mass currents can be had at every sample of the flux."""
    fields = trajectory.fields
    if fields["heat_flux"].shape != (3,) or trajectory.metadata.get("masses") is None:
        return None
    kinds = len(np.unique(np.asarray(trajectory.metadata["numbers"])))
    recorded = fields.get("mass_currents")
    if (
        recorded is not None
        and (recorded.unit, recorded.shape) == (MASS_CURRENTS, (kinds, 3))
        and _as_often(recorded, fields)
    ):
        return "mass_currents"
    velocities = fields.get("velocities")
    if velocities is not None and velocities.unit == "Å/fs":
        return "velocities" if _as_often(velocities, fields) else None
    return None


def _as_often(field: stepson.Field, fields: Mapping[str, stepson.Field]) -> bool:
    """Whether every sample of the flux has one of this field."""
    flux = fields["heat_flux"]
    if not field.every or not flux.every:
        return False
    return flux.every % field.every == 0 and (flux.offset - field.offset) % field.every == 0


@dataclass(frozen=True)
class GaugeRemoval:
    """Takes the flux of the mean virials away."""

    mean: Float
    """<W_i>, eV, shape (n, 3, 3)."""

    @property
    def channels(self) -> int:
        """Numbers of a row."""
        return 3

    @property
    def variant(self) -> str:
        """What the samples depend on beside the files: the mean moves when a run grows."""
        return "gauge " + sha256(np.ascontiguousarray(self.mean).tobytes()).hexdigest()

    def fields(self, trajectory: stepson.Trajectory) -> tuple[str, ...]:
        """Velocities only."""
        return ("velocities",)

    def __call__(self, flux: Float, steps: NDArray[np.int64], batch: Batch) -> Float:
        """Subtract sum_i <W_i> v_i."""
        return flux - gauge_part(self.mean, _at(batch, "velocities", steps))


def mean_virials(files: Sequence[tuple[str, int | None]]) -> GaugeRemoval:
    """Read the virials of the files of one run: the first of two passes.

    Args:
        files: paths, and the step from which on a file does not count.

    Raises:
        FluxError: fields that are missing, or stored otherwise than they must be.
    """
    total: MeanVirials | None = None
    for path, stop in files:
        with stepson.open(path) as trajectory:
            _refuse_unfit(trajectory, path)
            found = _mean_of(trajectory, stop)
        total = found if total is None else total.merge(found)
    assert total is not None
    if not total.frames:
        raise FluxError(f"{files[0][0]}: no sample of virials; run longer")
    return GaugeRemoval(total.mean)


def _mean_of(trajectory: stepson.Trajectory, stop: int | None) -> MeanVirials:
    stored = trajectory.metadata.get("mean_virials")
    if stored is not None:
        samples = len(trajectory["heat_flux"])
        return MeanVirials(samples, np.array(stored, dtype=np.float64))
    found = MeanVirials.empty(trajectory.n_atoms)
    frames = frames_of(trajectory, ("virials",), 1 << 12)
    for batch in trajectory.stream("virials", frames=frames, stop=stop):
        found = found.merge(MeanVirials.of(np.asarray(batch["virials"], np.float64)))
    return found


def _refuse_unfit(trajectory: stepson.Trajectory, path: str) -> None:
    fields, how = trajectory.fields, "record them, or leave the gauge as it is stored"
    stored = trajectory.metadata.get("mean_virials")
    virials, velocities = fields.get("virials"), fields.get("velocities")
    if stored is not None:
        if np.shape(stored) != (trajectory.n_atoms, 3, 3):
            raise FluxError(
                f"{path}: mean_virials of shape {np.shape(stored)}, one is wrong"
            )
    elif virials is None or virials.shape != ("atom", 3, 3) or virials.unit != "eV":
        raise FluxError(f"{path}: no field virials, ('atom', 3, 3), in eV; {how}")
    if velocities is None or velocities.unit != "Å/fs" or not _as_often(velocities, fields):
        raise FluxError(
            f"{path}: no velocities, in Å/fs, at every sample of the heat flux; {how}"
        )
    gauge = fields["heat_flux"].attributes.get("gauge", "none")
    if gauge != "none":
        raise FluxError(
            f"{path}: the heat flux is stored in gauge {gauge!r}, where the mean virials "
            "are out already; leave the gauge as it is stored"
        )
