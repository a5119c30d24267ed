"""The file that comes out: begun, gone on with, found finished, or refused.

Its METADATA say of which trajectory it is the flux, and everything that decides the
numbers. A file of other settings is never touched.
"""

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import stepson
from gkflux.errors import FluxError
from gkflux.potentials.base import Potential
from gkflux.recompute.frames import Asked, Computed, species_masses
from gkflux.recompute.model import Model
from gkflux.recompute.source import Source
from stepson import Field, Writer
from stepson.errors import StepsonError

__all__ = ["KIND", "Found", "begin", "look", "settings", "write"]

KIND = "heat flux of stored frames"
SCALARS = {"energy": "eV", "energy_kinetic": "eV", "temperature": "K"}
CARRIED = (
    *("ensemble", "stage", "replica", "replicas", "temperature", "seed"),
    *("momentum_removed", "config"),
)
"""What the run said that holds of its flux, too."""
Settings = dict[str, Any]


class Found:
    """A file that is already there."""

    def __init__(self, last: int | None, finished: bool) -> None:
        self.last = last
        """Last step that it holds; None: none."""
        self.finished = finished
        """Whether it was closed with the last frame of the trajectory."""


def settings(source: Source, asked: Asked, model: Model, potential: Potential) -> Settings:
    """Return all that decides the numbers, as flat keys and plain values."""
    known = potential.provenance
    told = {
        "potential.units": [model.energy_unit, model.length_unit],
        "potential.readout": model.readout,
        "potential.cutoff_function": model.cutoff_function,
    }
    lattice = None if asked.lattice is None else asked.lattice.tobytes()
    return {
        "source": source.uuid,
        "potential.sha256": str(known.get("sha256", "")),
        "potential.dtype": str(known.get("dtype", model.dtype)),
        "potential.exact_filters": bool(known.get("exact_filters", True)),
        "formulation": asked.formulation,
        "gauge": asked.gauge,
        "convective": asked.convective,
        "lattice": None if lattice is None else hashlib.sha256(lattice).hexdigest()[:16],
        **{key: value for key, value in told.items() if value not in (None, [None, None])},
    }


def look(path: Path, source: Source, wanted: Settings) -> Found | None:
    """See what is there; None: nothing.

    Raises:
        FluxError: it is the trajectory itself, no flux, or one of other settings.
    """
    _refuse_same(path, source)
    if not path.exists():
        return None
    if path.is_dir():
        raise FluxError(f"{path} is a folder; name a file with -o, such as {path}/flux.son")
    try:
        trajectory = stepson.open(path)
    except StepsonError:
        raise _other(path, "is no heat flux of stored frames") from None
    with trajectory:
        metadata = trajectory.metadata
        if metadata.get("kind") != KIND:
            raise _other(path, "is no heat flux of stored frames")
        _refuse_other(path, metadata.get("settings", {}), wanted)
        last = trajectory.last_step if len(trajectory) else None
        return Found(last, trajectory.sealed and last is not None and last >= source.last)


def _refuse_same(path: Path, source: Source) -> None:
    if "://" in source.path or not path.exists():
        return
    if os.path.samefile(path, source.path):
        raise FluxError(
            f"{path} is the trajectory itself, which is never changed; name another file "
            "with -o"
        )


def _other(path: Path, what: str) -> FluxError:
    return FluxError(
        f"{path} exists, {what}, and is not overwritten; name another file with -o"
    )


def _refuse_other(path: Path, stored: Mapping[str, Any], now: Settings) -> None:
    different = [
        f"{key} = {_shown(stored.get(key))} there, {_shown(now.get(key))} now"
        for key in sorted({*stored, *now})
        if stored.get(key) != now.get(key)
    ]
    if different:
        raise _other(path, f"is a flux of other settings ({'; '.join(different)})")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:16]


def begin(
    path: Path,
    source: Source,
    asked: Asked,
    potential: Potential,
    *,
    found: Found | None,
    settings: Settings,
    freedom: int,
    parent: Mapping[str, Any] | None = None,
) -> Writer:
    """Create the file, or go on behind its last commit.

    Raises:
        WriterError: it cannot be written, or another process does.
    """
    if found is not None:
        writer = stepson.open(path, "a", commit="manual", threaded=False)
        writer.note({"continued": {"versions": _versions(), "source": _origin(source)}})
        return writer
    _make_folder(path)
    system = source.system
    return stepson.create(
        path,
        fields=_fields(source, asked),
        numbers=system.numbers,
        masses=system.masses,
        cell=system.cell,
        pbc=system.pbc.tolist(),
        timestep=source.timestep,
        metadata=_metadata(source, asked, potential, settings, freedom),
        parent=parent,
        commit="manual",
        threaded=False,
    )


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FluxError(
            f"{path} cannot be created: {error.strerror}; choose another place with -o"
        ) from error


def _fields(source: Source, asked: Asked) -> list[Field]:
    rhythm: dict[str, Any] = {"every": source.every, "offset": source.offset}
    about: dict[str, str | bool] = {
        "gauge": asked.gauge,
        "formulation": asked.formulation,
        "convective": asked.convective,
    }
    kinds = len(species_masses(source.system))
    currents = [Field("mass_currents", "float64", (kinds, 3), "amu Å/fs", **rhythm)]
    return [
        *(Field(name, "float64", (), unit, **rhythm) for name, unit in SCALARS.items()),
        *(currents if kinds > 1 else ()),
        Field("heat_flux", "float64", (3,), "eV Å/fs", attributes=about, **rhythm),
        # of the first and the last frame: whether atoms diffuse, Green-Kubo must know
        Field("positions", "float32", ("atom", 3), "Å", every=None),
    ]


def _metadata(
    source: Source,
    asked: Asked,
    potential: Potential,
    settings: Settings,
    freedom: int,
) -> dict[str, Any]:
    known = dict(potential.provenance)
    known.setdefault("layers", potential.layers)
    known.setdefault("cutoff", potential.cutoff)
    told = source.metadata
    found = {key: told[key] for key in CARRIED if told.get(key) is not None}
    found |= {
        "kind": KIND,
        "source": _origin(source) | {"potential": told.get("potential")},
        "potential": known,
        "settings": settings,
        "degrees_of_freedom": freedom,
        "heat_flux": {
            "every": source.every,
            "formulation": asked.formulation,
            "gauge": asked.gauge,
            "convective": asked.convective,
        },
        "versions": _versions(),
    }
    if asked.lattice is not None:
        found["lattice"] = np.array(asked.lattice)
    return found


def _origin(source: Source) -> dict[str, Any]:
    return {
        "file": source.path,
        "uuid": source.uuid,
        "digest": source.digest,
        "last_step": source.last,
        "precision": dict(source.precision),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in ("stepson", "numpy", "torch", "numba", "vesin"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(writer: Writer, done: Computed) -> None:
    """Append the samples of a piece."""
    if not len(done.steps):
        return
    edges = np.flatnonzero(np.isin(done.steps, list(done.ends)))
    cuts = np.unique([0, *edges, *(edges + 1), len(done.steps)]).tolist()
    for low, high in pairwise(cuts):
        part: dict[str, Any] = {n: v[low:high] for n, v in done.values.items()}
        step = int(done.steps[low])
        if step in done.ends and high == low + 1:
            part["positions"] = done.ends[step][None].astype(np.float32)
        writer.extend(steps=done.steps[low:high], **part)
