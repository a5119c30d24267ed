"""Our format as one of those that are compared, and the list of them all."""

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from datasets import FIELDS
from stores_arrays import Hdf5, Hdf5Blosc, NetCDF4, Npy, Zarr
from stores_particles import AseTraj, Extxyz, MdanalysisXtc, Mdtraj, VibesText
from storing import BATCH, XTC_BOUND, Array, Batch, Calls, Format, Reader, Writer


def choose_loops(compiled: bool) -> None:
    """Have the codecs run compiled from the first byte on, or never."""
    from stepson.codecs import kernels

    if compiled and kernels.load() is None:
        raise RuntimeError("numba does not work here, so the codecs cannot run compiled")
    kernels.PATIENCE = 0 if compiled else sys.maxsize


class Son(Format):
    """Ours."""

    package, suffix = "stepson", ".son"

    def __init__(
        self, name: str, bounds: dict[str, float] | None = None, compiled: bool = True
    ) -> None:
        self.name, self._bounds = name, bounds or {}
        self.bound, self._compiled = self._bounds.get("positions"), compiled

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        choose_loops(self._compiled)
        yield

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        import stepson

        fields = [
            stepson.Field(
                name, "float32", ("atom", 3), FIELDS[name], precision=self._bounds.get(name)
            )
            for name in like
        ]
        out = stepson.create(
            path,
            fields=fields,
            numbers=system["numbers"],
            cell=system["cell"],
            timestep=4.0,
            threaded=self.cores > 1,
        )

        def add(batch: Batch) -> None:
            count = len(next(iter(batch.values())))
            out.extend(steps=range(out.frames, out.frames + count), **batch)

        return Calls(add, out.close, out.commit)

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        return _SonReader(path, fields)


class TwoCores(Son):
    """Ours, encoding beside the caller, and scanned by two processes."""

    cores = 2

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        spawn = get_context("spawn")
        with (
            super().ready(),
            ProcessPoolExecutor(2, spawn, choose_loops, (True,)) as self._pool,
        ):
            yield

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        return _Halves(path, fields, self._pool)


class _SonReader(Reader):
    def __init__(self, path: Path, fields: tuple[str, ...]) -> None:
        import stepson

        self._file, self._fields = stepson.open(path), fields
        self.frames = len(self._file)

    def scan(self, first: int | None = None, end: int | None = None) -> Iterator[Batch]:
        yield from self._file.stream(*self._fields, frames=BATCH, start=first, stop=end)

    def frame(self, k: int) -> Array:
        return self._file["positions"][k]

    def atom(self, i: int) -> Array:
        return self._file["positions"][:, i : i + 1][:, 0]

    def close(self) -> None:
        self._file.close()


class _Halves(_SonReader):
    """Two processes that are there already scan a half each."""

    def __init__(
        self, path: Path, fields: tuple[str, ...], pool: ProcessPoolExecutor
    ) -> None:
        super().__init__(path, fields)
        self._place, self._pool = path, pool

    def scan_all(self) -> int:
        middle = self.frames // 2 // BATCH * BATCH
        spans = ((0, middle), (middle, self.frames))
        submit = self._pool.submit
        jobs = [submit(_scan_part, self._place, self._fields, span) for span in spans]
        return sum(job.result() for job in jobs)


def _scan_part(path: Path, fields: tuple[str, ...], span: tuple[int, int]) -> int:
    reader = _SonReader(path, fields)
    count = sum(len(batch["positions"]) for batch in reader.scan(*span))
    reader.close()
    return count


def lost(reader: Reader, wanted: Array, bound: float) -> dict[str, Any]:
    """How many frames can still be read one by one, and are right."""
    good = wrong = 0
    error = ""
    for k in range(min(reader.frames, len(wanted))):
        try:
            found = reader.frame(k)
            ok = np.abs(found - wanted[k]).max() <= bound
        except Exception as problem:  # whatever a library raises
            error = error or f"{type(problem).__name__}: {problem}".splitlines()[0][:120]
            continue
        good, wrong = good + bool(ok), wrong + (not ok)
    with contextlib.suppress(Exception):
        reader.close()
    result: dict[str, Any] = {"readable": good}
    return (
        result | ({"wrong": wrong} if wrong else {}) | ({"error": error} if error else {})
    )


BOUNDS = {"positions": 1e-4, "velocities": 1e-6, "forces": 1e-3}
ALL: tuple[Format, ...] = (
    Son("stepson lossless"),
    Son("stepson 5e-3 Å", {**BOUNDS, "positions": XTC_BOUND}),
    Son("stepson 1e-4 Å", BOUNDS),
    Son("stepson lossless, numpy", compiled=False),
    Son("stepson 5e-3 Å, numpy", {**BOUNDS, "positions": XTC_BOUND}, compiled=False),
    TwoCores("stepson lossless, 2 cores"),
    TwoCores("stepson 5e-3 Å, 2 cores", {**BOUNDS, "positions": XTC_BOUND}),
    TwoCores("stepson 1e-4 Å, 2 cores", BOUNDS),
    Mdtraj("XTC (mdtraj)", ".xtc", "XTCTrajectoryFile", XTC_BOUND),
    MdanalysisXtc(),
    Mdtraj("DCD", ".dcd", "DCDTrajectoryFile"),
    Mdtraj("AMBER netCDF", ".nc", "NetCDFTrajectoryFile"),
    NetCDF4(),
    Hdf5("HDF5 gzip+shuffle", 32, compression="gzip", shuffle=True),
    Hdf5Blosc("HDF5 blosc2", 128),
    Hdf5("HDF5 uncompressed", 32),
    Zarr(),
    AseTraj(),
    Extxyz(),
    VibesText(),
    Npy(),
)
