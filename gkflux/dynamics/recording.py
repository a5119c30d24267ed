"""What a stage stores, and the buffers in which frames wait for their commit.

Every field has one cadence. Per-atom fields (and stress) follow ``record.every``; energy,
kinetic energy and temperature follow the heat flux where there is one, because Green-Kubo
needs them with every sample, and ``record.every`` otherwise. At constant pressure, volume,
pressure and cell are stored, too.

An *epoch* is everything between two commits. Samples are kept replica by replica, already
in the dtype of the file, so that what is handed to the writer is contiguous and final.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gkflux.dynamics.config import StageConfig
from stepson.schema import Field

__all__ = ["Epoch", "Recorder", "Samples", "stage_fields"]

Array = NDArray[Any]
SCALARS = {"energy": "eV", "energy_kinetic": "eV", "temperature": "K"}
OF_THE_VOLUME = {"volume": "Å³", "pressure": "eV/Å³"}
VECTORS = {"positions": "Å", "velocities": "Å/fs", "forces": "eV/Å"}
FIRST_CAPACITY = 64


def stage_fields(
    stage: StageConfig, *, gauge: str, convective: bool, species: int = 1
) -> tuple[Field, ...]:
    """Return the fields of a stage's files, small ones first.

    Args:
        stage: of the configuration.
        gauge: of the heat flux.
        convective: whether it has a convective part.
        species: how many there are, in the order of their atomic numbers.
    """
    flux, record = stage.heat_flux, stage.record
    often = record.every if flux is None else flux.every
    scalars = SCALARS | (OF_THE_VOLUME if stage.told.changes_cell else {})
    fields = [Field(name, "float64", (), u, every=often) for name, u in scalars.items()]
    if flux is not None:
        about: dict[str, str | bool] = {
            "gauge": gauge,
            "formulation": flux.formulation,
            "convective": convective,
        }
        fields.append(
            Field("heat_flux", "float64", (3,), "eV Å/fs", every=often, attributes=about)
        )
        if flux.plain and gauge == "lattice":
            about = {**about, "gauge": "none", "convective": flux.convective}
            name = "heat_flux_plain"
            fields.append(
                Field(name, "float64", (3,), "eV Å/fs", every=often, attributes=about)
            )
        if flux.mass_currents:
            shape, unit = (species, 3), "amu Å/fs"
            fields.append(Field("mass_currents", "float64", shape, unit, every=often))
    if stage.told.changes_cell:
        fields.append(Field("cell", "float64", (3, 3), "Å", every=record.every))
    if "stress" in record.fields:
        fields.append(Field("stress", "float64", (3, 3), "eV/Å³", every=record.every))
    for name, unit in VECTORS.items():
        if name in record.fields:
            fields.append(
                Field(
                    name,
                    record.dtype.get(name, "float32"),
                    ("atom", 3),
                    unit,
                    every=record.every,
                    precision=record.precision.get(name),
                )
            )
    return tuple(fields)


@dataclass(frozen=True)
class Samples:
    """Samples of the fields of one cadence.

    Attributes:
        steps: shape ``(k,)``.
        values: by field, shape ``(replicas, k, ...)``.
    """

    steps: NDArray[np.int64]
    values: Mapping[str, Array]

    def after(self, step: int) -> "Samples":
        """Return those of later steps."""
        first = int(np.searchsorted(self.steps, step, side="right"))
        return Samples(
            self.steps[first:], {name: v[:, first:] for name, v in self.values.items()}
        )

    def until(self, step: int) -> "Samples":
        """Return those of this step and before."""
        end = int(np.searchsorted(self.steps, step, side="right"))
        return Samples(
            self.steps[:end], {name: v[:, :end] for name, v in self.values.items()}
        )


@dataclass(frozen=True)
class Epoch:
    """All samples between two commits, one `Samples` a cadence."""

    cadences: tuple[Samples, ...]

    def after(self, step: int) -> "Epoch":
        """Return what was sampled later than a step."""
        return Epoch(tuple(samples.after(step) for samples in self.cadences))

    def until(self, step: int) -> "Epoch":
        """Return what was sampled at a step or before."""
        return Epoch(tuple(samples.until(step) for samples in self.cadences))

    @property
    def steps(self) -> NDArray[np.int64]:
        """Every step at which anything was sampled, in order."""
        return np.unique(np.concatenate([samples.steps for samples in self.cadences]))

    def fields(self, replica: int) -> dict[str, Array]:
        """Return the samples of one replica by field, each ``(samples, ...)``."""
        return {
            name: values[replica]
            for samples in self.cadences
            for name, values in samples.values.items()
        }


class _Buffer:
    """Samples of one cadence, growing."""

    def __init__(self, fields: tuple[Field, ...], replicas: int, n_atoms: int) -> None:
        self._fields = fields
        self._replicas, self._n_atoms = replicas, n_atoms
        self._capacity = FIRST_CAPACITY
        self._reset()

    def _reset(self) -> None:
        self.count = 0
        self._steps = np.empty(self._capacity, dtype=np.int64)
        self._values = {
            field.name: np.empty(
                (self._replicas, self._capacity, *field.sample_shape(self._n_atoms)),
                dtype=field.dtype,
            )
            for field in self._fields
        }

    def put(self, step: int, values: Mapping[str, Array]) -> None:
        k = self.count
        if k == self._capacity:
            self._grow()
        self._steps[k] = step
        for name, column in self._values.items():
            column[:, k] = values[name]
        self.count = k + 1

    def _grow(self) -> None:
        old, count = self.view(), self.count
        self._capacity *= 2
        self._reset()
        self._steps[:count] = old.steps
        for name, column in self._values.items():
            column[:, :count] = old.values[name]
        self.count = count

    def view(self) -> Samples:
        k = self.count
        return Samples(self._steps[:k], {n: v[:, :k] for n, v in self._values.items()})

    def take(self) -> Samples:
        taken = self.view()
        self._reset()
        return taken


class Recorder:
    """Collects the samples of an epoch.

    Attributes:
        bytes_waiting: size of the samples of this epoch, all replicas.
    """

    def __init__(self, fields: tuple[Field, ...], replicas: int, n_atoms: int) -> None:
        """Prepare for the fields of `stage_fields`."""
        cadences = sorted({field.every for field in fields if field.every is not None})
        self._buffers = []
        for every in cadences:
            mine = tuple(field for field in fields if field.every == every)
            size = replicas * sum(field.sample_bytes(n_atoms) for field in mine)
            names = tuple(field.name for field in mine)
            self._buffers.append((every, names, size, _Buffer(mine, replicas, n_atoms)))
        self.bytes_waiting = 0

    def due(self, step: int) -> tuple[str, ...]:
        """Return the names of the fields of which this step needs a sample."""
        found: tuple[str, ...] = ()
        for every, names, _, _ in self._buffers:
            if step % every == 0:
                found += names
        return found

    def put(self, step: int, values: Mapping[str, Array]) -> None:
        """Take the samples of a step: every due field, shape ``(replicas, ...)``."""
        for every, _, size, buffer in self._buffers:
            if step % every == 0:
                buffer.put(step, values)
                self.bytes_waiting += size

    def take(self) -> Epoch:
        """Return what was collected, and begin anew."""
        self.bytes_waiting = 0
        return Epoch(tuple(buffer.take() for _, _, _, buffer in self._buffers))
