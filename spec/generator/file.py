"""A file, record by record, and the account of what a reader must find in it.

`File` writes what it is told to, right or wrong: every method has a way to put something
else in place of what the specification demands.
"""

import struct
from hashlib import sha256

import numpy as np

from spec.generator.codecs import raw
from spec.generator.expect import Account, Sample
from spec.generator.parts import Samples, pack_tree
from spec.generator.records import (
    BLOCK,
    CHECKPOINT,
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
)
from spec.generator.stream import Stream

UUID = bytes(range(0xA0, 0xB0))
TIME = "2026-01-02T03:04:05+00:00"
WRITER = "vectors 1"
FEATURES = {"compatible": [], "read_compatible": [], "incompatible": []}
NO_TOTALS = {"raw": 0, "stored": 0, "codecs": ""}
NO_ENTRY = {**dict.fromkeys(("record", *SIMPLE), 0), "checkpoint_step": -1}
NO_COMMIT = {"offset": 0, "commits": 0, "index": 0, "scalars": 0, "digest": bytes(32)}


def same(content):
    """The map that is right."""
    return content


class File(Stream):
    """Records so far, what the next ones must say, and the account of their content."""

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
        super().__init__(uuid)
        self.fields, self.n_atoms = fields, n_atoms
        keys = [
            f["name"] if f["every"] is None else (f["every"], f["offset"]) for f in fields
        ]
        self.keys = list(dict.fromkeys(keys))
        self.named = {f["name"]: f for f in fields}
        self.cadence = {
            f["name"]: self.keys.index(key) for f, key in zip(fields, keys, strict=True)
        }
        self.waiting, self.new, self.roots, self.checkpoints = [], [], [], []
        self.totals = {key: [none] * len(fields) for key, none in NO_TOTALS.items()}
        self.last = {**NO_ENTRY, "samples": [0] * len(self.keys)}
        self.before = {**NO_COMMIT}
        self.write(struct.pack("<8sI52x", b"\x89SON\r\n\x1a\n", major))
        self.begin()
        self._first_records({} if header is None else header, schema or {}, metadata or {})

    @classmethod
    def created(cls, *fields, **more):
        """A file whose first transaction is committed."""
        file = cls(*fields, **more)
        file.commit()
        return file

    def _first_records(self, header, schema, metadata):
        own = {"uuid": self.uuid, "created": TIME, "writer": WRITER}
        right = {**own, **FEATURES, "parent": None}
        told = isinstance(header, dict)
        self.record(HEADER, {**right, **header} if told else header)
        fields = {"n_atoms": self.n_atoms, "fields": list(self.fields)}
        self.schema = self.record(SCHEMA, {**fields, **schema})
        numbers = np.array(([14, 8, 40] * self.n_atoms)[: self.n_atoms], "<i8")
        tree = {"numbers": numbers, "masses": None, "cell": None, "pbc": [True] * 3}
        tree = {**tree, "timestep": 2.0, **metadata}
        self.account = Account(self, tree, header if told else None)
        self.metadata = self.tree(METADATA, tree)

    def tree(self, kind, tree, change=same, **more):
        """METADATA or CHECKPOINT."""
        content, payload = pack_tree(tree, self.tree_codec)
        return self.record(kind, change({**more, **content}), payload)

    def checkpoint(self, step, tree, change=same):
        """A CHECKPOINT of the transaction at work."""
        offset = self.tree(CHECKPOINT, tree, change, step=step)
        if not self.new:
            self.new.append(self._entry(self.last["end"], self.last["end"]))
        self.last = self.new[-1]
        self.last.update(checkpoint=offset, checkpoint_step=step)
        self.checkpoints = [*self.checkpoints, [step, offset]][-2:]
        self.account.checkpoint(step, tree)
        return offset

    def _entry(self, first, end):
        """A new one that goes on from the last."""
        new = {"record": 0, "first": first, "end": end, "commit": 0, "scalars": 0}
        return {**self.last, **new}

    def block(self, samples, how=None, options=None, change=same, **lies):
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
        row = self._entry(content["first"], content["end"])
        row["frames"] += content["frames"]
        counts = zip(row["samples"], content["samples"], strict=True)
        row["samples"] = [before + more for before, more in counts]
        self._count(content["chunks"])
        row["record"] = self.record(BLOCK, change(content), data, **lies)
        self.new.append(row)
        self.last = row
        found = {
            name: Sample(np.asarray(at, "<i8"), packer.decoded[name])
            for name, (at, _) in samples.items()
        }
        self.account.block(row["first"], row["end"], found)
        return row["record"]

    def _count(self, chunks):
        """Add the chunks of fields to the totals."""
        for each in chunks:
            field = each["field"]
            if field is not None:
                self.totals["raw"][field] += each["raw"]
                self.totals["stored"][field] += each["size"]
                self.totals["codecs"][field] = each["codec"]

    def transaction(self, samples, how=None, options=None):
        """A BLOCK, committed."""
        self.block(samples, how, options)
        self.commit()

    def scalars(self, change=same):
        """What waits once more: small fields, and the steps of every cadence."""
        waiting = [row["record"] != 0 for row in self.waiting]
        joined = self.account.joined(waiting, len(self.new))
        content, data = Samples(self).pack(joined, small=True)
        self.before["scalars"] = self.record(SCALARS, change(content), data)
        return self.before["scalars"]

    def index(self, level=0, scalars=0, change=same):
        """An INDEX of the entries that wait, or of the INDEXes of the level below."""
        while len(self.roots) <= level:
            self.roots.append([])
        covered = self.waiting if level == 0 else self.roots[level - 1]
        own = {"record": self.size, "first": covered[0]["first"]}
        entry = {**covered[-1], **own, "commit": 0, "scalars": scalars}
        entries = columns(covered, len(self.keys))
        covered[:] = []
        self.roots[level].append(entry)
        roots = [columns(each, len(self.keys)) for each in self.roots]
        content = {"level": level, "entries": entries, "roots": roots}
        self.before["index"] = self.record(INDEX, change(content))

    def commit(self, change=same, lies=None, **more):
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
        numbers = {**self._numbers(rows, table), **(lies or {})}
        data = self.commit_record(numbers.values(), self.before["digest"], more)
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

    def note(self, **more):
        """The transaction of one NOTE that opening for append writes."""
        who = {"host": "here", "pid": 4711, "time": TIME, "writer": WRITER}
        self.record(NOTE, {**who, "event": "opened for append", "torn_bytes": 0, **more})
        self.commit()

    def footer(self, change=same):
        """FOOTER: the file is sealed."""
        last, digest = self.before["offset"], self.before["digest"]
        own = {"uuid": self.uuid, "offset": self.size, "commit": last, "digest": digest}
        roots = [columns(each, len(self.keys)) for each in self.roots]
        content = {**own, "roots": roots, "totals": self.totals}
        offset = self.record(FOOTER, change(content))
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
