"""Nested data <-> a record: what METADATA and CHECKPOINT hold.

A tree is a dict of numbers, text, None, lists, dicts and arrays. The tree itself goes into
the msgpack map, which stays under 64 KiB; arrays, long texts and long bytes become chunks
of the payload, always lossless and stored as they are, and are read when asked for. In the
map a chunk is an extension of type 1 (array), 2 (UTF-8 text) or 3 (bytes) that holds its
number as a 32-bit integer. Implements ``spec/son-1.md`` 2.5.
"""

import struct
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import msgpack
import numpy as np

from stepson import chunk
from stepson.errors import FormatError, SchemaError
from stepson.scan import Record
from stepson.schema import DTYPES
from stepson.source import Source

__all__ = ["Lazy", "pack_tree", "unpack_checkpoint", "unpack_tree"]

ARRAY, TEXT, BYTES = 1, 2, 3
INLINE = 1024
MAX_DEPTH = 32
MAX_RAW = 2**30
RAW = chunk.Plan("raw", {})


class _Packer:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.chunks: list[dict[str, Any]] = []
        self.length = 0

    def tree(self, value: object, where: str, depth: int = 0) -> object:
        """Replace what does not fit into msgpack by references to chunks."""
        if depth > MAX_DEPTH:
            raise SchemaError(f"{where}: nested more than {MAX_DEPTH} deep")
        if isinstance(value, Mapping):
            return {
                _key(k, where): self.tree(v, f"{where}[{k!r}]", depth + 1)
                for k, v in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.tree(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
        if isinstance(value, np.generic):
            return self.tree(value.item(), where, depth + 1)
        if isinstance(value, np.ndarray):
            return self.array(value, where, depth)
        if isinstance(value, str):
            return self.long(value, value.encode(), TEXT)
        if isinstance(value, (bytes, bytearray)):
            return self.long(bytes(value), bytes(value), BYTES)
        return _plain(value, where)

    def long(self, value: object, data: bytes, kind: int) -> object:
        """Text or bytes: inline when short."""
        if len(data) <= INLINE:
            return value
        return self.chunk(np.frombuffer(data, np.uint8), kind)

    def array(self, values: np.ndarray[Any, Any], where: str, depth: int) -> object:
        if values.dtype.kind in "US":
            return self.tree(values.tolist(), where, depth + 1)
        if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
            raise SchemaError(f"{where}: an array of dtype {values.dtype} cannot be stored")
        return self.chunk(values, ARRAY)

    def chunk(self, values: np.ndarray[Any, Any], kind: int) -> msgpack.ExtType:
        """Store an array; refer to it."""
        encoded = chunk.encode(values[None], RAW, verify=False)
        place = {
            "dtype": values.dtype.name,
            "shape": list(values.shape),
            "offset": self.length,
        }
        self.chunks.append({**place, **encoded.info})
        self.parts.append(encoded.data)
        self.length += len(encoded.data)
        return msgpack.ExtType(kind, struct.pack("<I", len(self.chunks) - 1))


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise SchemaError(f"{where}: keys are text, not {key!r}")
    return key


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**64:
            return value
        raise SchemaError(f"{where}: an integer of more than 64 bits cannot be stored")
    raise SchemaError(
        f"{where}: {type(value).__name__} cannot be stored; "
        "use numbers, text, lists, dicts and arrays"
    )


def pack_tree(content: Mapping[str, Any], what: str) -> tuple[dict[str, Any], list[bytes]]:
    """The map (``tree``, ``chunks``) and the payload of a tree.

    Raises:
        SchemaError: something in it cannot be stored.
    """
    packer = _Packer()
    tree = packer.tree(content, what)
    return {"tree": tree, "chunks": packer.chunks}, packer.parts


class Lazy(Mapping[str, Any]):
    """A stored tree: a mapping whose arrays are read when their key is asked for."""

    def __init__(self, source: Source, record: Record) -> None:
        self._source = source
        self._record = record
        tree, chunks = record.map.get("tree"), record.map.get("chunks")
        if not isinstance(tree, dict) or not isinstance(chunks, list):
            raise FormatError("a record without its tree", offset=record.offset)
        self._tree: dict[str, Any] = tree
        self._chunks = chunks

    def __len__(self) -> int:
        return len(self._tree)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __contains__(self, key: object) -> bool:
        return key in self._tree

    def __getitem__(self, key: str) -> Any:
        return self._resolve(self._tree[key], 0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self._tree)}>"

    def _resolve(self, value: object, depth: int) -> Any:
        if depth > 2 * MAX_DEPTH:
            raise FormatError("a tree is nested too deep", offset=self._record.offset)
        if isinstance(value, dict):
            return {k: self._resolve(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self._resolve(v, depth + 1) for v in value]
        if isinstance(value, msgpack.Timestamp):  # extension -1, which msgpack reads
            raise FormatError("a tree with a timestamp", offset=self._record.offset)
        if not isinstance(value, msgpack.ExtType):
            return value
        data = self._load(value)
        if value.code == ARRAY:
            return data
        try:
            return data.tobytes().decode() if value.code == TEXT else data.tobytes()
        except UnicodeDecodeError as error:
            raise FormatError("a text is not UTF-8", offset=self._record.offset) from error

    def _load(self, reference: msgpack.ExtType) -> np.ndarray[Any, Any]:
        try:
            info = self._chunks[struct.unpack("<I", reference.data)[0]]
            shape, known = tuple(info["shape"]), info["dtype"] in DTYPES
            start, size = info["offset"], info["size"]
            if reference.code not in (ARRAY, TEXT, BYTES) or not known:
                raise ValueError("unknown kind")
            if not all(type(n) is int and 0 <= n <= MAX_RAW for n in (*shape, start, size)):
                raise ValueError("a length is not valid")
            if len(shape) > MAX_DEPTH or prod(max(1, n) for n in shape) > MAX_RAW:
                raise ValueError("a shape is not valid")
            dtype = np.dtype(info["dtype"])
        except (LookupError, TypeError, ValueError, struct.error) as error:
            raise FormatError(
                f"a tree with a wrong chunk: {error}", offset=self._record.offset
            ) from error
        data = self._record.read(self._source, start, size)
        where = self._record.payload + start
        values = chunk.decode(data, info, dtype=dtype, shape=(1, *shape), offset=where)
        return np.array(values[0], dtype)


def unpack_tree(source: Source, record: Record) -> dict[str, Any]:
    """The whole tree of a record, arrays included.

    Raises:
        FormatError: it is not valid, or a checksum fails (`DamagedError`).
    """
    return dict(Lazy(source, record).items())


def unpack_checkpoint(source: Source, record: Record) -> dict[str, Any]:
    """The tree of a CHECKPOINT with ``"step"`` in it, which stands beside the tree.

    Raises:
        FormatError: it is not valid, or a checksum fails (`DamagedError`).
    """
    step = record.map.get("step")
    if type(step) is not int or step < 0:
        raise FormatError("a CHECKPOINT without its step", offset=record.offset)
    return {**unpack_tree(source, record), "step": step}
