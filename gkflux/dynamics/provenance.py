"""Where a trajectory comes from: what METADATA of a run says, and what must not change.

``settings`` is the flat part of it that decides the numbers. A restart with other settings
is refused, and the difference is shown side by side. Everything else (host, versions,
threads) may change between restarts, is written down as a NOTE, and said.
"""

import hashlib
import os
import platform
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from gkflux.dynamics.config import RunConfig, StageConfig
from gkflux.dynamics.engine import Flux
from gkflux.system import System
from stepson.errors import StepsonError

__all__ = [
    "ChangedRunError",
    "Settings",
    "check_settings",
    "environment",
    "settings",
    "stage_differences",
    "stage_metadata",
]

Settings = dict[str, Any]
BESIDE = frozenset({"check_balance"})
"""Keys of a stage that decide no number: a restart may change them."""
PACKAGES = ("stepson", "numpy", "torch", "numba", "vesin", "blosc2", "ase")


class ChangedRunError(StepsonError):
    """The folder holds a run with other settings: going on would mix two runs.

    Attributes:
        differences: ``(key, value in the file, value now)``.
    """

    def __init__(self, file: str, differences: list[tuple[str, str, str]]) -> None:
        self.differences = differences
        head = ("", "in the file", "now")
        rows = [head, *differences]
        wide = [max(len(row[i]) for row in rows) for i in range(2)]
        table = "\n".join(f"  {a:<{wide[0]}}  {b:<{wide[1]}}  {c}" for a, b, c in rows)
        super().__init__(
            f"{file} is from a run with other settings; restore them, or choose another "
            f"output folder\n{table}"
        )


def _digest(*arrays: Any) -> str:
    parts = hashlib.sha256()
    for array in arrays:
        parts.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return parts.hexdigest()[:16]


def settings(
    config: RunConfig,
    index: int,
    system: System,
    potential: Mapping[str, Any],
    flux: Flux | None,
) -> Settings:
    """Return all that decides the numbers of a stage, as flat keys and plain values."""
    stage = config.stage[index]
    own = config.system.velocities == "file"
    found: Settings = {
        "system.atoms": system.n_atoms,
        "system.species": _digest(system.numbers.astype("<i8"), system.masses),
        "system.positions": _digest(system.positions, system.cell, system.pbc),
        "system.velocities": _digest(system.velocities) if own else "draw",
        "system.temperature": config.system.temperature,
        "system.seed": config.system.seed,
        "potential.sha256": str(potential.get("sha256", "")),
        "potential.dtype": config.potential.dtype,
        "potential.exact_filters": config.potential.exact_filters,
        "stage.index": index,
    }
    told = config.potential.model_dump(include={"units", "readout", "cutoff_function"})
    given = {key: value for key, value in told.items() if value is not None}
    found |= _flat("potential", given)
    for key, value in _flat("stage", stage.model_dump()).items():
        found[key] = value
    if flux is not None:
        found["stage.heat_flux.gauge"] = flux.gauge
        found["stage.heat_flux.convective"] = flux.convective
        found["system.lattice"] = None if flux.lattice is None else _digest(flux.lattice)
    return found


def _flat(prefix: str, table: Mapping[str, Any]) -> Settings:
    found: Settings = {}
    for key, value in table.items():
        name = f"{prefix}.{key}"
        if key in BESIDE:
            continue
        found.update(_flat(name, value) if isinstance(value, Mapping) else {name: value})
    return found


def check_settings(
    file: str, stored: Mapping[str, Any], now: Settings, *, last: bool
) -> None:
    """Compare the settings of a file with those of now.

    Args:
        file: for the message.
        stored: ``metadata["settings"]`` of the file.
        now: `settings` of the same stage.
        last: no later stage has begun, so more steps may be asked for.

    Raises:
        ChangedRunError: they differ in more than that.
    """
    differences = []
    for key in sorted({*stored, *now}):
        old, new = stored.get(key), now.get(key)
        if old != new and not (key == "stage.steps" and last and _more(new, old)):
            differences.append((key, _shown(old), _shown(new)))
    if differences:
        raise ChangedRunError(file, differences)


def stage_differences(old: StageConfig, new: StageConfig) -> list[tuple[str, str, str]]:
    """Return the keys of a stage that differ, as `ChangedRunError` shows them."""
    a, b = _flat("", old.model_dump()), _flat("", new.model_dump())
    return [
        (key.removeprefix("."), _shown(a.get(key)), _shown(b.get(key)))
        for key in sorted({*a, *b})
        if a.get(key) != b.get(key)
    ]


def _more(new: object, old: object) -> bool:
    return isinstance(new, int) and isinstance(old, int) and new > old


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def environment(device: str) -> dict[str, Any]:
    """Return host, device, threads and versions: what may change the last bits."""
    import torch

    return {
        "host": {
            "name": socket.gethostname(),
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count() or 0,
            "threads": torch.get_num_threads(),
            "numba_threads": _numba_threads(),
            "blas": _blas(),
            "device": device,
        },
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _numba_threads() -> int:
    import numba

    return int(numba.get_num_threads())


def _blas() -> str:
    import torch

    lines = torch.__config__.show().splitlines()
    found = next((line for line in lines if "BLAS_INFO" in line), "")
    name = found.partition("BLAS_INFO=")[2].partition(",")[0]
    return name or "unknown"


def stage_metadata(
    config: RunConfig,
    index: int,
    system: System,
    potential: Mapping[str, Any],
    flux: Flux | None,
    *,
    freedom: int,
    target: float,
) -> dict[str, Any]:
    """Return what METADATA says in every file of a stage; a replica adds its own part."""
    stage: StageConfig = config.stage[index]
    found: dict[str, Any] = {
        "ensemble": stage.ensemble,
        "stage": {"name": stage.name, "index": index, "steps": stage.steps},
        "replicas": stage.replicas,
        "degrees_of_freedom": freedom,
        "temperature": target,
        "seed": config.system.seed,
        "momentum_removed": stage.told.conserves_momentum,
        "potential": dict(potential),
        "settings": settings(config, index, system, potential, flux),
        "config": config.text,
    }
    if flux is not None and stage.heat_flux is not None:
        found["heat_flux"] = {
            "every": stage.heat_flux.every,
            "formulation": flux.formulation,
            "gauge": flux.gauge,
            "convective": flux.convective,
        }
        if flux.lattice is not None:
            found["lattice"] = np.array(flux.lattice, dtype=np.float64)
    return found
