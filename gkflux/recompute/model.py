"""Which potential: by its name, or the one that the run says it was computed with.

What a process needs to make a potential is a `Model`, a few words that travel; each process
makes it once. A run leaves in METADATA the name and the sha256 of its model, and the
configuration with everything that the file of the model does not tell (units, elements,
parameters), so that for a run of ours no model need be named as long as its file is found.
"""

import hashlib
import json
import threading
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gkflux.errors import FluxError
from gkflux.potentials.base import Potential

__all__ = ["Model", "find_model"]

ABOVE = 5
"""Folders above a trajectory in which the file of its model is looked for."""
_MAKING = threading.Lock()


@dataclass(frozen=True)
class Model:
    """The arguments of `load_potential`."""

    name: str
    dtype: str = "float32"
    device: str = "cpu"
    exact_filters: bool | None = None
    elements: tuple[int, ...] | None = None
    energy_unit: str | None = None
    length_unit: str | None = None
    readout: str | None = None
    cutoff_function: str | None = None
    parameters: str = "null"
    """JSON."""

    def load(self) -> Potential:
        """Make the potential, or take the one that this process has made before.

        Raises:
            FluxError: see `load_potential`.
        """
        with _MAKING:
            return _made(self)


@lru_cache(maxsize=2)
def _made(model: Model) -> Potential:
    from gkflux.potentials.load import load_potential

    return load_potential(
        model.name,
        dtype=model.dtype,
        device=model.device,
        exact_filters=model.exact_filters,
        elements=model.elements,
        energy_unit=model.energy_unit,
        length_unit=model.length_unit,
        readout=model.readout,
        cutoff_function=model.cutoff_function,
        parameters=json.loads(model.parameters),
    )


def find_model(
    name: str | Path | None,
    path: str,
    metadata: Mapping[str, Any],
    *,
    dtype: str | None = None,
    device: str = "cpu",
) -> Model:
    """Decide which model computes the flux of a trajectory.

    Args:
        name: a file, the name of a shipped model or of an analytic potential,
            ``python:FILE.py:NAME``, or the configuration of a run (``.toml``), whose table
            ``[potential]`` is taken; None: the model of the run.
        path: of the trajectory.
        metadata: of the trajectory.
        dtype: of the network; None: that of the run or configuration, else ``float32``.
        device: ``cpu`` or ``cuda``.

    Raises:
        FluxError: the run does not say, or the file of its model is not found.
    """
    if name is not None and str(name).endswith(".toml"):
        found = _of_configuration(Path(name))
    elif name is None:
        found = _of_the_run(path, metadata)
    else:
        found = _named(str(name), metadata)
    return replace(found, device=device, dtype=dtype or found.dtype)


def _of_configuration(path: Path) -> Model:
    from gkflux.dynamics.config import load

    config = load(path)
    model = _of_table(config.potential.model_dump())
    beside = config.resolve(config.potential.model)
    return _absolute(replace(model, name=str(beside)) if beside.is_file() else model)


def _named(name: str, metadata: Mapping[str, Any]) -> Model:
    """A model by its name; what the run told of the same file holds here, too."""
    model = _absolute(Model(name))
    told = _potential(metadata)
    if Path(model.name).is_file() and _sha256(Path(model.name)) == told.get("sha256"):
        return replace(_of_table(_table(metadata)), name=model.name)
    return model


def _of_the_run(path: str, metadata: Mapping[str, Any]) -> Model:
    told, table = _potential(metadata), _table(metadata)
    kind, file = str(told.get("kind", "")), str(told.get("file", ""))
    if file:
        model = _of_table({"dtype": told.get("dtype"), **table})
        return replace(model, name=str(_find(file, str(told.get("sha256")), path)))
    if kind and table.get("model") == kind:
        return _of_table(table)
    name = told.get("model") or kind
    what = f"was computed with {name}" if name else "does not say with which model"
    raise FluxError(
        f"{path} {what}; name the model with --model, or the configuration of the run, "
        "--model RUN.toml"
    )


def _find(file: str, sha256: str, path: str) -> Path:
    """The file of a model: beside the trajectory, above it, here, or among the shipped."""
    others = []
    for candidate in _candidates(file, path):
        if not candidate.is_file():
            continue
        if _sha256(candidate) == sha256:
            return candidate
        others.append(str(candidate))
    seen = f"; {others[0]} is another one" if others else ""
    raise FluxError(
        f"{path} was computed with {file} (sha256 {sha256[:12]}), which is neither beside "
        f"it, nor in the folders above, nor here{seen}; name it with --model"
    )


def _candidates(file: str, path: str) -> Iterator[Path]:
    from gkflux.potentials.load import SHIPPED

    folders = [] if "://" in path else list(Path(path).resolve().parents[:ABOVE])
    for folder in (*folders, Path.cwd(), SHIPPED):
        yield folder / Path(file).name


def _of_table(table: Mapping[str, Any]) -> Model:
    """A table ``[potential]`` of a configuration."""
    from ase.data import atomic_numbers

    units = table.get("units") or {}
    symbols = table.get("elements")
    return Model(
        name=str(table.get("model", "")),
        dtype=table.get("dtype") or "float32",
        exact_filters=table.get("exact_filters"),
        elements=tuple(atomic_numbers[s] for s in symbols) if symbols else None,
        energy_unit=units.get("energy"),
        length_unit=units.get("length"),
        readout=table.get("readout"),
        cutoff_function=table.get("cutoff_function"),
        parameters=json.dumps(table.get("parameters"), sort_keys=True),
    )


def _absolute(model: Model) -> Model:
    """Name a file by its whole path: workers may have another working directory."""
    path = Path(model.name)
    return replace(model, name=str(path.resolve())) if path.is_file() else model


def _potential(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    found = metadata.get("potential")
    return found if isinstance(found, Mapping) else {}


def _table(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table ``[potential]`` of the configuration that a run keeps; empty without."""
    try:
        found = tomllib.loads(str(metadata.get("config", ""))).get("potential", {})
    except tomllib.TOMLDecodeError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
