"""The result of a reduction: a thermal conductivity with its error, checks and verdict."""

import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

import stepson
from gkflux.checks import Check
from gkflux.correlate import Float
from gkflux.errors import FluxError
from gkflux.estimators.estimate import Estimate, quantile
from gkflux.rounding import rounded
from stepson.units import BOLTZMANN, CONDUCTIVITY

if TYPE_CHECKING:
    from gkflux.system import System

__all__ = ["GreenKubo", "prefactor"]

NORMAL_95 = quantile(0.95, np.inf)


def prefactor(temperature: float, volume: float) -> float:
    """Return 1/(kB T² V) for a time integral in eV² Å²/fs, in W/(m K).

    Args:
        temperature: mean kinetic temperature, K.
        volume: Å³.
    """
    return CONDUCTIVITY / (BOLTZMANN * temperature**2 * volume)


@dataclass(frozen=True)
class GreenKubo:
    """A thermal conductivity, and everything that is needed to believe it."""

    kappa: float
    """Mean of the diagonal of the tensor, W/(m K)."""
    record: Estimate
    """The estimate behind `kappa`: method, standard error, degrees of freedom, details."""
    reason: str
    """Why this estimate is quoted, in words."""
    tensor: Float
    """kappa_ab, W/(m K), shape (3, 3); averaged over the point group where it is known."""
    tensor_std: Float
    """Its error, element by element; half-width of the 95 % interval / 1.96."""
    checks: tuple[Check, ...]
    """Every check made, passed or not."""
    verdict: str
    """One line: converged, or how much more data is needed."""
    status: str
    """`converged`, `more data needed`, `error too small` or `no error bar`."""
    tau: float
    """Correlation time, fs."""
    methods: Mapping[str, Estimate]
    """Every estimator's value."""
    curves: Mapping[str, Float]
    """What the report plots; `save` writes them to gk.npz."""
    inputs: tuple[Mapping[str, Any], ...]
    """The runs analysed: name, samples, T, V, provenance."""
    settings: Mapping[str, Any]
    """What was asked for and what was decided: f*, lags, segment length, blocks."""
    temperature: float
    """Mean kinetic temperature, K."""
    volume: float
    """Mean volume, Å³."""
    blocks: Float = field(default_factory=lambda: np.zeros(0))
    """kappa of every block at the common cut, W/(m K)."""
    replicas: Float = field(default_factory=lambda: np.zeros(0))
    """kappa of every run at the common K, W/(m K)."""
    symmetry: Mapping[str, Any] = field(default_factory=dict)
    """Of the crystal: `words`, and where it is known, group, structure, tolerance, the
    classes of equivalent components, the tensor before it was averaged."""

    @property
    def kappa_std(self) -> float:
        """Half-width of the 95 % interval / 1.96; nan where there is no error bar."""
        if self.status == "no error bar":
            return nan
        return self.record.half_width(0.95) / NORMAL_95

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval that covers the true value with probability `level`.

        Raises:
            FluxError: `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise FluxError(f"the level of an interval is between 0 and 1, not {level}")
        if self.status == "no error bar":
            return nan, nan
        return self.record.interval(level)

    @classmethod
    def from_trajectories(
        cls,
        paths: str | Path | Iterable[str | Path],
        *,
        any_ensemble: bool = False,
        temperature: float | None = None,
        volume: float | None = None,
        threads: int | None = None,
        workers: int | None = None,
        scheduler: str | None = None,
        states: str | Path | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        structure: "System | None" = None,
        gauge: str = "stored",
        currents: str = "auto",
        **options: Any,
    ) -> "GreenKubo":
        """Reduce trajectories that hold a heat flux.

        Args:
            paths: a file, a folder, a glob such as ``runs/*/md.son``, or several of them.
            any_ensemble: take thermostatted stages too, not only NVE.
            temperature: K, for files without a kinetic temperature.
            volume: Å³, for files without a cell.
            threads: of this process, which share the work on every run; None: one a core.
            workers: processes of this machine instead.
            scheduler: address or file of a dask scheduler whose workers see the same files,
                instead.
            states: folder in which to keep what was accumulated; what is found there is
                not accumulated again, though the trajectories have grown.
            progress: called with (what is done, parts done, of how many).
            structure: of the crystal, instead of the one found in the files.
            gauge: `stored`, or `virials`: without the part of the flux that mean virials
                of the atoms make, where the files have virials and velocities.
            currents: `auto`: mixtures that diffuse are analysed with their mass currents,
                where the files have these, or velocities at every sample; `none`.
            options: fields of `gkflux.plan.Settings`: mode, method, fstar, lag ...

        Raises:
            FluxError: nothing to analyse, or runs that must not be pooled.
        """
        from gkflux.conductivity import reduce_runs, settings_of
        from gkflux.trajectories import trajectory_runs

        runs = trajectory_runs(
            paths,
            any_ensemble=any_ensemble,
            temperature=temperature,
            volume=volume,
            gauge=gauge,
            currents=currents,
        )
        return reduce_runs(
            runs,
            settings_of(options),
            threads=threads,
            workers=workers,
            scheduler=scheduler,
            states=states,
            progress=progress,
            structure=structure,
        )

    def to_json(self) -> str:
        """Return the result without the curves, as JSON; nan becomes null."""
        return json.dumps(_plain(self.summary()), indent=2, ensure_ascii=False)

    def summary(self) -> dict[str, Any]:
        """Return the result without the curves, as a dict."""
        low, high = self.interval(0.95)
        return {
            "kappa": self.kappa,
            "kappa_std": self.kappa_std,
            "interval_95": [low, high],
            "unit": "W/(m K)",
            "verdict": self.verdict,
            "status": self.status,
            "record": {"method": self.record.method, "reason": self.reason},
            "tensor": self.tensor,
            "tensor_std": self.tensor_std,
            "symmetry": self.symmetry,
            "correlation_time_fs": self.tau,
            "temperature_K": self.temperature,
            "volume_A3": self.volume,
            "prefactor": {
                "formula": "1 / (kB T^2 V); J extensive, eV Å/fs; time, fs; kappa, W/(m K)",
                "value": prefactor(self.temperature, self.volume),
                "kB_eV_per_K": BOLTZMANN,
                "eV_per_A_fs_K_in_W_per_m_K": CONDUCTIVITY,
            },
            "methods": {
                name: {
                    "kappa": e.kappa,
                    "std": e.std,
                    "dof": e.dof,
                    "interval_95": list(e.interval(0.95)),
                    **e.details,
                }
                for name, e in self.methods.items()
            },
            "blocks": self.blocks,
            "replicas": self.replicas,
            "checks": [
                {"name": c.name, "status": c.status, "message": c.message}
                for c in self.checks
            ],
            "settings": self.settings,
            "inputs": list(self.inputs),
            "versions": _versions(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write gk.json, gk.npz (the curves) and report.html into `folder`, return it."""
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        (where / "gk.json").write_text(self.to_json() + "\n", encoding="utf-8")
        arrays: dict[str, Any] = dict(self.curves)
        np.savez_compressed(where / "gk.npz", **arrays)
        self.report(where / "report.html")
        return where

    def report(self, path: str | Path) -> Path:
        """Write the report, one HTML file that opens without a network, return its path."""
        from gkflux.report import write_report

        return write_report(self, Path(path))

    def export(self, path: str | Path, kind: str) -> Path:
        """Write the result for another program, return its path.

        Args:
            path: of the file.
            kind: `stacie`, the spectrum as the arguments of STACIE's `Spectrum` (npz); or
                `vibes`, netCDF with the variables of FHI-vibes.

        Raises:
            FluxError: another kind.
        """
        from gkflux.export import export

        return export(self, path, kind)

    def __repr__(self) -> str:
        number = rounded(self.kappa, self.kappa_std)
        return f"GreenKubo(kappa={number} W/(m K), {self.status})"

    def __str__(self) -> str:
        lines = [
            f"kappa = {self.kappa:.4g} ± {self.kappa_std:.2g} W/(m K)   {self.verdict}"
        ]
        for name, e in self.methods.items():
            lines.append(f"  {name:14s} {e.kappa:10.4g} ± {e.std:.2g}")
        lines += [f"  [{c.status}] {c.name}: {c.message}" for c in self.checks]
        return "\n".join(lines)


def _versions() -> dict[str, str]:
    return {
        "stepson": stepson.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def _plain(value: Any) -> Any:
    """Make a tree of numbers and arrays fit for JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if isinstance(value, str | int | bool) or value is None else str(value)
