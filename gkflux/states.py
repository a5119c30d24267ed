"""What a reduction has found so far, in a folder beside its result.

One file a run and pass, a zip archive of arrays (``.npz``) with a table of what they are;
each member has a checksum. A state is found again by what it depends on: the trajectory it
began with, how that was sampled, and the settings of the pass. It is believed only if the
run still begins with the samples that it was made of. Nothing in the folder is needed: it
may be deleted at any time, and a file that does not verify is made anew.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from gkflux.runs import Run

__all__ = ["Kept", "States"]

VERSION = 1
"""Of what is kept: another one is not read."""


class Kept(NamedTuple):
    """A state, and the sample up to which it reaches."""

    stop: int
    state: Any


class States:
    """The states in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, run: Run, key: Mapping[str, Any]) -> Kept | None:
        """Return what was kept of a run, None where there is nothing to be believed."""
        try:
            with (
                self._path(run, key).open("rb") as file,
                np.load(file, allow_pickle=False) as archive,
            ):
                table = json.loads(bytes(archive["table"]))
                if table["parts"] != _parts(run, table["stop"]):
                    return None
                arrays = {name: archive[name] for name in archive.files}
            return Kept(table["stop"], _decode(table["state"], arrays))
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
            return None  # missing, torn or of another version: computed anew

    def store(self, run: Run, key: Mapping[str, Any], stop: int, state: Any) -> None:
        """Keep the state of the samples up to `stop`; what was kept before is replaced."""
        if not run.parts:
            return
        arrays: dict[str, Any] = {}
        table = {
            "stop": stop,
            "parts": _parts(run, stop),
            "key": _key(run, key),
            "state": _encode(state, arrays),
        }
        text = json.dumps(table).encode()
        buffer = BytesIO()
        np.savez(buffer, table=np.frombuffer(text, np.uint8), **arrays)
        path = self._path(run, key)
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(buffer.getbuffer())
        part.replace(path)

    def _path(self, run: Run, key: Mapping[str, Any]) -> Path:
        text = json.dumps(_key(run, key), sort_keys=True)
        return self.folder / f"{sha256(text.encode()).hexdigest()[:24]}.npz"


def _key(run: Run, key: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "run": run.parts[0].uuid if run.parts else None,
        "every": run.every,
        "origin": run.origin,
        "timestep": run.timestep,
        "channels": run.channels,
        **({"variant": run.variant} if run.variant else {}),
        **key,
    }


def _parts(run: Run, stop: int) -> list[list[Any]]:
    """What the first `stop` samples of a run are made of: uuid and samples of files."""
    found: list[list[Any]] = []
    before = 0
    for part in run.parts:
        if before < stop:
            found.append([part.uuid, min(part.samples, stop - before)])
        before += part.samples
    return found


def _encode(value: Any, arrays: dict[str, Any]) -> Any:
    """Write a tree of records and numbers as JSON, its arrays apart."""
    if isinstance(value, np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    names = _names(value)
    if names is not None:
        entries = [_encode(getattr(value, name), arrays) for name in names]
        return {"record": type(value).__name__, "entries": entries}
    if isinstance(value, Mapping):
        pairs = [[key, _encode(entry, arrays)] for key, entry in value.items()]
        return {"mapping": pairs}
    if isinstance(value, list | tuple):
        return {"tuple": [_encode(entry, arrays) for entry in value]}
    return {"value": value}


def _names(value: Any) -> tuple[str, ...] | None:
    """Entries of a record; None for anything else."""
    if is_dataclass(value):
        return tuple(field.name for field in fields(value))
    return getattr(value, "_fields", None)


def _decode(entry: Any, arrays: Mapping[str, Any]) -> Any:
    ((kind, content),) = [(k, v) for k, v in entry.items() if k != "entries"]
    if kind == "array":
        return arrays[content]
    if kind == "record":
        made = [_decode(each, arrays) for each in entry["entries"]]
        return _records()[content](*made)
    if kind == "mapping":
        return {key: _decode(each, arrays) for key, each in content}
    if kind == "tuple":
        return tuple(_decode(each, arrays) for each in content)
    return content


def _records() -> dict[str, Any]:
    """Every record that a state may be made of."""
    from gkflux.correlate import LagState, PooledLags
    from gkflux.moments import Moments, TimeMoments
    from gkflux.pieces import Breaks
    from gkflux.segments import Layout, SegmentState
    from gkflux.spectrum import Spectrum
    from gkflux.sums import PieceSums, RunSums, Sums
    from gkflux.survey import Seen

    records = (
        Breaks, LagState, Layout, Moments, PieceSums, PooledLags, RunSums, Seen,
        SegmentState, Spectrum, Sums, TimeMoments,
    )  # fmt: skip
    return {record.__name__: record for record in records}
