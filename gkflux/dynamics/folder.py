"""What a folder holds before a run goes on in it: is that this run?

Every stage is looked at before any is computed, so what does not fit is refused at once.
A file must have been written with the settings of now, and start where its stage starts
now. The stages before it must be those of the configuration that it carries, because their
own files may be gone. A stage that is there under another name is refused too. Allowed
are more steps in the last stage that has begun, and stages after it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stepson
from gkflux.dynamics.config import ConfigError, RunConfig, StageConfig, parse
from gkflux.dynamics.provenance import (
    ChangedRunError,
    Settings,
    check_settings,
    stage_differences,
)
from gkflux.dynamics.replicas import files_of, start_steps
from gkflux.errors import FluxError
from stepson import Trajectory
from stepson.errors import FormatError, VersionError

__all__ = ["check_names", "check_stage"]


def check_names(folder: Path, config: RunConfig, now: Sequence[Settings]) -> None:
    """Refuse to compute a stage that is there under another name.

    Runs whose stages differ in more than the name may share a folder, and whatever was
    renamed or moved aside is nobody's.

    Args:
        folder: of the run.
        config: the whole run.
        now: `provenance.settings` of every stage.

    Raises:
        ChangedRunError: names the stage.
    """
    names = [stage.name for stage in config.stage]
    for path in sorted([*folder.glob("*/md.son"), *folder.glob("*/*/md.son")]):
        place = path.relative_to(folder).parts[0]
        if place in names:
            continue
        stored = _settings_of(path)
        for settings, name in zip(now, names, strict=True):
            new = not (folder / name).exists()
            if new and _other_keys(stored, settings) == {"stage.name"}:
                raise ChangedRunError(str(path), [("stage.name", place, name)])


def _settings_of(path: Path) -> Mapping[str, Any]:
    """Return the settings of a file; nothing where it is none of ours, or elsewhere now."""
    try:
        with stepson.open(path) as trajectory:
            stored = dict(trajectory.metadata.get("settings") or {})
    except FormatError:
        return {}
    return stored if stored.get("stage.name") in path.parts[-3:-1] else {}


def _other_keys(stored: Mapping[str, Any], now: Settings) -> set[str]:
    different = {key for key in {*stored, *now} if stored.get(key) != now.get(key)}
    return different - {"stage.steps"}


def check_stage(folder: Path, config: RunConfig, index: int, now: Settings) -> None:
    """Compare the files of a stage with what would be written now.

    Args:
        folder: of the run.
        config: the whole run.
        index: of the stage.
        now: `provenance.settings` of the stage.

    Raises:
        ChangedRunError: the files are those of another run.
        FluxError: there are files of another number of replicas, or unreadable ones.
    """
    stage = config.stage[index]
    files = files_of(folder, stage)
    strange = sorted(set((folder / stage.name).glob("**/md.son")) - set(files))
    if strange:
        raise FluxError(
            f"{strange[0]} is not of a stage with replicas = {stage.replicas}; "
            "restore that number, or choose another output folder"
        )
    later = config.stage[index + 1 :]
    begun = any(path.exists() for each in later for path in files_of(folder, each))
    for replica, path in enumerate(files):
        if path.exists():
            with _opened(path) as trajectory:
                _check_length(trajectory, stage, begun, now)
                _check_start(trajectory, config, index, replica)


@contextmanager
def _opened(path: Path) -> Iterator[Trajectory]:
    """Open a file; what cannot be read can at least be computed again."""
    try:
        trajectory = stepson.open(path)
    except VersionError:
        raise
    except FormatError as error:
        raise FluxError(
            f"{error}; move that file away, and the same command computes it again"
        ) from error
    with trajectory:
        yield trajectory


def _check_length(
    trajectory: Trajectory, stage: StageConfig, begun: bool, now: Settings
) -> None:
    """Check the settings; a stage may have become longer since its file was created."""
    file, stored = str(trajectory.path), trajectory.metadata.get("settings")
    if stored is None:
        raise FluxError(f"{file} was not written by a run; choose another output folder")
    reached = max(trajectory.checkpoint_steps, default=0)
    if reached > stage.steps:
        steps = ("stage.steps", f"{reached} so far", str(stage.steps))
        raise ChangedRunError(file, [steps])
    if reached > stored["stage.steps"]:
        stored = {**stored, "stage.steps": reached}
    check_settings(file, stored, now, last=not begun)


def _check_start(
    trajectory: Trajectory, config: RunConfig, index: int, replica: int
) -> None:
    """Check where a file starts, and how the stages before it were computed."""
    if index == 0:
        return
    file, about = str(trajectory.path), trajectory.metadata
    stored, stages = about["start"]["step"], config.stage
    step = start_steps(stages[index], stages[index - 1])[replica]
    if stored != step:
        raise ChangedRunError(file, [("start.step", str(stored), str(step))])
    try:
        before = parse(about["config"], config.path).stage[:index]
    except ConfigError:  # from Python, or of a version with other keys
        return
    found = [d for old, new in zip(before, stages, strict=False) for d in _pair(old, new)]
    if found:
        raise ChangedRunError(file, found)


def _pair(old: StageConfig, new: StageConfig) -> list[tuple[str, str, str]]:
    return [(f"{old.name}.{key}", a, b) for key, a, b in stage_differences(old, new)]
