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
from typing import Any

import measuring
import numpy as np
from numpy.typing import NDArray

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
record = {{ every = 1, fields = ["positions", "velocities", "forces"] }}
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


def _run(path: Path, megabytes: float, place: Path) -> None:
    import tempfile

    import stepson
    from gkflux.dynamics.config import load, parse
    from gkflux.dynamics.run import run

    head = load(path).text.partition("[[stage]]")[0]
    stages = STAGES + ("" if "[output]" in head else OUTPUT)
    with tempfile.TemporaryDirectory() as name:
        atoms = _atoms(parse(head + stages.format(steps=1), path), Path(name) / "first")
        steps = frames_of(megabytes, atoms) - 1
        run(parse(head + stages.format(steps=steps), path), output=Path(name) / "all")
        with stepson.open(Path(name) / "all" / "production" / "md.son") as found:
            fields = {each: found[each][:] for each in FIELDS}
            cell, numbers = (np.asarray(found.metadata[k]) for k in ("cell", "numbers"))
    _keep(place, fields, cell.tolist(), numbers.tolist())


def _atoms(config: Any, folder: Path) -> int:
    import stepson
    from gkflux.dynamics.run import run

    run(config, output=folder)
    with stepson.open(folder / "production" / "md.son") as found:
        return int(found.n_atoms)


def _keep(place: Path, fields: dict[str, Any], cell: list[Any], numbers: list[int]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, values in fields.items():
        np.save(place / f"{name}.npy", values.astype("f4"))
    (place / "system.json").write_text(json.dumps({"cell": cell, "numbers": numbers}))
