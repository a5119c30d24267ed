"""The run configuration: a TOML file, validated, with errors that name key and place.

`load` reads the file, `RunConfig` holds it. Paths in the file are relative to the file.
Nothing is guessed: an unknown key is an error that names the nearest known one, and what
contradicts itself (two stages of one name, a start state before step 0 ...) is refused
before anything is computed.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from gkflux.dynamics.config_errors import ConfigError, explain, toml_error
from gkflux.dynamics.config_tables import (
    FluxConfig,
    OutputConfig,
    PotentialConfig,
    RecordConfig,
    StageConfig,
    StartsConfig,
    SystemConfig,
    Table,
)

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


class RunConfig(Table):
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
            self._copies_differ(stage)
            return
        last = self.stage[index - 1]
        needed = 2 * count if spacing is None else (count - 1) * spacing
        if before == 1 and count > 1 and needed > last.steps:
            raise ValueError(
                f"{where}: its {count} replicas start from {needed} steps of stage "
                f"{last.name!r}, which has {last.steps}"
            )

    def _copies_differ(self, stage: StageConfig) -> None:
        """Check that copies are told apart: neither Newton nor a common factor does it."""
        if self.system.velocities != "file" or not stage.told.conserves_momentum:
            return
        where = f"stage {stage.name!r}"
        if stage.replicas > 1 and stage.ensemble == "nve":
            raise ValueError(
                f"{where}: {stage.replicas} replicas from one file would all be equal; use "
                "velocities = 'draw'"
            )
        if max(self.system.supercell) > 1:
            raise ValueError(
                f"{where}: all cells of the supercell would move alike, with velocities "
                "from the file of one; use velocities = 'draw', or a file of all atoms"
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
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot be read: {reason}", path) from None
    return parse(text, path.absolute())
