"""Formats made for particles: XTC, DCD, AMBER netCDF, ASE, extended XYZ, FHI-vibes text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from storing import BATCH, XTC_BOUND, Array, Batch, Calls, Format, Reader, Writer

NANO = 10.0  # Å


class Mdtraj(Format):
    """XTC, DCD and AMBER netCDF by mdtraj."""

    package, only_positions = "mdtraj", True

    def __init__(self, name: str, suffix: str, kind: str, bound: float | None = None):
        self.name, self.suffix, self._kind, self.bound = name, suffix, kind, bound

    def _open(self, path: Path, mode: str) -> Any:
        import mdtraj.formats

        return getattr(mdtraj.formats, self._kind)(str(path), mode)

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        file = self._open(path, "w")
        cell = np.array(system["cell"], "f4")
        lengths, angles = np.linalg.norm(cell, axis=1), np.full(3, 90, "f4")
        done = 0

        def add(batch: Batch) -> None:
            nonlocal done
            x = batch["positions"]
            if self.bound:
                number = np.arange(done, done + len(x), dtype="i4")
                box = np.broadcast_to(cell / NANO, (len(x), 3, 3)).copy()
                file.write(x / NANO, number.astype("f4"), number, box)
            else:
                sizes = {
                    "cell_lengths": np.tile(lengths.astype("f4"), (len(x), 1)),
                    "cell_angles": np.tile(angles, (len(x), 1)),
                }
                file.write(x, **sizes)
            done += len(x)

        return Calls(add, file.close, getattr(file, "flush", lambda: None))

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        return _MdtrajReader(self._open(path, "r"), NANO if self.bound else 1.0)


class _MdtrajReader(Reader):
    def __init__(self, file: Any, scale: float) -> None:
        self._file, self._scale = file, scale
        self.frames = len(file)

    def scan(self) -> Iterator[Batch]:
        self._file.seek(0)
        for _ in range(0, self.frames, BATCH):
            yield {"positions": self._read(BATCH)}

    def _read(self, count: int, **which: Any) -> Array:
        found = np.asarray(self._file.read(count, **which)[0])
        return found * np.float32(self._scale) if self._scale != 1 else found

    def frame(self, k: int) -> Array:
        self._file.seek(k)
        return self._read(1)[0]

    def atom(self, i: int) -> Array:
        self._file.seek(0)
        return self._read(self.frames, atom_indices=np.array([i]))[:, 0]

    def close(self) -> None:
        self._file.close()


class MdanalysisXtc(Format):
    """XTC by the library under MDAnalysis, frame by frame."""

    name, package, suffix = "XTC (MDAnalysis)", "MDAnalysis", ".xtc"
    bound, only_positions = XTC_BOUND, True

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        from MDAnalysis.lib.formats.libmdaxdr import XTCFile

        file = XTCFile(str(path), "w")
        box, done = np.array(system["cell"], "f4") / NANO, 0

        def add(batch: Batch) -> None:
            nonlocal done
            for x in batch["positions"] / NANO:
                file.write(x, box, done, float(done))
                done += 1

        return Calls(add, file.close)

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        from MDAnalysis.lib.formats.libmdaxdr import XTCFile

        return _MdanalysisReader(XTCFile(str(path)))


class _MdanalysisReader(Reader):
    def __init__(self, file: Any) -> None:
        self._file = file
        self.frames = len(file)

    def scan(self) -> Iterator[Batch]:
        self._file.seek(0)
        for frame in self._file:
            yield {"positions": frame.x[None] * np.float32(NANO)}

    def frame(self, k: int) -> Array:
        self._file.seek(k)
        return np.asarray(self._file.read().x * np.float32(NANO))

    def close(self) -> None:
        self._file.close()


class AseTraj(Format):
    """ASE's own trajectory, float64."""

    name, package, suffix, only_positions = "ASE traj", "ase", ".traj", True

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        import ase
        from ase.io.trajectory import Trajectory

        file = Trajectory(str(path), "w")
        atoms = ase.Atoms(numbers=system["numbers"], cell=system["cell"], pbc=True)

        def add(batch: Batch) -> None:
            for x in batch["positions"]:
                atoms.positions = x
                file.write(atoms)

        return Calls(add, file.close)

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        from ase.io.trajectory import Trajectory

        return _AseReader(Trajectory(str(path)))


class _AseReader(Reader):
    def __init__(self, file: Any) -> None:
        self._file, self.frames = file, len(file)

    def scan(self) -> Iterator[Batch]:
        for k in range(self.frames):
            yield {"positions": self.frame(k)[None]}

    def frame(self, k: int) -> Array:
        return np.asarray(self._file[k].positions)

    def close(self) -> None:
        self._file.close()


class Extxyz(Format):
    """Extended XYZ by ASE."""

    name, package, suffix, only_positions, most = "extxyz", "ase", ".xyz", True, 256

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        import ase
        from ase.io.extxyz import write_extxyz

        file = path.open("w")
        atoms = ase.Atoms(numbers=system["numbers"], cell=system["cell"], pbc=True)

        def add(batch: Batch) -> None:
            for x in batch["positions"]:
                atoms.positions = x
                write_extxyz(file, [atoms])

        return Calls(add, file.close, file.flush)

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        return _ExtxyzReader(path)


class _ExtxyzReader(Reader):
    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            atoms = int(file.readline())
            lines = 1 + sum(1 for _ in file)
        self.frames = -(-lines // (atoms + 2))

    def scan(self) -> Iterator[Batch]:
        import ase.io

        for atoms in ase.io.iread(self._path, ":"):
            yield {"positions": atoms.positions[None]}

    def frame(self, k: int) -> Array:
        import ase.io

        return np.asarray(ase.io.read(self._path, k).positions)


class VibesText(Format):
    """The text format of FHI-vibes: JSON, 14 digits, a record a step."""

    name, package, suffix, most = "text .son", "stepson", ".txt", 256

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        done = 0

        def append(text: str) -> None:
            # opened for each record, as FHI-vibes does
            with path.open("a") as file:
                file.write(text)

        def add(batch: Batch) -> None:
            nonlocal done
            for k in range(len(batch["positions"])):
                append(_vibes_record(batch, k, done))
                done += 1

        append('{"MD": {\n  "fs":  9.82269478846406e-02}}\n===\n')
        return Calls(add, lambda: None)

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        return _VibesReader(path, fields)


def _vibes_record(batch: Batch, k: int, number: int) -> str:
    info = f'"info": {{\n    "nsteps": {number},\n    "dt":  3.92907791538562e-01}}'
    inner = [info, *(_rows(batch, n, k) for n in ("positions", "velocities"))]
    atoms = ",\n  ".join(part for part in inner if part)
    energy = '"energy": -1.23456789012345e+02'
    results = ",\n  ".join(part for part in (energy, _rows(batch, "forces", k)) if part)
    return f'{{"atoms": {{\n  {atoms}}},\n"calculator": {{\n  {results}}}}}\n---\n'


def _rows(batch: Batch, name: str, k: int) -> str:
    if name not in batch:
        return ""
    rows = (", ".join(f"{v: .14e}" for v in row) for row in batch[name][k].tolist())
    return f'"{name}": \n    [[' + "],\n     [".join(rows) + "]]"


class _VibesReader(Reader):
    def __init__(self, path: Path, fields: tuple[str, ...]) -> None:
        self._path, self._fields = path, fields
        with path.open("rb") as file:
            self.frames = sum(line == b"---\n" for line in file)

    def _records(self) -> Iterator[dict[str, Any]]:
        lines: list[str] = []
        with self._path.open() as file:
            for line in file:
                if line not in ("---\n", "===\n"):
                    lines.append(line)
                    continue
                if line == "---\n":
                    yield json.loads("".join(lines))
                lines = []

    def scan(self) -> Iterator[Batch]:
        for record in self._records():
            found = record["atoms"] | record["calculator"]
            yield {name: np.array(found[name], "f8")[None] for name in self._fields}

    def frame(self, k: int) -> Array:
        for number, batch in enumerate(self.scan()):
            if number == k:
                return batch["positions"][0]
        raise IndexError(k)
