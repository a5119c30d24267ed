"""The frames that formats are compared on: made once, kept as float32 in a folder.

- argon: Lennard-Jones liquid, 864 atoms;
- silicon: crystalline, Stillinger-Weber at 300 K, 1000 atoms;
- network: any run configuration, say a SchNet; 500 steps to thermalise, then NVE.

Positions, velocities and forces of every step of 4 fs (of the network: of its first stage);
`Frames.every` takes some of them.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measuring
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gkflux.dynamics.config import RunConfig

FIELDS = {"positions": "Å", "velocities": "Å/fs", "forces": "eV/Å"}
BLOCK = 128
ATOMS = {"argon": (4, 6), "silicon": (8, 5)}
STAGES = """
[[stage]]
name = "thermalise"
ensemble = "langevin"
timestep = 4.0
steps = 500
friction = 0.01
[[stage]]
name = "production"
timestep = 4.0
steps = {steps}
record = {{ {record} }}
"""
OUTPUT = """
[output]
folder = "out"
"""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Frames:
    """A trajectory on disk as three ``.npy`` of shape ``(frames, atoms, 3)``, float32."""

    name: str
    folder: Path
    stride: int = 1
    """Of the steps that count."""
    fields: tuple[str, ...] = ("positions",)

    def every(self, stride: int) -> "Frames":
        """Some of the steps."""
        return replace(self, stride=stride)

    def of(self, *fields: str) -> "Frames":
        """Other fields."""
        return replace(self, fields=fields)

    def load(self, most: int | None = None) -> dict[str, Array]:
        """The first `most` frames."""
        found = {name: np.load(self.folder / f"{name}.npy", "r") for name in self.fields}
        return {k: np.array(v[:: self.stride][:most], "f4") for k, v in found.items()}

    @property
    def system(self) -> dict[str, Any]:
        """``cell`` (Å, rows) and ``numbers``."""
        stored: dict[str, Any] = json.loads((self.folder / "system.json").read_text())
        return stored

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, atoms, 3."""
        frames, atoms, _ = np.load(self.folder / "positions.npy", "r").shape
        return -(-frames // self.stride), atoms, 3


def frames_of(megabytes: float, atoms: int) -> int:
    """How many frames of positions make so many megabytes: whole blocks."""
    return max(2, round(1e6 * megabytes / (12 * atoms * BLOCK))) * BLOCK


def prepare(name: str, folder: Path, megabytes: float, *, repeats: int = 0) -> Frames:
    """Argon or silicon: make it where it is not yet there."""
    basis, usual = ATOMS[name]
    repeats = repeats or usual
    frames = frames_of(megabytes, basis * repeats**3)
    place = folder / f"{name}-{repeats}-{frames}"
    if not (place / "system.json").exists():
        measuring.tell(f"making {place.name}")
        measuring.fresh(_make, name, repeats, frames, place)
    return Frames(name, place)


def prepare_run(config: Path, folder: Path, megabytes: float) -> Frames:
    """System and potential of a run configuration."""
    place = folder / f"{config.stem}-{megabytes:g}"
    if not (place / "system.json").exists():
        measuring.tell(f"running {config}")
        measuring.fresh(_run, config, megabytes, place)
    return Frames(config.stem, place)


def _make(name: str, repeats: int, frames: int, place: Path) -> None:
    import trajectories

    found = getattr(trajectories, name)(repeats, frames)
    number = {"argon": 18, "silicon": 14}[name]
    cell = (found.cell * np.eye(3)).tolist()
    fields = {each: getattr(found, each) for each in FIELDS}
    _keep(place, fields, cell, [number] * found.positions.shape[1])


def every_step(text: str, path: Path, frames: int, *fields: str) -> "RunConfig":
    """A system that is thermalised for 500 steps, then recorded at every step.

    Args:
        text: of a run configuration up to its stages, which are left out.
        path: where it stands.
        frames: recorded.
        fields: of a frame; default: the usual ones.
    """
    from gkflux.dynamics.config import parse

    record = "every = 1" + (f", fields = {json.dumps(fields)}" if fields else "")
    head = text.partition("[[stage]]")[0]
    stages = STAGES.format(steps=frames - 1, record=record)
    return parse(head + stages + ("" if "[output]" in head else OUTPUT), path)


def _run(path: Path, megabytes: float, place: Path) -> None:
    import tempfile

    import stepson
    from gkflux.dynamics.config import load
    from gkflux.dynamics.run import run

    text = load(path).text
    with tempfile.TemporaryDirectory() as name:
        short, long = (Path(name) / each for each in ("first", "all"))
        run(every_step(text, path, 2, *FIELDS), output=short)
        with stepson.open(short / "production" / "md.son") as found:
            frames = frames_of(megabytes, int(found.n_atoms))
        run(every_step(text, path, frames, *FIELDS), output=long)
        with stepson.open(long / "production" / "md.son") as found:
            fields = {each: found[each][:] for each in FIELDS}
            cell, numbers = (np.asarray(found.metadata[k]) for k in ("cell", "numbers"))
    _keep(place, fields, cell.tolist(), numbers.tolist())


def _keep(place: Path, fields: dict[str, Any], cell: list[Any], numbers: list[int]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, values in fields.items():
        np.save(place / f"{name}.npy", values.astype("f4"))
    (place / "system.json").write_text(json.dumps({"cell": cell, "numbers": numbers}))
