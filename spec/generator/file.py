"""A file, record by record, and the account of what a reader must find in it.

`File` writes what it is told to, right or wrong: every method has a way to put something
else in place of what the specification demands.
"""

import struct
from hashlib import sha256

import msgpack
import numpy as np
from crc32c import crc32c

from spec.generator import codecs
from spec.generator.expect import Account, Sample

HEADER, SCHEMA, METADATA, BLOCK, TABLE, COMMIT = 1, 2, 3, 4, 5, 6
CHECKPOINT, INDEX, SCALARS, FOOTER, NOTE = 7, 8, 9, 10, 11
UUID = bytes(range(0xA0, 0xB0))
SIMPLE = ("commit", "checkpoint", "checkpoint_step", "scalars", "first", "end", "frames")
RAW = codecs.raw


def field(name, dtype="float64", shape=(), unit="", every=1, offset=0, precision=None, **more):
    """The map of a field."""
    found = {"name": name, "dtype": dtype, "shape": list(shape), "unit": unit, "every": every}
    rest = {"offset": offset, "precision": precision, "codec": "auto", "attributes": {}}
    return {**found, **rest, **more}


def pack(content):
    """A msgpack map; bytes stay what they are."""
    return content if isinstance(content, bytes) else msgpack.packb(content, use_bin_type=True)


def prefix(kind, packed, payload_length, sequence, **lies):
    """The 32 bytes in front of a map."""
    values = {"magic": b"\xd5SON", "type": kind, "flags": 0, "map": len(packed), "payload": payload_length}
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
        return [b - a for a, b in zip([0, *numbers], numbers)]

    found = {name: differences([row[name] for row in rows]) for name in ("record", *SIMPLE)}
    samples = [differences([row["samples"][i] for row in rows]) for i in range(cadences)]
    return {**found, "samples": samples}


class File:
    """Bytes so far, and the account of their content."""

    def __init__(self, *fields, n_atoms=2, header=None, schema=None, metadata=None, major=1, uuid=UUID):
        self.pieces = [(0, bytearray())]
        self.uuid, self.fields, self.n_atoms = uuid, fields, n_atoms
        self.sequence, self.places = 0, []
        keys = [f["name"] if f["every"] is None else (f["every"], f["offset"]) for f in fields]
        self.keys = list(dict.fromkeys(keys))
        self.named = {f["name"]: f for f in fields}
        self.cadence = {f["name"]: self.keys.index(key) for f, key in zip(fields, keys)}
        self.waiting, self.new, self.roots = [], [], []
        self.totals = {"raw": [0] * len(fields), "stored": [0] * len(fields), "codecs": [""] * len(fields)}
        zero = {"record": 0, "checkpoint": 0, "checkpoint_step": -1, "commit": 0, "scalars": 0}
        self.last = {**zero, "first": 0, "end": 0, "frames": 0, "samples": [0] * len(self.keys)}
        self.before = {"offset": 0, "commits": 0, "index": 0, "scalars": 0, "digest": bytes(32)}
        self.checkpoints, self.heads, self.payloads = [], 0, 0
        self.write(struct.pack("<8sI52x", b"\x89SON\r\n\x1a\n", major))
        self.start = self.size
        self._first_transaction(header or {}, schema, metadata or {})

    def _first_transaction(self, header, schema, metadata):
        own = {"uuid": self.uuid, "created": "2026-01-02T03:04:05+00:00", "writer": "vectors 1"}
        flags = {"compatible": [], "read_compatible": [], "incompatible": [], "parent": None}
        self.record(HEADER, {**own, **flags, **header} if isinstance(header, dict) else header)
        fields = {"n_atoms": self.n_atoms, "fields": list(self.fields)}
        self.schema = self.record(SCHEMA, {**fields, **(schema or {})})
        n = self.n_atoms
        numbers = np.array(([14, 8, 40] * (n // 3 + 1))[:n], "<i8")
        tree = {"numbers": numbers, "masses": None, "cell": None, "pbc": [True] * 3, "timestep": 2.0, **metadata}
        self.account = Account(self, tree, None if not isinstance(header, dict) else header)
        self.metadata = self.tree(METADATA, tree)

    @property
    def size(self):
        """Bytes so far, holes included."""
        return self.pieces[-1][0] + len(self.pieces[-1][1])

    @property
    def data(self):
        """All bytes."""
        assert len(self.pieces) == 1
        return bytes(self.pieces[0][1])

    def write(self, data):
        """Bytes, as they are."""
        self.pieces[-1][1].extend(data)

    def hole(self, length):
        """Zeros that are not stored."""
        self.pieces.append((self.size + length, bytearray()))

    def tear(self, data):
        """What a killed writer left; the next one fills up to a multiple of 64."""
        self.write(data)

    def pad(self):
        """Zeros up to the next multiple of 64."""
        self.write(bytes(-self.size % 64))

    def record(self, kind, content, body=b"", **lies):
        """A record; returns its offset."""
        packed, offset = pack(content), self.size
        head = prefix(kind, packed, len(body), self.sequence, **lies) + packed
        self.write(head + body)
        self.pad()
        self.places.append((offset, kind, len(head), len(body), self.size))
        self.heads, self.payloads = crc32c(head, self.heads), crc32c(body, self.payloads)
        self.sequence += 1
        return offset

    def tree(self, kind, tree, change=lambda content: content, **more):
        """METADATA or CHECKPOINT: arrays (and long text and bytes) become raw chunks."""
        chunks, payload = [], bytearray()

        def reference(values, code):
            data = np.ascontiguousarray(values).tobytes()
            place = {"dtype": values.dtype.name, "shape": list(values.shape), "offset": len(payload)}
            what = {"codec": "raw", "params": {}, "raw": len(data), "size": len(data), "crc32c": crc32c(data)}
            chunks.append({**place, **what, "nan": 0})
            payload.extend(data)
            return msgpack.ExtType(code, struct.pack("<I", len(chunks) - 1))

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

        content = {**more, "tree": walk(tree), "chunks": chunks}
        return self.record(kind, change(content), bytes(payload))

    def checkpoint(self, step, tree, change=lambda content: content):
        """A CHECKPOINT of the transaction at work; `step` stands in the tree as well."""
        tree = {"step": step, **tree}
        offset = self.tree(CHECKPOINT, tree, change, step=step)
        if not self.new:
            self.new.append({**self.last, "record": 0, "first": self.last["end"], "commit": 0, "scalars": 0})
        self.last = self.new[-1]
        self.last.update(checkpoint=offset, checkpoint_step=step)
        self.checkpoints = [*self.checkpoints, [step, offset]][-2:]
        self.account.checkpoint(step, tree)
        return offset

    def chunks(self, samples, how, tiles, cuts):
        """Chunks of fields, those of small fields first: maps and payload."""
        found, payload, decoded = [], bytearray(), {}
        small = self.account.small
        for number, each in sorted(enumerate(self.fields), key=lambda item: not small(item[1])):
            if each["name"] not in samples:
                continue
            values = np.ascontiguousarray(samples[each["name"]][1])
            out = values.copy()
            atoms = each["shape"][:1] == ["atom"]
            edges = tiles.get(each["name"], [0, self.n_atoms]) if atoms else [0, 1]
            spans = cuts.get(each["name"], [0, len(values)])
            for first, end in zip(spans, spans[1:]):
                for low, high in zip(edges, edges[1:]):
                    part = (slice(first, end), slice(low, high))[: 1 + atoms]
                    if not values[part].size:
                        continue
                    place = {"field": number, "first": first, "count": end - first}
                    if atoms:
                        place["atoms"] = [low, high]
                    encode = how.get(each["name"], RAW)
                    out[part] = self._chunk(found, payload, place, encode, np.ascontiguousarray(values[part]))
                    self.totals["codecs"][number] = found[-1]["codec"]
            decoded[each["name"]] = out
        return found, payload, decoded

    def _chunk(self, found, payload, place, encode, values):
        codec, params, data, decoded = encode(values)
        what = {"codec": codec, "params": params, "raw": values.nbytes, "size": len(data), "crc32c": crc32c(data)}
        numbers = values[values == values]
        if numbers.size:
            what.update(min=numbers.min().item(), max=numbers.max().item())
        what["nan"] = int(values.size - numbers.size)
        if codec == "bounded":
            with np.errstate(all="ignore"):
                error = np.abs(decoded.astype("<f8") - values.astype("<f8"))
            what["error"] = float(np.nan_to_num(error, nan=0.0, posinf=0.0).max())
        found.append({**place, "offset": len(payload), **what})
        payload.extend(data)
        return decoded

    def content(self, samples, how, tiles, cuts, steps_chunk, small=False):
        """Map, payload and decoded samples of a BLOCK or SCALARS (`small`)."""
        stored = {n: s for n, s in samples.items() if not small or self.account.small(self.named[n])}
        chunks, payload, decoded = self.chunks(stored, how, tiles, cuts)
        steps = [np.empty(0, "<i8")] * len(self.keys)
        for name, (at, _) in samples.items():
            steps[self.cadence[name]] = np.asarray(at, "<i8")
        runs = [runs_of(each) for each in steps]
        for number in steps_chunk:
            self._chunk(chunks, payload, {"field": None, "first": 0, "count": len(steps[number])}, codecs.delta, steps[number])
            runs[number] = len(chunks) - 1
        frames = sorted({int(step) for each in steps for step in each})
        content = {"frames": len(frames), "first": frames[0], "end": frames[-1] + 1}
        content.update(samples=[len(each) for each in steps], runs=runs, chunks=chunks)
        return content, bytes(payload), decoded

    def block(self, samples, how=None, tiles=None, cuts=None, steps_chunk=(), change=lambda content: content, **lies):
        """A BLOCK of ``{field: (steps, values)}``, with a codec, tiles of atoms or cuts in time for each field."""
        content, data, decoded = self.content(samples, how or {}, tiles or {}, cuts or {}, steps_chunk)
        row = {**self.last, "first": content["first"], "end": content["end"], "commit": 0, "scalars": 0}
        row["frames"] += content["frames"]
        row["samples"] = [a + b for a, b in zip(row["samples"], content["samples"])]
        for each in content["chunks"]:
            if each["field"] is not None:
                self.totals["raw"][each["field"]] += each["raw"]
                self.totals["stored"][each["field"]] += each["size"]
        row["record"] = self.record(BLOCK, change(content), data, **lies)
        self.new.append(row)
        self.last = row
        found = {name: Sample(np.asarray(at, "<i8"), decoded[name]) for name, (at, _) in samples.items()}
        self.account.block(row["first"], row["end"], found)
        return row["record"]

    def scalars(self, change=lambda content: content):
        """The small fields of all blocks that wait, and the steps of every cadence, once more."""
        joined = self.account.joined([row["record"] != 0 for row in self.waiting], len(self.new))
        content, data, _ = self.content(joined, {}, {}, {}, (), small=True)
        self.before["scalars"] = self.record(SCALARS, change(content), data)
        return self.before["scalars"]

    def index(self, level=0, scalars=0, change=lambda content: content):
        """An INDEX of the entries that wait, or of the INDEXes of the level below."""
        while len(self.roots) <= level:
            self.roots.append([])
        covered = self.waiting if level == 0 else self.roots[level - 1]
        entry = {**covered[-1], "record": self.size, "commit": 0, "scalars": scalars, "first": covered[0]["first"]}
        entries = columns(covered, len(self.keys))
        covered[:] = []
        self.roots[level].append(entry)
        roots = [columns(each, len(self.keys)) for each in self.roots]
        content = {"level": level, "entries": entries, "roots": roots}
        self.before["index"] = self.record(INDEX, change(content))

    def commit(self, table=True, change=lambda content: content, lies=None, counts=True, **more):
        """TABLE and COMMIT; `lies` are numbers of COMMIT, `counts` is whether readers believe it."""
        first = self.before["commits"] == 0
        rows, start, table_at = self.new, self.start, 0
        self.waiting, self.new = self.waiting + rows, []
        if not first:
            content = {"entries": columns(self.waiting, len(self.keys)), "checkpoints": self.checkpoints}
            table_at = self.record(TABLE, change({**content, "totals": {k: list(v) for k, v in self.totals.items()}}))
        points = [0, 0, *(offset for _, offset in self.checkpoints)][-2:]
        at = self.size
        numbers = {
            "offset": at, "start": start, "first": rows[0]["first"] if rows else self.last["end"],
            "end": self.last["end"], "frames": self.last["frames"], "commits": self.before["commits"] + 1,
            "previous": self.before["offset"], "index": self.before["index"], "scalars": self.before["scalars"],
            "checkpoint": points[1], "before": points[0], "schema": self.schema, "metadata": self.metadata,
            "table": table_at,
        }  # fmt: skip
        numbers.update(lies or {})
        whole = {"uuid": self.uuid, "heads": self.heads, "payloads": self.payloads, "chain": self.before["digest"], "zeros": bytes(52), **more}
        body = prefix(COMMIT, b"", 224, self.sequence) + whole["uuid"]
        body += struct.pack("<14Q", *numbers.values())
        body += struct.pack("<II32s52s", whole["heads"], whole["payloads"], whole["chain"], whole["zeros"])
        data = body + struct.pack("<I", crc32c(body))
        self.write(data)
        self.sequence += 1
        self.places.append((at, COMMIT, 256, 0, self.size))
        for row in [row for rows in (self.waiting, *self.roots) for row in rows]:
            row["commit"] = row["commit"] or at
        self.before.update(offset=at, commits=numbers["commits"], digest=sha256(data).digest())
        self.begin()
        if counts:
            self.account.commit(self.size, self.last["frames"], self.before["digest"])
        return at

    def begin(self):
        """A new transaction starts here."""
        self.start, self.heads, self.payloads = self.size, 0, 0

    def note(self, **more):
        """The transaction of one NOTE that opening for append writes."""
        who = {"host": "here", "pid": 4711, "time": "2026-01-02T03:04:05+00:00", "writer": "vectors 1"}
        self.record(NOTE, {**who, "event": "opened for append", "torn_bytes": 0, **more})
        self.commit()

    def footer(self, change=lambda content: content):
        """FOOTER: the file is sealed."""
        roots = [columns(each, len(self.keys)) for each in self.roots]
        content = {"uuid": self.uuid, "offset": self.size, "commit": self.before["offset"], "digest": self.before["digest"]}
        offset = self.record(FOOTER, change({**content, "roots": roots, "totals": self.totals}))
        self.begin()
        self.account.footer(self.size)
        return offset

    def seal(self, scalars=True):
        """INDEX and SCALARS of what waits, FOOTER."""
        if self.waiting:
            blocks = any(row["record"] for row in self.waiting)
            at = self.scalars() if scalars and blocks and self.account.has_large else 0
            self.index(0, at)
            self.commit()
        self.footer()

    def save(self):
        """What `restore` needs to forget everything from here on but the bytes."""
        keep = {**vars(self), "before": dict(self.before)}
        for name in ("places", "waiting", "roots", "new", "checkpoints"):
            keep[name] = list(keep[name])
        keep["totals"] = {k: list(v) for k, v in self.totals.items()}
        return keep, self.account.save()

    def restore(self, saved):
        """Forget what was written since `save`; its bytes stay, as torn ones."""
        keep, account = saved
        pieces = self.pieces
        vars(self).update(keep)
        self.pieces = pieces
        self.account.restore(account)
        self.pad()
        self.begin()
