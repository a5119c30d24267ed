"""The run configuration: a TOML file, validated, with errors that name key and place.

`load` reads the file, `RunConfig` holds it. Paths in the file are relative to the file.
Nothing is guessed: an unknown key is an error that names the nearest known one, and what
contradicts itself (two stages of one name, a start state before step 0 ...) is refused
before anything is computed.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from gkflux.dynamics.config_errors import ConfigError, explain, toml_error

__all__ = [
    "ConfigError",
    "FluxConfig",
    "OutputConfig",
    "PotentialConfig",
    "RecordConfig",
    "RunConfig",
    "StageConfig",
    "StartsConfig",
    "SystemConfig",
    "load",
    "parse",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
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


class _Table(BaseModel):
    """A table of the file: unknown keys are errors, and `"3"` is not a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SystemConfig(_Table):
    """``[system]``: atoms, temperature, where the velocities come from.

    Attributes:
        structure: any file that ASE reads.
        supercell: repetitions along the three cell vectors, of structure and lattice.
        lattice: equilibrium positions of the same cell, for the reference-lattice gauge.
        temperature: K, target of every thermostat.
        velocities: ``draw`` (Maxwell-Boltzmann at `temperature`) or ``file``.
        seed: everything random follows from it.
    """

    structure: str
    supercell: Annotated[list[Count], Field(min_length=3, max_length=3)] = [1, 1, 1]
    lattice: str | None = None
    temperature: Positive
    velocities: Literal["draw", "file"] = "draw"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class PotentialConfig(_Table):
    """``[potential]``: a model file, or the name of a shipped model such as ``argon``."""

    model: str
    dtype: Literal["float32", "float64"] = "float32"
    exact_filters: bool | None = None


class RecordConfig(_Table):
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


class FluxConfig(_Table):
    """``heat_flux``: cadence, formulation, gauge.

    Attributes:
        every: steps between two samples.
        formulation: ``semilocal`` (exact) or ``local`` (one interaction layer only).
        gauge: ``lattice`` needs ``system.lattice`` and is the default with it; else
            ``none``.
        convective: add sum E_i v_i in gauge ``none``; the lattice gauge has no such term.
    """

    every: Count = 2
    formulation: Literal["semilocal", "local"] = "semilocal"
    gauge: Literal["lattice", "none"] | None = None
    convective: bool = True


class StartsConfig(_Table):
    """``starts``: where in the stage before the replicas begin."""

    spacing: Count | None = None


class StageConfig(_Table):
    """One ``[[stage]]``.

    Attributes:
        name: also the name of its folder.
        ensemble: ``nve`` or ``langevin``.
        timestep: fs.
        steps: how many.
        friction: 1/fs, for ``langevin``.
        temperature: K, instead of the system's.
        replicas: how many run as one batch, from different start states.
        starts: where they start.
        record: what is stored; see `RecordConfig`.
        heat_flux: absent: no heat flux.
    """

    name: str
    ensemble: Literal["nve", "langevin"] = "nve"
    timestep: Positive
    steps: Count
    friction: Positive | None = None
    temperature: Positive | None = None
    replicas: Count = 1
    starts: StartsConfig = StartsConfig()
    record: RecordConfig = RecordConfig()
    heat_flux: FluxConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_built(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("ensemble") in ("csvr", "npt"):
            raise ValueError(
                f"ensemble {data['ensemble']!r} is not available in this version; "
                "use 'nve' or 'langevin'"
            )
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not STAGE_NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} cannot be a folder: use letters, digits, . _ -"
            )
        if self.ensemble == "langevin" and self.friction is None:
            raise ValueError("ensemble 'langevin' needs friction (1/fs), for example 0.002")
        if self.ensemble == "nve" and self.friction is not None:
            raise ValueError("friction has no meaning with ensemble 'nve'; remove it")
        return self

    def uneven(self) -> list[str]:
        """Return the names of the cadences that `steps` is no multiple of."""
        flux = () if self.heat_flux is None else (("heat_flux", self.heat_flux.every),)
        cadences = (("record", self.record.every), *flux)
        return [f"{name}.every = {every}" for name, every in cadences if self.steps % every]


class OutputConfig(_Table):
    """``[output]``: the folder, and how much work a crash may cost.

    Attributes:
        folder: relative to the configuration file.
        commit_seconds: wall time between two commits.
        commit_steps: at most so many steps between two commits; absent: no such limit.
    """

    folder: str
    commit_seconds: Positive = 30.0
    commit_steps: Count | None = None


class RunConfig(_Table):
    """A whole run: system, potential, stages, output."""

    system: SystemConfig
    potential: PotentialConfig
    stage: Annotated[list[StageConfig], Field(min_length=1)]
    output: OutputConfig
    _path: Path = PrivateAttr(default=Path("run.toml"))
    _text: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        names = [stage.name for stage in self.stage]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are called {name!r}; rename one")
        before = 0
        for i, stage in enumerate(self.stage):
            self._starts_fit(i, stage, before)
            self._gauge_fits(stage)
            before = stage.replicas
        return self

    def _starts_fit(self, index: int, stage: StageConfig, before: int) -> None:
        """Check that every replica of a stage has a start state, and one of its own."""
        where, spacing, count = (
            f"stage {stage.name!r}",
            stage.starts.spacing,
            stage.replicas,
        )
        if before != 1 and spacing is not None:
            raise ValueError(
                f"{where}: starts.spacing needs a stage before it that has one replica"
            )
        if before > 1 and count != before:
            raise ValueError(
                f"{where}: replicas = {count}, but the stage before has {before}; give "
                "both the same number"
            )
        if index == 0:
            if count > 1 and self.system.velocities == "file" and stage.ensemble == "nve":
                raise ValueError(
                    f"{where}: {count} replicas from one file would all be equal; use "
                    "velocities = 'draw'"
                )
            return
        last = self.stage[index - 1]
        needed = 2 * count if spacing is None else (count - 1) * spacing
        if before == 1 and count > 1 and needed > last.steps:
            raise ValueError(
                f"{where}: its {count} replicas start from {needed} steps of stage "
                f"{last.name!r}, which has {last.steps}"
            )

    def _gauge_fits(self, stage: StageConfig) -> None:
        flux = stage.heat_flux
        if flux is not None and flux.gauge == "lattice" and self.system.lattice is None:
            raise ValueError(
                f"stage {stage.name!r}: heat_flux.gauge = 'lattice' needs "
                "system.lattice, the equilibrium positions"
            )

    @property
    def path(self) -> Path:
        """The file this was read from."""
        return self._path

    @property
    def text(self) -> str:
        """The file, verbatim."""
        return self._text

    def resolve(self, name: str) -> Path:
        """Return a path of the configuration: relative ones are relative to the file."""
        return (self._path.parent / Path(name).expanduser()).absolute()

    @property
    def folder(self) -> Path:
        """Where the output goes unless the caller says otherwise."""
        return self.resolve(self.output.folder)

    def changed(self, *, steps: int | None = None, replicas: int | None = None) -> Self:
        """Return this run with another length or number of replicas of its last stage.

        Raises:
            ConfigError: the values do not fit.
        """
        stages = [stage.model_dump() for stage in self.stage]
        if steps is not None:
            stages[-1]["steps"] = steps
        if replicas is not None:
            stages[-1]["replicas"] = replicas
        data = {**self.model_dump(), "stage": stages}
        return self.validated(data, self._path, self._text)

    @classmethod
    def validated(cls, data: dict[str, object], path: Path, text: str) -> Self:
        """Check the parsed content of a file.

        Raises:
            ConfigError: an unknown or missing key, a wrong type or value.
        """
        try:
            config = cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(explain(error, data, text, cls), path) from None
        config._path, config._text = path, text  # noqa: SLF001
        return config


def parse(text: str, path: Path) -> RunConfig:
    """Validate the text of a configuration as if it stood at `path`.

    Raises:
        ConfigError: not TOML, an unknown or missing key, a wrong type or value.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(toml_error(error), path) from None
    return RunConfig.validated(data, path, text)


def load(path: str | Path) -> RunConfig:
    """Read a run configuration.

    Raises:
        ConfigError: the file cannot be read or is wrong; one line says what, where and
            what was expected.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot be read: {reason}", path) from None
    return parse(text, path.absolute())
