"""What a reader must find: the account that a `File` keeps of what was written."""

from hashlib import sha256
from math import isfinite
from typing import NamedTuple

import numpy as np

from spec.generator.parts import is_small

SHORT = 64


class Sample(NamedTuple):
    """Samples of one field in one block."""

    steps: np.ndarray
    values: np.ndarray


class Block(NamedTuple):
    """What a block holds."""

    first: int
    end: int
    samples: dict


class Moment(NamedTuple):
    """The content as of a COMMIT, or of the FOOTER behind it."""

    end: int
    frames: int
    digest: bytes
    blocks: int
    checkpoints: list
    footer: bool


def digest_of(values):
    """sha256 of the bytes of an array."""
    values = np.ascontiguousarray(values)
    return sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def plain(value):
    """A tree as JSON."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray):
        what = {
            "dtype": value.dtype.name,
            "shape": list(value.shape),
            "sha256": digest_of(value),
        }
        return {"array": what}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value


class Account:
    """Moments of a file, and what it holds at each."""

    def __init__(self, file, metadata, header):
        self.file, self.metadata, self.header = file, metadata, header or {}
        self.blocks, self.points, self.moments = [], [], []

    @property
    def has_large(self):
        """Whether SCALARS makes sense."""
        return not all(is_small(each) for each in self.file.fields)

    def block(self, first, end, samples):
        """A BLOCK was written."""
        self.blocks.append(Block(first, end, samples))

    def checkpoint(self, step, tree):
        """A CHECKPOINT was written."""
        self.points = [*self.points, {"step": step, "tree": plain(tree)}][-2:]

    def commit(self, end, frames, digest):
        """A COMMIT was written."""
        self.moments.append(
            Moment(end, frames, digest, len(self.blocks), self.points, False)
        )

    def footer(self, end):
        """A FOOTER was written."""
        self.moments.append(self.moments[-1]._replace(end=end, footer=True))

    def save(self):
        """For `File.save`."""
        return list(self.blocks), list(self.points)

    def restore(self, saved):
        """For `File.restore`; moments that do not count are dropped by the caller."""
        self.blocks, self.points = list(saved[0]), list(saved[1])

    def joined(self, waiting, new):
        """All samples of the last blocks that wait."""
        end = len(self.blocks) - new
        blocks = self.blocks[end - sum(waiting) : end]
        found = {}
        for field in self.file.fields:
            parts = [b.samples[field["name"]] for b in blocks if field["name"] in b.samples]
            if parts:
                found[field["name"]] = tuple(
                    np.concatenate(each) for each in zip(*parts, strict=True)
                )
        return found

    def read(
        self,
        moment=-1,
        *,
        size=None,
        lost=(),
        kept=(),
        metadata=True,
        checkpoints=(),
        sealed=None,
        **more,
    ):
        """The expectation at a moment.

        Args:
            moment: number of the moment that counts.
            size: of the file; default: up to the end of the moment.
            lost: (number of block, name of field) that cannot be read; name None: all.
            kept: names of fields that are read all the same, from SCALARS.
            metadata: whether METADATA can be read.
            checkpoints: places (0, 1) among the last two that cannot be read.
            sealed: default: whether a FOOTER ends the file.
            **more: replaces or adds keys.
        """
        now = self.moments[moment]
        size = now.end if size is None else size
        lost = {
            (n, f["name"])
            for n, name in lost
            for f in self.file.fields
            if name in (None, f["name"])
        }
        lost = {
            (n, name)
            for n, name in lost
            if name not in kept and name in self.blocks[n].samples
        }
        parent = self.header.get("parent")
        points = [
            {**each, "tree": None} if i in checkpoints else each
            for i, each in enumerate(now.checkpoints)
        ]
        found = {
            "verdict": "damaged" if lost or checkpoints or not metadata else "reads",
            "uuid": self.file.uuid.hex(),
            "digest": now.digest.hex(),
            "parent": parent
            and {k: v.hex() if isinstance(v, bytes) else v for k, v in parent.items()},
            "sealed": now.footer and size == now.end if sealed is None else sealed,
            "torn_bytes": size - now.end,
            "frames": now.frames,
            "n_atoms": self.file.n_atoms,
            "fields": {f["name"]: self._field(f, now, lost) for f in self.file.fields},
            "metadata": plain(self.metadata) if metadata else None,
            "checkpoints": points,
            "unreadable": [
                {
                    "field": name,
                    "first_step": self.blocks[n].first,
                    "last_step": self.blocks[n].end - 1,
                }
                for n, name in sorted(lost)
                if n < now.blocks
            ],
            "append": not self.header.get("read_compatible"),
        }
        return {**found, **more}

    def _field(self, field, now, lost):
        name, dtype = field["name"], np.dtype(field["dtype"])
        shape = [self.file.n_atoms if n == "atom" else n for n in field["shape"]]
        parts = [Sample(np.empty(0, "<i8"), np.empty((0, *shape), dtype))]
        for n, block in enumerate(self.blocks[: now.blocks]):
            if name in block.samples and (n, name) not in lost:
                parts.append(block.samples[name])
        steps, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        return {
            **{key: field[key] for key in ("dtype", "shape", "unit", "every", "offset")},
            "samples": len(steps),
            "steps": steps.tolist() if len(steps) <= SHORT else digest_of(steps),
            "sha256": digest_of(values.astype(dtype)),
            "first": [plain(each) for each in values.reshape(-1)[:4].tolist()],
        }


def refused(because):
    """An expectation: the file is not read."""
    return {"verdict": "refused", "because": because}


def damaged(expectation, **more):
    """The same content, from a file with damage that costs none of it."""
    return {**expectation, "verdict": "damaged", **more}
