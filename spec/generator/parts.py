"""Values -> the maps and the payload of METADATA, CHECKPOINT, BLOCK and SCALARS."""

import struct
from itertools import pairwise

import msgpack
import numpy as np
from crc32c import crc32c

from spec.generator import codecs
from spec.generator.records import runs_of


class Chunks:
    """The chunks of one record: their maps, and the payload."""

    def __init__(self):
        self.maps, self.payload = [], bytearray()

    def add(self, place, encode, values):
        """Encode values as one chunk; returns what a reader gets back."""
        codec, params, data, decoded = encode(values)
        what = {"codec": codec, "params": params, "raw": values.nbytes, "size": len(data)}
        what["crc32c"] = crc32c(data)
        numbers = values[values == values]
        if numbers.size:
            what.update(min=numbers.min().item(), max=numbers.max().item())
        what["nan"] = int(values.size - numbers.size)
        if codec == "bounded":
            with np.errstate(all="ignore"):
                error = np.abs(decoded.astype("<f8") - values.astype("<f8"))
            what["error"] = float(np.nan_to_num(error, nan=0.0, posinf=0.0).max())
        self.maps.append({**place, "offset": len(self.payload), **what})
        self.payload.extend(data)
        return decoded


def pack_tree(tree, encode=codecs.raw):
    """The map and the payload of a tree: arrays, long text and bytes become chunks."""
    chunks = Chunks()

    def reference(values, code):
        place = {"dtype": values.dtype.name, "shape": list(values.shape)}
        chunks.add(place, encode, np.ascontiguousarray(values)[None])
        return msgpack.ExtType(code, struct.pack("<I", len(chunks.maps) - 1))

    def walk(value):
        if isinstance(value, dict):
            return {key: walk(each) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each) for each in value]
        if isinstance(value, np.ndarray):
            return reference(value, 1)
        if isinstance(value, str) and len(value.encode()) > 1024:
            return reference(np.frombuffer(value.encode(), "u1"), 2)
        if isinstance(value, bytes) and len(value) > 1024:
            return reference(np.frombuffer(value, "u1"), 3)
        return value

    return {"tree": walk(tree), "chunks": chunks.maps}, bytes(chunks.payload)


class Samples:
    """Packs samples of fields into the map and payload of a BLOCK or SCALARS.

    Args:
        file: its `fields`, `n_atoms` and `cadence` (number by name).
        how: the codec of each field; default: raw.
        tiles: edges of ranges of atoms, by field.
        cuts: edges of ranges of samples, by field.
        steps_chunk: codecs of steps, by the number of the cadence; others are runs.
    """

    def __init__(self, file, how=None, tiles=None, cuts=None, steps_chunk=None):
        self.file, self.how = file, how or {}
        self.tiles, self.cuts, self.steps_chunk = tiles or {}, cuts or {}, steps_chunk or {}
        self.chunks, self.decoded = Chunks(), {}

    def pack(self, samples, small=False):
        """Map and payload of ``{field: (steps, values)}``; of the small fields alone."""
        file = self.file
        small_first = sorted(enumerate(file.fields), key=lambda pair: not is_small(pair[1]))
        for number, each in small_first:
            if each["name"] in samples and (is_small(each) or not small):
                values = np.ascontiguousarray(samples[each["name"]][1])
                self.decoded[each["name"]] = self._field(number, each, values)
        steps = [np.empty(0, "<i8")] * len(file.keys)
        for name, (at, _) in samples.items():
            steps[file.cadence[name]] = np.asarray(at, "<i8")
        runs = [runs_of(each) for each in steps]
        for number, encode in self.steps_chunk.items():
            place = {"field": None, "first": 0, "count": len(steps[number])}
            self.chunks.add(place, encode, steps[number])
            runs[number] = len(self.chunks.maps) - 1
        frames = sorted({int(step) for each in steps for step in each})
        content = {"frames": len(frames), "first": frames[0], "end": frames[-1] + 1}
        content.update(
            samples=[len(each) for each in steps], runs=runs, chunks=self.chunks.maps
        )
        return content, bytes(self.chunks.payload)

    def _field(self, number, field, values):
        """Chunks of one field; returns what a reader gets back."""
        name, atoms, out = field["name"], field["shape"][:1] == ["atom"], values.copy()
        edges = self.tiles.get(name, [0, self.file.n_atoms]) if atoms else [0, 1]
        for first, end in pairwise(self.cuts.get(name, [0, len(values)])):
            for low, high in pairwise(edges):
                part = (slice(first, end), slice(low, high))[: 1 + atoms]
                if values[part].size:
                    place = {"field": number, "first": first, "count": end - first}
                    place.update({"atoms": [low, high]} if atoms else {})
                    encode = self.how.get(name, codecs.raw)
                    out[part] = self.chunks.add(
                        place, encode, np.ascontiguousarray(values[part])
                    )
        return out


def is_small(field):
    """Whether a field stands at the front of a block, and in SCALARS."""
    size = int(np.prod([n for n in field["shape"] if n != "atom"], initial=1))
    return (
        field["shape"][:1] != ["atom"] and size * np.dtype(field["dtype"]).itemsize <= 256
    )
