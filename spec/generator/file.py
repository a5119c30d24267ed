"""A file, record by record, and the account of what a reader must find in it.

`File` writes what it is told to, right or wrong: every method has a way to put something
else in place of what the specification demands.
"""

import struct
from hashlib import sha256

import numpy as np
from crc32c import crc32c

from spec.generator.codecs import raw
from spec.generator.expect import Account, Sample
from spec.generator.parts import Samples, pack_tree
from spec.generator.records import (
    BLOCK,
    CHECKPOINT,
    COMMIT,
    FOOTER,
    HEADER,
    INDEX,
    METADATA,
    NOTE,
    SCALARS,
    SCHEMA,
    SIMPLE,
    TABLE,
    columns,
    pack,
    prefix,
)

UUID = bytes(range(0xA0, 0xB0))
NO_TOTALS = {"raw": 0, "stored": 0, "codecs": ""}
NO_ENTRY = dict.fromkeys(("record", *SIMPLE), 0)
NO_ENTRY["checkpoint_step"] = -1
NO_COMMIT = {"offset": 0, "commits": 0, "index": 0, "scalars": 0, "digest": bytes(32)}


class File:
    """Bytes so far, and the account of their content."""

    tree_codec = staticmethod(raw)
    """Of arrays in METADATA and CHECKPOINT; others are unusual, but allowed."""

    def __init__(
        self,
        *fields,
        n_atoms=2,
        header=None,
        schema=None,
        metadata=None,
        major=1,
        uuid=UUID,
    ):
        self.pieces = [(0, bytearray())]
        self.uuid, self.fields, self.n_atoms = uuid, fields, n_atoms
        self.sequence, self.places = 0, []
        keys = [
            f["name"] if f["every"] is None else (f["every"], f["offset"]) for f in fields
        ]
        self.keys = list(dict.fromkeys(keys))
        self.named = {f["name"]: f for f in fields}
        self.cadence = {
            f["name"]: self.keys.index(key) for f, key in zip(fields, keys, strict=True)
        }
        self.waiting, self.new, self.roots = [], [], []
        self.totals = {key: [none] * len(fields) for key, none in NO_TOTALS.items()}
        self.last = {**NO_ENTRY, "samples": [0] * len(self.keys)}
        self.before = {**NO_COMMIT}
        self.checkpoints, self.heads, self.payloads = [], 0, 0
        self.write(struct.pack("<8sI52x", b"\x89SON\r\n\x1a\n", major))
        self.start = self.size
        self._first_transaction({} if header is None else header, schema, metadata or {})

    def _first_transaction(self, header, schema, metadata):
        own = {
            "uuid": self.uuid,
            "created": "2026-01-02T03:04:05+00:00",
            "writer": "vectors 1",
        }
        flags = {
            "compatible": [],
            "read_compatible": [],
            "incompatible": [],
            "parent": None,
        }
        self.record(
            HEADER, {**own, **flags, **header} if isinstance(header, dict) else header
        )
        fields = {"n_atoms": self.n_atoms, "fields": list(self.fields)}
        self.schema = self.record(SCHEMA, {**fields, **(schema or {})})
        n = self.n_atoms
        numbers = np.array(([14, 8, 40] * (n // 3 + 1))[:n], "<i8")
        tree = {
            "numbers": numbers,
            "masses": None,
            "cell": None,
            "pbc": [True] * 3,
            "timestep": 2.0,
            **metadata,
        }
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
        """METADATA or CHECKPOINT."""
        content, payload = pack_tree(tree, self.tree_codec)
        return self.record(kind, change({**more, **content}), payload)

    def checkpoint(self, step, tree, change=lambda content: content):
        """A CHECKPOINT of the transaction at work."""
        offset = self.tree(CHECKPOINT, tree, change, step=step)
        if not self.new:
            self.new.append(
                {
                    **self.last,
                    "record": 0,
                    "first": self.last["end"],
                    "commit": 0,
                    "scalars": 0,
                }
            )
        self.last = self.new[-1]
        self.last.update(checkpoint=offset, checkpoint_step=step)
        self.checkpoints = [*self.checkpoints, [step, offset]][-2:]
        self.account.checkpoint(step, tree)
        return offset

    def block(
        self, samples, how=None, options=None, change=lambda content: content, **lies
    ):
        """A BLOCK of ``{field: (steps, values)}``.

        Args:
            samples: of each field.
            how: the codec of each field; default: raw.
            options: others of `Samples`.
            change: makes another map of the right one.
            **lies: of the prefix.
        """
        packer = Samples(self, how, **(options or {}))
        content, data = packer.pack(samples)
        row = {
            **self.last,
            "first": content["first"],
            "end": content["end"],
            "commit": 0,
            "scalars": 0,
        }
        row["frames"] += content["frames"]
        row["samples"] = [
            a + b for a, b in zip(row["samples"], content["samples"], strict=True)
        ]
        for each in content["chunks"]:
            if each["field"] is not None:
                self.totals["raw"][each["field"]] += each["raw"]
                self.totals["stored"][each["field"]] += each["size"]
                self.totals["codecs"][each["field"]] = each["codec"]
        row["record"] = self.record(BLOCK, change(content), data, **lies)
        self.new.append(row)
        self.last = row
        found = {
            name: Sample(np.asarray(at, "<i8"), packer.decoded[name])
            for name, (at, _) in samples.items()
        }
        self.account.block(row["first"], row["end"], found)
        return row["record"]

    def scalars(self, change=lambda content: content):
        """What waits once more: small fields, and the steps of every cadence."""
        joined = self.account.joined(
            [row["record"] != 0 for row in self.waiting], len(self.new)
        )
        content, data = Samples(self).pack(joined, small=True)
        self.before["scalars"] = self.record(SCALARS, change(content), data)
        return self.before["scalars"]

    def index(self, level=0, scalars=0, change=lambda content: content):
        """An INDEX of the entries that wait, or of the INDEXes of the level below."""
        while len(self.roots) <= level:
            self.roots.append([])
        covered = self.waiting if level == 0 else self.roots[level - 1]
        entry = {
            **covered[-1],
            "record": self.size,
            "commit": 0,
            "scalars": scalars,
            "first": covered[0]["first"],
        }
        entries = columns(covered, len(self.keys))
        covered[:] = []
        self.roots[level].append(entry)
        roots = [columns(each, len(self.keys)) for each in self.roots]
        content = {"level": level, "entries": entries, "roots": roots}
        self.before["index"] = self.record(INDEX, change(content))

    def commit(self, change=lambda content: content, lies=None, **more):
        """TABLE (not in the first transaction) and COMMIT.

        Args:
            change: makes another TABLE of the right one.
            lies: numbers of COMMIT.
            **more: other parts of COMMIT.
        """
        rows, self.new = self.new, []
        self.waiting = self.waiting + rows
        table = self._table(change) if self.before["commits"] else 0
        at = self.size
        data = self._commit({**self._numbers(rows, table), **(lies or {})}, more)
        self.write(data)
        self.sequence += 1
        self.places.append((at, COMMIT, 256, 0, self.size))
        for row in [row for rows in (self.waiting, *self.roots) for row in rows]:
            row["commit"] = row["commit"] or at
        self.before.update(offset=at, commits=self.before["commits"] + 1)
        self.before["digest"] = sha256(data).digest()
        self.begin()
        self.account.commit(self.size, self.last["frames"], self.before["digest"])
        return at

    def _table(self, change):
        entries = columns(self.waiting, len(self.keys))
        totals = {key: list(each) for key, each in self.totals.items()}
        content = {"entries": entries, "checkpoints": self.checkpoints, "totals": totals}
        return self.record(TABLE, change(content))

    def _numbers(self, rows, table):
        """The 14 numbers of a COMMIT, in their order."""
        points = [0, 0, *(offset for _, offset in self.checkpoints)][-2:]
        return {
            "offset": self.size,
            "start": self.start,
            "first": rows[0]["first"] if rows else self.last["end"],
            "end": self.last["end"],
            "frames": self.last["frames"],
            "commits": self.before["commits"] + 1,
            "previous": self.before["offset"],
            "index": self.before["index"],
            "scalars": self.before["scalars"],
            "checkpoint": points[1],
            "before": points[0],
            "schema": self.schema,
            "metadata": self.metadata,
            "table": table,
        }

    def _commit(self, numbers, more):
        """The 256 bytes."""
        sums = {"heads": self.heads, "payloads": self.payloads}
        rest = {"chain": self.before["digest"], "zeros": bytes(52)}
        parts = {**sums, **rest, **more}
        body = prefix(COMMIT, b"", 224, self.sequence) + self.uuid
        body += struct.pack("<14Q", *numbers.values())
        body += struct.pack("<II32s52s", *parts.values())
        return body + struct.pack("<I", crc32c(body))

    def begin(self):
        """A new transaction starts here."""
        self.start, self.heads, self.payloads = self.size, 0, 0

    def note(self, **more):
        """The transaction of one NOTE that opening for append writes."""
        who = {
            "host": "here",
            "pid": 4711,
            "time": "2026-01-02T03:04:05+00:00",
            "writer": "vectors 1",
        }
        self.record(NOTE, {**who, "event": "opened for append", "torn_bytes": 0, **more})
        self.commit()

    def footer(self, change=lambda content: content):
        """FOOTER: the file is sealed."""
        roots = [columns(each, len(self.keys)) for each in self.roots]
        content = {
            "uuid": self.uuid,
            "offset": self.size,
            "commit": self.before["offset"],
            "digest": self.before["digest"],
        }
        offset = self.record(
            FOOTER, change({**content, "roots": roots, "totals": self.totals})
        )
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
