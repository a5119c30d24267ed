"""What a new file starts with, from what `create` is given: HEADER and METADATA."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from string import hexdigits
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepson.errors import SchemaError
from stepson.opening import Header
from stepson.trajectory import Trajectory

__all__ = ["atomic_numbers", "new_header", "new_metadata", "program"]

RESERVED = ("numbers", "masses", "cell", "pbc", "timestep")
Array = NDArray[Any]


def atomic_numbers(numbers: ArrayLike) -> Array:
    """The numbers of all atoms, int64.

    Raises:
        SchemaError: they are none.
    """
    found = np.asarray(numbers)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise SchemaError("numbers are the atomic numbers of all atoms, shape (n,)")
    return found.astype(np.int64)


def new_metadata(
    numbers: Array,
    masses: ArrayLike | None,
    cell: ArrayLike | None,
    pbc: bool | Sequence[bool],
    timestep: float | None,
    rest: Mapping[str, Any],
) -> dict[str, Any]:
    """The tree of METADATA: what `create` names, and the rest.

    Raises:
        SchemaError: something does not mean what it should.
    """
    for key in RESERVED:
        if key in rest:
            raise SchemaError(
                f"metadata cannot hold {key!r}: it is an argument of create()"
            )
    return {
        "numbers": numbers,
        "masses": None if masses is None else _floats("masses", masses, numbers.shape),
        "cell": None if cell is None else _floats("cell", cell, (3, 3)),
        "pbc": _periodic(pbc),
        "timestep": None if timestep is None else _duration(timestep),
        **rest,
    }


def _floats(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    try:
        found = np.asarray(values).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise SchemaError(f"{name} are real numbers of shape {shape}") from None
    if found.shape != shape:
        raise SchemaError(f"{name} have shape {shape}, not {found.shape}")
    if not np.isfinite(found).all():
        raise SchemaError(f"{name} are not finite")
    return found


def _periodic(pbc: object) -> list[bool]:
    found = np.asarray(pbc)
    if found.dtype.kind not in "biu" or found.shape not in ((), (3,)):
        raise SchemaError(f"pbc is True, False, or three of them, not {pbc!r}")
    return [bool(each) for each in np.broadcast_to(found, 3)]


def _duration(timestep: object) -> float:
    if not isinstance(timestep, (int, float, np.number)) or not 0 < timestep < np.inf:
        raise SchemaError(f"timestep is a positive number of fs, not {timestep!r}")
    return float(timestep)


def new_header(parent: Trajectory | Mapping[str, Any] | None) -> Header:
    """The HEADER of a file that may continue another one.

    Raises:
        SchemaError: `parent` does not name a file.
    """
    if isinstance(parent, Trajectory):
        parent = {"uuid": parent.uuid, "digest": parent.digest, "step": parent.last_step}
    elif parent is not None:
        _check_parent(parent)
        parent = {**parent, "step": int(parent["step"])}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Header(uuid4().bytes, created, program(), parent=parent)


def _check_parent(parent: object) -> None:
    """A parent that is named wrongly would be noticed by nobody until it is needed."""
    found = parent if isinstance(parent, Mapping) else {}
    if (
        found.keys() != {"uuid", "digest", "step"}
        or not _is_hexadecimal(found["uuid"], 32)
        or not _is_hexadecimal(found["digest"], 64)
        or not isinstance(found["step"], (int, np.integer))
        or isinstance(found["step"], bool)
        or not -1 <= found["step"] < 2**62
    ):
        raise SchemaError(
            "parent is a trajectory, or a dict with its uuid and digest (hexadecimal, as "
            f"its attributes give them) and its last step that counts, not {parent!r}"
        )


def _is_hexadecimal(value: object, length: int) -> bool:
    return isinstance(value, str) and len(value) == length and set(value) <= set(hexdigits)


def program() -> str:
    """What writes: name and version."""
    from stepson import __version__

    return f"stepson {__version__}"
