"""The ensembles: what each needs to be told.

============ ============ ================================== ====================
ensemble     constant     parameters                         total momentum
============ ============ ================================== ====================
nve          energy                                          zero
langevin     temperature  friction                           moves freely
csvr         temperature  relaxation                         zero
npt          temperature, relaxation (csvr) or friction      zero or moves freely
             pressure     (Langevin), pressure,
                          compressibility,
                          pressure_relaxation
============ ============ ================================== ====================

Where npt is not told a compressibility, that of the structure at rest is used, measured
when the stage begins (`integrators.static_compressibility`). The distribution of
the volume does not depend on it, only the pace does.
"""

from dataclasses import dataclass
from math import isfinite

__all__ = ["Ensemble"]

EXAMPLES = {
    "friction": "(1/fs), for example 0.002",
    "relaxation": "(fs), for example 100",
    "pressure": "(GPa), for example 0",
    "compressibility": "(1/GPa), for example 0.005",
    "pressure_relaxation": "(fs), for example 1000",
}
NEEDED: dict[str, tuple[str, ...]] = {
    "nve": (),
    "langevin": ("friction",),
    "csvr": ("relaxation",),
    "npt": ("pressure",),
}
ALLOWED: dict[str, tuple[str, ...]] = {**NEEDED, "npt": tuple(EXAMPLES)}


@dataclass(frozen=True)
class Ensemble:
    """What a stage asks for.

    Attributes:
        name: ``nve``, ``langevin``, ``csvr`` or ``npt``.
        friction: 1/fs, of Langevin's thermostat.
        relaxation: fs, of the kinetic energy under stochastic velocity rescaling.
        pressure: GPa, compression positive.
        compressibility: 1/GPa; None: measured.
        pressure_relaxation: fs, of the volume; None: 1000.
    """

    name: str
    friction: float | None = None
    relaxation: float | None = None
    pressure: float | None = None
    compressibility: float | None = None
    pressure_relaxation: float | None = None

    @property
    def conserves_momentum(self) -> bool:
        """Whether the total momentum is removed at the start, and stays zero."""
        return self.friction is None

    @property
    def changes_cell(self) -> bool:
        """Whether the volume fluctuates."""
        return self.name == "npt"

    @property
    def label(self) -> str:
        """For people."""
        return f"npt at {self.pressure:g} GPa" if self.changes_cell else self.name

    @property
    def parameters(self) -> dict[str, float]:
        """Those that it has, by name."""
        values = {name: getattr(self, name) for name in EXAMPLES}
        return {name: value for name, value in values.items() if value is not None}

    def check(self) -> None:
        """Refuse parameters that are missing, or that have no meaning here.

        Raises:
            ValueError: one line.
        """
        name = self.name
        if name not in ALLOWED:
            known = ", ".join(ALLOWED)
            raise ValueError(f"ensemble {name!r} is not known; known are {known}")
        present = [key for key in EXAMPLES if getattr(self, key) is not None]
        for key in NEEDED[name]:
            if key not in present:
                raise ValueError(f"ensemble {name!r} needs {key} {EXAMPLES[key]}")
        for key in present:
            if key not in ALLOWED[name]:
                raise ValueError(f"{key} has no meaning with ensemble {name!r}; remove it")
            value = getattr(self, key)
            if not (isfinite(value) and (value > 0 or key == "pressure")):
                raise ValueError(f"{key} = {value} is no such value; {key} {EXAMPLES[key]}")
        if name == "npt" and ("friction" in present) == ("relaxation" in present):
            raise ValueError(
                "ensemble 'npt' needs one thermostat: relaxation (fs), for example 100, "
                "for stochastic velocity rescaling, or friction (1/fs) for Langevin's"
            )
