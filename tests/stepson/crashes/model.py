"""What a file must hold: a random schema, random frames, checkpoints, as plain lists.

Nothing here knows the format. A value of a lossy field is put on its grid by the rule of
``spec/registry.md``, written down once more, so what is read can be compared bit for bit.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from stepson.schema import Field, Schema

Array = NDArray[Any]
Rng = np.random.Generator
INTEGERS = ("int8", "int32", "int64", "uint8", "uint16", "uint64")
FLOATS = ("float16", "float32", "float64")


class State(NamedTuple):
    """What a COMMIT makes visible."""

    frames: int
    points: tuple[int, ...]
    """Numbers of the checkpoints: of each transaction the last one counts."""


class Limits(NamedTuple):
    """Constants of the writer, lowered so that small files have what large ones have."""

    fan_out: int
    scalars_raw: int
    block_frames: int
    chunk_raw: int

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The library with these constants."""
        with (
            mock.patch("stepson.growth.FAN_OUT", self.fan_out),
            mock.patch("stepson.growth.SCALARS_RAW", self.scalars_raw),
            mock.patch("stepson.buffer.BLOCK_FRAMES", self.block_frames),
            mock.patch("stepson.encoder.CHUNK_RAW", self.chunk_raw),
            mock.patch("stepson.encoder.MIN_TILE", 1024 if self.chunk_raw > 9999 else 1),
        ):
            yield


REAL = Limits(256, 2**26, 128, 2**22)


def random_limits(rng: Rng) -> Limits:
    """Mostly small; sometimes those of the specification."""
    if rng.random() < 0.2:
        return REAL
    return Limits(
        int(rng.choice([2, 3, 5])),
        int(rng.choice([300, 2**26])),
        int(rng.choice([3, 8])),
        int(rng.choice([64, 500, 2**22])),
    )


def random_schema(rng: Rng) -> Schema:
    """1 to 5 fields of all kinds, at most 4 cadences."""
    n_atoms = int(rng.choice([0, 1, 2, 3, 7, 40]))
    cadences = [(1, 0), (2, 0), (2, 1), (5, 0), (None, 0)]
    chosen = rng.permutation(len(cadences))[: rng.integers(1, 4)]
    fields = [
        _random_field(rng, f"field_{i}", *cadences[int(rng.choice(chosen))])
        for i in range(rng.integers(1, 6))
    ]
    return Schema(tuple(fields), n_atoms)


def _random_field(rng: Rng, name: str, every: int | None, offset: int) -> Field:
    shape: Any = [("atom", 3), ("atom",), (), (3,), (3, 3), (80,)][rng.integers(6)]
    dtype = str(rng.choice([*FLOATS, *FLOATS, *INTEGERS, "bool"]))
    precision = None
    if shape[:1] == ("atom",) and dtype in FLOATS and rng.random() < 0.5:
        precision = float(rng.choice([1e-4, 0.01, 0.3]))
    codecs = ["auto", "auto", "raw", "blosc2", "delta"]
    codec = "auto" if precision is not None else str(rng.choice(codecs))
    return Field(name, dtype, shape, "Å", every, offset, precision, codec)


def on_grid(values: Array, bound: float) -> Array:
    """What a lossy value becomes: ``spec/registry.md``, "bounded"."""
    step = 2.0 * bound * (31.0 / 32.0)
    with np.errstate(all="ignore"):
        q = np.rint(values.astype("f8") * (1.0 / step)) + 0.0  # an integer has no -0
        stored = (q * step).astype(values.dtype)
        error = np.abs(stored.astype("f8") - values.astype("f8"))
        good = np.isfinite(values) & (np.abs(q) <= 2.0**52) & (error <= bound)
    return np.where(good, stored, values)


class Model:
    """Frames and checkpoints so far."""

    def __init__(self, rng: Rng, schema: Schema) -> None:
        self.rng = rng
        self.schema = schema
        self.metadata: dict[str, Any] = {
            "numbers": np.arange(schema.n_atoms) % 90 + 1,
            "note": "a text" * int(rng.integers(300)),
            "table": rng.normal(size=int(rng.integers(40))),
            "timestep": 2.0,
        }
        self.steps: list[int] = []
        self.rows: dict[str, list[Array]] = {each.name: [] for each in schema.fields}
        self.places: dict[str, list[int]] = {each.name: [] for each in schema.fields}
        """The number of the frame of each sample."""
        self.points: list[dict[str, Any]] = []
        self.distinct = False
        """No two checkpoints of one step."""

    def copy(self) -> "Model":
        """Lists of its own, the same generator."""
        twin = copy(self)
        twin.steps, twin.points = [*self.steps], [*self.points]
        twin.rows = {name: [*rows] for name, rows in self.rows.items()}
        twin.places = {name: [*rows] for name, rows in self.places.items()}
        return twin

    def cut(self, state: State) -> "Model":
        """What was visible at a state."""
        twin = self.copy()
        del twin.steps[state.frames :]
        twin.points = [self.points[number] for number in state.points]
        for name, places in twin.places.items():
            count = int(np.searchsorted(places, state.frames))
            del places[count:], twin.rows[name][count:]
        return twin

    @property
    def state(self) -> State:
        """All of it."""
        return State(len(self.steps), tuple(range(len(self.points))))

    def frame(self) -> tuple[int, dict[str, Array]]:
        """Make up the next frame, and remember what must be read of it."""
        step = (self.steps[-1] if self.steps else -1) + 1
        if self.rng.random() < 0.1:
            step += int(self.rng.integers(1, 30))
        while not (names := self._due(step)):
            step += 1
        values = {name: self._sample(name) for name in names}
        for name, value in values.items():
            bound = self.schema.field(name).precision
            self.rows[name].append(value if bound is None else on_grid(value, bound))
            self.places[name].append(len(self.steps))
        self.steps.append(step)
        return step, values

    def _due(self, step: int) -> list[str]:
        fields = self.schema.fields
        extra = [e.name for e in fields if e.every is None and self.rng.random() < 0.4]
        return [e.name for e in fields if e.due(step)] + extra

    def _sample(self, name: str) -> Array:
        """Mostly smooth, as motion is; now and then anything."""
        field, rng = self.schema.field(name), self.rng
        shape, dtype = field.sample_shape(self.schema.n_atoms), np.dtype(field.dtype)
        if dtype.kind != "f":
            return rng.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
        before = self.rows[name][-1] if self.rows[name] else rng.normal(size=shape)
        with np.errstate(all="ignore"):
            values = np.asarray(before + 0.01 * rng.normal(size=shape), dtype)
        if rng.random() < 0.03 and values.size:
            odd = [np.nan, np.inf, -0.0, 1e300, 1e-310, -3e15]
            with np.errstate(all="ignore"):
                values.flat[rng.integers(values.size)] = rng.choice(odd)
        return values

    @property
    def may_point(self) -> bool:
        """Whether a checkpoint may come now."""
        step = self.steps[-1] if self.steps else 0
        return not (self.distinct and self.points and self.points[-1]["step"] == step)

    def point(self) -> dict[str, Any]:
        """Make up a checkpoint at the last step."""
        state = {
            "step": self.steps[-1] if self.steps else 0,
            "token": int(self.rng.integers(2**62)),
            "velocities": self.rng.normal(size=(self.schema.n_atoms, 3)),
            "nested": {"list": [1, 2.5, None, "text"], "flag": True},
        }
        self.points.append(state)
        return state

    def expected(self, name: str) -> Array:
        """All samples of a field."""
        field = self.schema.field(name)
        shape = (-1, *field.sample_shape(self.schema.n_atoms))
        if not self.rows[name]:
            return np.empty((0, *shape[1:]), field.dtype)
        return np.stack(self.rows[name])

    def steps_of(self, name: str) -> list[int]:
        """Steps of the samples of a field."""
        return [self.steps[place] for place in self.places[name]]


def same(found: object, expected: object) -> bool:
    """Whether two trees are equal, arrays bit for bit."""
    if isinstance(expected, np.ndarray):
        return (
            isinstance(found, np.ndarray)
            and found.dtype == expected.dtype
            and found.shape == expected.shape
            and found.tobytes() == expected.tobytes()
        )
    if isinstance(expected, Mapping):
        return (
            isinstance(found, Mapping)
            and set(found) == set(expected)
            and all(same(found[key], value) for key, value in expected.items())
        )
    return bool(found == expected)
