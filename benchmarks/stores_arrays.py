"""Formats that hold arrays: numpy, HDF5, zarr, netCDF-4.

Nothing is tuned but what is named: chunks are 32 or 128 whole frames, and where there is a
default codec it is taken.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from storing import BATCH, Array, Batch, Calls, Format, Reader, Writer


class Npy(Format):
    """The array itself, as numpy saves it, mapped into memory."""

    name, package, suffix, only_positions = "npy", "numpy", ".npy", True

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        shape = (frames, *like["positions"].shape[1:])
        file = path.open("wb")
        head = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        return Calls(
            lambda batch: file.write(batch["positions"].data), file.close, file.flush
        )

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        return _Sliced({"positions": np.load(path, "r")}, lambda: None)


class _Sliced(Reader):
    """Anything that is sliced like an array."""

    def __init__(self, arrays: dict[str, Any], close: Callable[[], object]) -> None:
        self._arrays, self._close = arrays, close
        self.frames = int(arrays["positions"].shape[0])

    def scan(self) -> Iterator[Batch]:
        for i in range(0, self.frames, BATCH):
            yield {k: np.array(v[i : i + BATCH]) for k, v in self._arrays.items()}

    def frame(self, k: int) -> Array:
        return np.array(self._arrays["positions"][k])

    def atom(self, i: int) -> Array:
        return np.array(self._arrays["positions"][:, i])

    def close(self) -> None:
        self._arrays.clear()
        self._close()


class Hdf5(Format):
    """HDF5 by h5py, extended batch by batch, chunks of whole frames."""

    package, suffix = "h5py", ".h5"

    def __init__(self, name: str, chunk: int, **options: Any) -> None:
        self.name, self._chunk, self._options = name, chunk, options

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        import h5py

        file = h5py.File(path, "w")
        options = self._codec()
        for name, values in like.items():
            rest = values.shape[1:]
            file.create_dataset(
                name,
                shape=(0, *rest),
                maxshape=(None, *rest),
                chunks=(min(self._chunk, frames), *rest),
                dtype="f4",
                **options,
            )

        def add(batch: Batch) -> None:
            for name, values in batch.items():
                used = len(file[name])
                file[name].resize(used + len(values), axis=0)
                file[name][used:] = values

        return Calls(add, file.close, file.flush)

    def _codec(self) -> dict[str, Any]:
        return self._options

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        import h5py

        self._codec()
        file = h5py.File(path)
        return _Sliced({name: file[name] for name in fields}, file.close)


class Hdf5Blosc(Hdf5):
    """HDF5 with the blosc2 filter: shuffle and zstd."""

    package = "hdf5plugin"

    def _codec(self) -> dict[str, Any]:
        import hdf5plugin

        kind = hdf5plugin.Blosc2(cname="zstd", clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE)
        return dict(kind)


class Zarr(Format):
    """zarr 3 with its default codec, a folder."""

    name, package, suffix = "zarr 3", "zarr", ".zarr"

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        import zarr

        root = zarr.open_group(path, mode="w")
        arrays = {
            name: root.create_array(
                name,
                shape=(0, *values.shape[1:]),
                chunks=(min(BATCH, frames), *values.shape[1:]),
                dtype="f4",
            )
            for name, values in like.items()
        }

        def add(batch: Batch) -> None:
            for name, values in batch.items():
                arrays[name].append(values)

        return Calls(add, lambda: None)

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        import zarr

        root = zarr.open_group(path, mode="r")
        return _Sliced({name: root[name] for name in fields}, lambda: None)


class NetCDF4(Format):
    """netCDF-4 with zlib and shuffle, in the names of the AMBER convention."""

    name, package, suffix = "netCDF4 zlib", "netCDF4", ".nc"
    only_positions = True

    def writer(self, path: Path, like: Batch, frames: int, system: Any) -> Writer:
        import netCDF4

        _, atoms, axes = like["positions"].shape
        file = netCDF4.Dataset(path, "w")
        for name, size in (("frame", None), ("atom", atoms), ("spatial", axes)):
            file.createDimension(name, size)
        place = file.createVariable(
            "coordinates",
            "f4",
            ("frame", "atom", "spatial"),
            compression="zlib",
            shuffle=True,
            chunksizes=(min(32, frames), atoms, axes),
        )

        def add(batch: Batch) -> None:
            used = len(place)
            place[used : used + len(batch["positions"])] = batch["positions"]

        return Calls(add, file.close, file.sync)

    def reader(self, path: Path, fields: tuple[str, ...]) -> Reader:
        import netCDF4

        file = netCDF4.Dataset(path)
        file.set_auto_mask(False)
        return _Sliced({"positions": file["coordinates"]}, file.close)
