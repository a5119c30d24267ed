"""Our model file: safetensors, with a JSON header of what the numbers mean.

The metadata of the file holds one key, ``gkflux``, a JSON object:

==================  ===================================================================
key                 meaning
==================  ===================================================================
format              1
kind                "schnet"
architecture        the fields of `Architecture`
elements            atomic numbers the model is trained on, or null where nobody knows
units               {"energy": "eV", "length": "Å"}; no other unit is written
weights_sha256      of names, types, shapes and bytes of all tensors, by name; safetensors
                    itself would not notice a flipped bit. Absent in the oldest files
provenance          free: data, program, errors, date, licence
==================  ===================================================================

Tensors are the state of `SchNet`, in its dtype. Nothing in the file can run.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from gkflux.errors import FluxError
from gkflux.potentials.schnet import Architecture, SchNet

__all__ = ["Model", "architecture", "digest", "read_model", "save_model"]

FORMAT = 1
UNITS = {"energy": "eV", "length": "Å"}


@dataclass(frozen=True)
class Model:
    """A network with what is known about it.

    ``elements``: atomic numbers it is trained on; None where the file does not tell.
    ``provenance``: what the file says of its origin.
    """

    network: SchNet
    elements: frozenset[int] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def save_model(
    path: str | PathLike[str],
    network: SchNet,
    *,
    elements: Iterable[int] | None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as safetensors.

    Args:
        path: where; replaced if it exists.
        network: on any device, of any dtype.
        elements: atomic numbers it is trained on.
        provenance: JSON values.
    """
    from safetensors.torch import save_file

    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    header = {
        "format": FORMAT,
        "kind": "schnet",
        "architecture": network.shape.to_map(),
        "elements": None if elements is None else sorted(set(elements)),
        "units": UNITS,
        "weights_sha256": digest(state),
        "provenance": dict(provenance or {}),
    }
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    beside = Path(f"{path}.part")
    save_file(state, str(beside), metadata={"gkflux": text})
    beside.replace(path)


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """The sha256 of tensors: names, types, shapes, bytes."""
    parts = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        parts.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        parts.update(flat.view(torch.uint8).numpy().tobytes())
    return parts.hexdigest()


def read_model(path: str | PathLike[str]) -> Model:
    """Read what `save_model` wrote.

    Raises:
        FluxError: truncated, of another program, of a newer format, or tensors that do not
            fit the architecture.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = _header(path, file.metadata())
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FluxError(f"{path} is a damaged or truncated model file: {error}") from error
    if header.get("weights_sha256", digest(state)) != digest(state):
        raise FluxError(
            f"{path} is damaged: its weights do not have the sha256 of its header; copy it "
            "again from where it came"
        )
    shape = architecture(path, header.get("architecture"))
    known = _elements(path, header.get("elements"))
    origin = header.get("provenance", {})
    if not isinstance(origin, dict):
        raise FluxError(f"{path}: its provenance is no table")
    try:
        network = SchNet(shape).to(_dtype(path, state))
        network.load_state_dict(state)
    except (RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FluxError(f"{path}: tensors do not fit the architecture: {reason}") from error
    return Model(network, known, origin)


def _dtype(path: str | PathLike[str], state: Mapping[str, torch.Tensor]) -> torch.dtype:
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise FluxError(f"{path}: tensor {name} holds integers, expected weights")
        if not torch.isfinite(tensor).all():
            raise FluxError(f"{path}: tensor {name} is not finite; the training diverged?")
    weight = state.get("embedding.weight")
    return torch.float32 if weight is None else weight.dtype


def _elements(path: str | PathLike[str], found: object) -> frozenset[int] | None:
    if found is None:
        return None
    if isinstance(found, list) and all(type(z) is int and z > 0 for z in found):
        return frozenset(found)
    raise FluxError(f"{path}: its elements are no list of atomic numbers")


def _header(path: str | PathLike[str], metadata: Mapping[str, str] | None) -> Any:
    text = (metadata or {}).get("gkflux")
    if text is None:
        raise FluxError(f"{path} is a safetensors file, but not a gkflux model")
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise FluxError(f"{path}: its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise FluxError(f"{path}: its header is no JSON object")
    if header.get("format") != FORMAT:
        found = header.get("format")
        raise FluxError(f"{path} has model format {found}, not {FORMAT}; upgrade stepson")
    if header.get("kind") != "schnet":
        raise FluxError(f"{path}: {header.get('kind')!r} is no architecture known here")
    if header.get("units") != UNITS:
        raise FluxError(f"{path} has units {header.get('units')}, expected {UNITS}")
    return header


def architecture(path: str | PathLike[str], values: object) -> Architecture:
    """Build an `Architecture` from a header, and name what it does not know.

    Raises:
        FluxError: an unknown key, or a value that makes no network.
    """
    if not isinstance(values, dict):
        raise FluxError(f"{path}: its header names no architecture")
    unknown = set(values) - {f.name for f in fields(Architecture)}
    if unknown:
        raise FluxError(f"{path}: unknown architecture keys {sorted(unknown)}")
    try:
        return Architecture(**values)
    except TypeError as error:
        raise FluxError(f"{path}: a value of its architecture is wrong: {error}") from None
    except FluxError as error:
        raise FluxError(f"{path}: {error}") from None
