"""Files of ``torch.save``, read without ``torch.load``: a pickle, and numbers beside it.

Since torch 1.6 such a file is a zip archive::

    NAME/data.pkl     the pickle; a tensor names its storage by a key
    NAME/data/KEY     the numbers of a storage
    NAME/byteorder    "little" or "big"; absent in old ones: little

Before, it was a row of pickles: magic number, version, facts on the machine, the object,
the keys of the storages; then, for every key, a count (int64) and the numbers. What is
older than torch 0.4 is a tar archive, and refused; so is TorchScript, which holds code.

The pickle is read by `gkflux.potentials.unpickle`, which runs nothing.
"""

import io
import pickle
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.potentials.inert import LARGEST, Array, Kind, Storage, shown
from gkflux.potentials.unpickle import Reader

__all__ = ["is_torch_file", "read_torch", "reason_of", "tensor", "tensors"]

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""A pickle, of protocol 2, of torch's magic number."""
BIG = "is from a big-endian machine; save it again on another"
SCRIPT = "is a TorchScript archive, which holds code"
TOO_LARGE = 2**33
"""Bytes above which a file is not even read."""
AGAIN = "save its state_dict and config as plain tensors, {'config': ..., 'state': ...}"


def is_torch_file(head: bytes) -> bool:
    """Whether a file that begins so (262 bytes are enough) is one for `read_torch`."""
    return head.startswith((ZIP, b"\x80")) or head[257:262] == b"ustar"


def read_torch(path: str | PathLike[str]) -> Any:
    """Read a file of ``torch.save``: plain values, `Array`s for tensors, else `Stub`s.

    Raises:
        FluxError: it is damaged, of another kind, too old, or larger than any SchNet.
    """
    size = Path(path).stat().st_size
    if size > TOO_LARGE:
        raise FluxError(f"{path} has {size / 1e9:.0f} GB, more than any SchNet; {AGAIN}")
    data = Path(path).read_bytes()
    if data[257:262] == b"ustar":
        raise FluxError(
            f"{path} is a tar archive of torch before 0.4; load it with such a torch, and "
            + AGAIN
        )
    try:
        return _zip(path, data) if data.startswith(ZIP) else _legacy(path, data)
    except FluxError:
        raise
    except Exception as error:  # a pickle can be wrong in any way
        raise FluxError(
            f"{path} is a damaged or truncated torch file: {reason_of(error)}"
        ) from error


def reason_of(error: BaseException) -> str:
    """What an error says, as one printable line."""
    text = " ".join(str(error).split())[:160]
    return "".join(filter(str.isprintable, text)) or type(error).__name__


def tensor(value: Array) -> Tensor:
    """The numbers of a tensor in a file, on the CPU."""
    return torch.from_numpy(value.numbers())


def tensors(named: Mapping[str, Array]) -> dict[str, Tensor]:
    """The numbers of tensors by name, on the CPU.

    Raises:
        UnpicklingError: damaged, or together more than `LARGEST` values: many tensors may
            point into one small storage.
    """
    if sum(value.count for value in named.values()) > LARGEST:
        raise pickle.UnpicklingError(f"tensors of more than {LARGEST} values together")
    return {name: tensor(value) for name, value in named.items()}


def _zip(path: str | PathLike[str], data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = {entry.filename: entry for entry in archive.infolist()}
        if any(name.endswith("/constants.pkl") for name in names):
            raise FluxError(f"{path} {SCRIPT}; {AGAIN}")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in names.values()):
            raise FluxError(
                f"{path} is a compressed zip archive, which torch never writes; unpack it"
            )
        pickles = [name for name in names if name.count("/") == 1 and "/data.pkl" in name]
        if len(pickles) != 1:
            raise FluxError(f"{path} is a zip archive, but not one of torch")
        folder = pickles[0].partition("/")[0]
        order = f"{folder}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise FluxError(f"{path} {BIG}")
        known: dict[tuple[str, str], Storage] = {}

        def persistent(reference: Any) -> Any:
            storage = _storage(reference, known)
            if storage.raw is None:
                storage.raw = archive.read(f"{folder}/data/{reference[2]}")
                _check(storage)
            return storage

        return Reader(io.BytesIO(archive.read(pickles[0])), persistent).load()


def _legacy(path: str | PathLike[str], data: bytes) -> Any:
    if not data.startswith(LEGACY):
        raise FluxError(f"{path} is a pickle, but not one of torch.save; {AGAIN}")
    file = io.BytesIO(data)
    known: dict[tuple[str, str], Storage] = {}

    def persistent(reference: Any) -> Any:
        if isinstance(reference, tuple) and reference[:1] == ("module",):
            return reference[1]  # a class, with its source code, which nobody needs
        return _storage(reference, known)

    for _ in range(2):
        Reader(file, persistent).load()  # magic number, version of the protocol
    facts = Reader(file, persistent).load()
    if not (isinstance(facts, dict) and facts.get("little_endian")):
        raise FluxError(f"{path} {BIG}")
    content = Reader(file, persistent).load()
    keys = Reader(file, persistent).load()
    by_key = {key: storage for (key, _), storage in known.items()}
    for key in keys:
        storage = by_key[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise ValueError(f"storage {shown(key)} has {count} values, not as announced")
        storage.raw = file.read(storage.n_bytes)
        _check(storage)
    return content


def _storage(reference: Any, known: dict[tuple[str, str], Storage]) -> Storage:
    word, kind, key, _, count, *view = reference
    if word != "storage" or not isinstance(kind, Kind) or not isinstance(key, str):
        raise ValueError("a reference to something that is no storage")
    if type(count) is not int or count < 0 or any(view):
        raise ValueError("a storage of an unknown form")
    return known.setdefault((key, kind.code), Storage(kind.code, count))


def _check(storage: Storage) -> None:
    if storage.raw is None or len(storage.raw) < storage.n_bytes:
        raise ValueError("a storage ends early")
