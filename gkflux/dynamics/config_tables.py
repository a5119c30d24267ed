"""The tables of a run configuration: keys, types, defaults, and what must agree within one.

What concerns several tables is checked in ``config.py``. An unknown key is an error.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gkflux.dynamics.ensembles import Ensemble

__all__ = [
    "FluxConfig",
    "OutputConfig",
    "PotentialConfig",
    "RecordConfig",
    "StageConfig",
    "StartsConfig",
    "SystemConfig",
    "Table",
    "UnitsConfig",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Recordable = Literal[
    "positions",
    "velocities",
    "forces",
    "stress",
    "energy",
    "energy_kinetic",
    "temperature",
]
STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Table(BaseModel):
    """A table of the file: unknown keys are errors, and `"3"` is not a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SystemConfig(Table):
    """``[system]``: atoms, temperature, where the velocities come from.

    Attributes:
        structure: any file that ASE reads.
        supercell: repetitions along the three cell vectors, of structure and lattice.
        lattice: equilibrium positions of the same cell, for the reference-lattice gauge.
        temperature: K, target of every thermostat.
        velocities: ``draw`` (Maxwell-Boltzmann at the temperature of the first stage, no
            total momentum) or ``file``.
        seed: everything random follows from it.
    """

    structure: str
    supercell: Annotated[list[Count], Field(min_length=3, max_length=3)] = [1, 1, 1]
    lattice: str | None = None
    temperature: Positive
    velocities: Literal["draw", "file"] = "draw"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class UnitsConfig(Table):
    """``units``: what a model of another program computes in.

    Attributes:
        energy: such as ``eV``, ``kcal/mol``, ``Hartree``.
        length: such as ``Å``, ``Bohr``.
    """

    energy: str
    length: str


class PotentialConfig(Table):
    """``[potential]``: a trained network, an analytic potential, or a model of one's own.

    Attributes:
        model: a file, the name of a shipped model such as ``argon``, ``lennard-jones``,
            ``stillinger-weber``, or ``python:FILE.py:NAME``.
        dtype: of the network; positions and the flux sum stay float64.
        exact_filters: True: no tables in float32 either.
        elements: symbols the model is trained on, where its file does not tell.
        units: of a model of another program, where its file does not tell.
        readout: activation of its readout, likewise.
        cutoff_function: of its filters, likewise.
        parameters: of an analytic potential, or of the function of a ``python:`` name.
    """

    model: str
    dtype: Literal["float32", "float64"] = "float32"
    exact_filters: bool | None = None
    elements: Annotated[list[str], Field(min_length=1)] | None = None
    units: UnitsConfig | None = None
    readout: Literal["ssp", "silu"] | None = None
    cutoff_function: Literal["cosine", "hard"] | None = None
    parameters: dict[str, Any] | None = None


class RecordConfig(Table):
    """``record``: what is stored, how often and how exactly.

    Attributes:
        every: steps between two frames.
        fields: per-atom fields (and ``stress``); energies and temperature are always
            stored.
        precision: largest absolute error of a stored value, by field; lossless where
            absent.
        dtype: ``float32`` (default) or ``float64``, by field.
    """

    every: Count = 10
    fields: list[Recordable] = ["positions", "velocities"]
    precision: dict[Recordable, Positive] = {}
    dtype: dict[Recordable, Literal["float32", "float64"]] = {}

    @model_validator(mode="after")
    def _only_recorded(self) -> Self:
        for key, table in (("precision", self.precision), ("dtype", self.dtype)):
            for name in table:
                if name not in self.fields:
                    raise ValueError(f"{key} is given for {name!r}, which is not recorded")
                if name not in ("positions", "velocities", "forces"):
                    raise ValueError(f"{key} of {name!r} cannot be changed: it is exact")
        return self


class FluxConfig(Table):
    """``heat_flux``: cadence, formulation, gauge.

    Attributes:
        every: steps between two samples.
        formulation: ``semilocal`` (exact) or ``local`` (one interaction layer only).
        gauge: ``lattice`` needs ``system.lattice`` and is the default with it; else
            ``none``.
        convective: add sum E_i v_i in gauge ``none``; the lattice gauge has no such term.
        check_balance: compare the power along the edges with what the energy of every atom
            changes by, at some of the samples, and stop where they differ.
        mass_currents: store the mass current of every species beside it, as `gk` needs
            them of mixtures that diffuse.
        plain: in gauge ``lattice``: store the flux in gauge ``none``, too, as
            ``heat_flux_plain``.
    """

    every: Count = 2
    formulation: Literal["semilocal", "local"] = "semilocal"
    gauge: Literal["lattice", "none"] | None = None
    convective: bool = True
    check_balance: bool = False
    mass_currents: bool | None = None
    plain: bool | None = None


class StartsConfig(Table):
    """``starts``: where in the stage before the replicas begin."""

    spacing: Count | None = None


class StageConfig(Table):
    """One ``[[stage]]``.

    Attributes:
        name: also the name of its folder.
        ensemble: ``nve``, ``langevin``, ``csvr`` (stochastic velocity rescaling) or ``npt``
            (that, or Langevin's thermostat, and stochastic cell rescaling, isotropic).
        timestep: fs.
        steps: how many.
        friction: 1/fs, for ``langevin``, and for ``npt`` instead of ``relaxation``.
        relaxation: fs, of the kinetic energy, for ``csvr`` and ``npt``.
        pressure: GPa, for ``npt``.
        pressure_relaxation: fs, of the volume, for ``npt``; absent: 1000.
        compressibility: 1/GPa, for ``npt``; sets the pace only. Absent: that of the
            structure at rest, measured.
        temperature: K, instead of the system's.
        replicas: how many run as one batch, from different start states.
        starts: where they start.
        record: what is stored; see `RecordConfig`.
        heat_flux: absent: no heat flux.
    """

    name: str
    ensemble: Literal["nve", "langevin", "csvr", "npt"] = "nve"
    timestep: Positive
    steps: Count
    friction: Positive | None = None
    relaxation: Positive | None = None
    pressure: Finite | None = None
    pressure_relaxation: Positive | None = None
    compressibility: Positive | None = None
    temperature: Positive | None = None
    replicas: Count = 1
    starts: StartsConfig = StartsConfig()
    record: RecordConfig = RecordConfig()
    heat_flux: FluxConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not STAGE_NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} cannot be a folder: use letters, digits, . _ -"
            )
        self.told.check()
        if self.ensemble == "npt" and self.heat_flux is not None:
            raise ValueError(
                "heat_flux has no meaning with ensemble 'npt', whose cell changes; take it "
                "in an nve stage after it, which has the mean cell"
            )
        return self

    @property
    def told(self) -> Ensemble:
        """The ensemble with its parameters, as the file has them."""
        return Ensemble(
            self.ensemble,
            friction=self.friction,
            relaxation=self.relaxation,
            pressure=self.pressure,
            compressibility=self.compressibility,
            pressure_relaxation=self.pressure_relaxation,
        )

    def uneven(self) -> list[str]:
        """Return the names of the cadences that `steps` is no multiple of."""
        flux = () if self.heat_flux is None else (("heat_flux", self.heat_flux.every),)
        cadences = (("record", self.record.every), *flux)
        return [f"{name}.every = {every}" for name, every in cadences if self.steps % every]


class OutputConfig(Table):
    """``[output]``: the folder, and how much work a crash may cost.

    Attributes:
        folder: relative to the configuration file.
        commit_seconds: wall time between two commits.
        commit_steps: at most so many steps between two commits; absent: no such limit.
    """

    folder: str
    commit_seconds: Positive = 30.0
    commit_steps: Count | None = None
