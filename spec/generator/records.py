"""The framed unit of a file, and the small parts of maps: prefix, runs, entries, fields."""

import struct
from itertools import pairwise

import msgpack
from crc32c import crc32c

HEADER, SCHEMA, METADATA, BLOCK, TABLE, COMMIT = 1, 2, 3, 4, 5, 6
CHECKPOINT, INDEX, SCALARS, FOOTER, NOTE = 7, 8, 9, 10, 11
NAMES = ("HEADER", "SCHEMA", "METADATA", "BLOCK", "TABLE", "COMMIT")
NAMES += ("CHECKPOINT", "INDEX", "SCALARS", "FOOTER", "NOTE")
NAMES = dict(enumerate(NAMES, 1))
SIMPLE = ("commit", "checkpoint", "checkpoint_step", "scalars", "first", "end", "frames")


def field(
    name, dtype="float64", shape=(), unit="", every=1, offset=0, precision=None, **more
):
    """The map of a field."""
    found = {"name": name, "dtype": dtype, "shape": list(shape), "unit": unit}
    found.update(every=every, offset=offset, precision=precision)
    return {**found, "codec": "auto", "attributes": {}, **more}


def pack(content):
    """A msgpack map; bytes stay what they are."""
    given = isinstance(content, bytes)
    return content if given else msgpack.packb(content, use_bin_type=True)


def prefix(kind, packed, payload_length, sequence, **lies):
    """The 32 bytes in front of a map."""
    values = {"magic": b"\xd5SON", "type": kind, "flags": 0}
    values.update(map=len(packed), payload=payload_length)
    values = {**values, "sequence": sequence % 2**32, "crc": crc32c(packed), **lies}
    body = struct.pack("<4sHHIQII", *values.values())
    return body + struct.pack("<I", crc32c(body))


def runs_of(steps):
    """Steps as runs of first, stride, count; a new one where the stride changes."""
    runs = []
    for step in map(int, steps):
        if runs and (runs[-1][2] == 1 or step == runs[-1][0] + runs[-1][1] * runs[-1][2]):
            first, stride, count = runs[-1]
            runs[-1] = [first, step - first if count == 1 else stride, count + 1]
        else:
            runs.append([step, 1, 1])
    return runs


def columns(rows, cadences):
    """Entries: the first number, then differences."""

    def differences(numbers):
        return [b - a for a, b in pairwise([0, *numbers])]

    found = {name: differences([row[name] for row in rows]) for name in ("record", *SIMPLE)}
    samples = [differences([row["samples"][i] for row in rows]) for i in range(cadences)]
    return {**found, "samples": samples}
