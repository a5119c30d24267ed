"""Which codec and parameters suit a field: found by trial on its first block.

A sample of the block is encoded with every predictor, then the best one with every layout
and filter. What counts is the size, plus `_PRICE` of it for each nanosecond that decoding a
value takes longer, so that one per cent of size never costs half of the speed. Times are
estimates written down here, not measured at run time: the same block gives the same plan
everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from stepson.codecs import codec_named
from stepson.codecs.base import Array, flat
from stepson.codecs.coder import FILTERS
from stepson.codecs.delta import MAX_K
from stepson.codecs.linear import fits
from stepson.codecs.predict import fit_taps, polynomial
from stepson.codecs.quantise import quantise
from stepson.codecs.words import LAYOUTS
from stepson.errors import SchemaError, UnknownCodecError

__all__ = ["SMALL", "Plan", "choose_plan"]

SMALL = 256
"""Bytes of a frame up to which a field gets a fixed plan."""

_PRICE = 0.05
_FRAMES, _COLUMNS = 128, 768
_FITTED = (2, 3, 4, 5, 6, 8, 10, 12)
_CODER = {"coder": "zstd", "level": 1}
_FIXED: dict[str, dict[str, Any]] = {
    "raw": {},
    "blosc2": {"filter": "shuffle", **_CODER},
    "delta": {"k": 1, "layout": "frames", "filter": "shuffle", **_CODER},
    "linear": {"taps": polynomial(1), "layout": "frames", "filter": "shuffle", **_CODER},
    "bounded": {
        "taps": polynomial(1),
        "layout": "frames",
        "filter": "bitshuffle",
        **_CODER,
    },
}
_AUTO: tuple[str, ...] = ("blosc2", "delta", "linear")


@dataclass(frozen=True)
class Plan:
    """A codec and its parameters, small enough to be written down with the schema."""

    codec: str
    params: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 0
    """Frames of the trial, 0 for a plan without one. More frames may find a better plan."""

    def to_map(self) -> dict[str, Any]:
        """Return what `from_map` reads, of msgpack types only."""
        params = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.params.items()
        }
        return {"codec": self.codec, "params": params, "frames": self.frames}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> "Plan":
        """Read what `to_map` wrote."""
        return cls(values["codec"], values["params"], values.get("frames", 0))


def choose_plan(values: Array, *, precision: float | None, codec: str = "auto") -> Plan:
    """Choose codec and parameters for a field from its first block.

    Args:
        values: shape ``(frames, ...)``.
        precision: bound of the absolute error; None for lossless.
        codec: "auto", or the name of the codec to choose parameters for.

    Raises:
        UnknownCodecError: there is no such codec.
        SchemaError: the codec does not suit the values.
    """
    if codec not in ("auto", *_FIXED):
        raise UnknownCodecError(codec)
    if codec == "bounded" and (precision is None or values.dtype.kind != "f"):
        raise SchemaError("the codec 'bounded' needs floats and a precision")
    names = _AUTO if precision is None or values.dtype.kind != "f" else ("bounded",)
    names = names if codec == "auto" else (codec,)
    fallback = Plan(names[0], _FIXED[names[0]])
    frame_bytes = values.nbytes // max(1, len(values))
    if values.size == 0 or frame_bytes <= SMALL:
        return fallback
    sample = _sample(flat(values))
    plans = list(_predictors(sample, names, precision))
    if not plans:
        return fallback
    best = min(plans, key=lambda plan: _score(plan, sample, precision))
    best = min(_variants(best), key=lambda plan: _score(plan, sample, precision))
    return Plan(best.codec, best.params, len(values))


def _sample(rows: Array) -> Array:
    """Return the first frames of a block, columns from its beginning, middle and end."""
    rows = rows[:_FRAMES]
    columns, run = rows.shape[1], _COLUMNS // 3
    if columns > _COLUMNS:
        middle = (columns - run) // 2
        spans = (slice(run), slice(middle, middle + run), slice(columns - run, columns))
        rows = np.concatenate([rows[:, span] for span in spans], axis=1)
    return np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))


def _predictors(
    sample: Array, names: Iterable[str], precision: float | None
) -> Iterable[Plan]:
    """Yield one plan for each predictor that these values allow."""
    for name in names:
        if name in ("raw", "blosc2"):
            yield Plan(name, _FIXED[name])
        elif name == "delta":
            yield from (Plan(name, {**_FIXED[name], "k": k}) for k in range(MAX_K + 1))
        elif name == "linear" and fits(sample):
            yield from (
                _with_taps(name, taps) for taps in fit_taps(sample.astype("f8"), _FITTED)
            )
        elif name == "bounded" and precision is not None:
            grid = quantise(sample, precision, safe=False).grid
            yield from (_with_taps(name, polynomial(k)) for k in range(MAX_K))
            yield from (_with_taps(name, taps) for taps in fit_taps(grid, _FITTED))


def _with_taps(name: str, taps: tuple[int, ...]) -> Plan:
    return Plan(name, {**_FIXED[name], "taps": list(taps)})


def _variants(plan: Plan) -> Iterable[Plan]:
    """Yield a plan with every layout and filter."""
    for name, layout in product(FILTERS[1:], LAYOUTS):
        yield Plan(plan.codec, {**plan.params, "filter": name, "layout": layout})


def _score(plan: Plan, sample: Array, precision: float | None) -> float:
    encoded = codec_named(plan.codec).encode(
        sample, plan.params, precision=precision, verify=False
    )
    return float(len(encoded.data)) * (1.0 + _PRICE * _nanoseconds(plan))


def _nanoseconds(plan: Plan) -> float:
    """Estimate the time to decode one value, from `benchmarks/compression.py`."""
    params = plan.params
    time: float = 0.3 * params.get("k", 0) + 0.07 * len(params.get("taps", ()))
    time += {"linear": 3.5, "delta": 1.0, "bounded": 2.0}.get(plan.codec, 0.0)
    time += 0.7 * (params.get("layout") == "columns")
    return time + 0.5 * (params.get("filter") == "bitshuffle")
