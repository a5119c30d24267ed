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

__all__ = ["Model", "architecture", "build", "digest", "read_model", "save_model"]

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
    return Model(build(path, shape, state), known, origin)


def build(
    path: str | PathLike[str], shape: Architecture, state: Mapping[str, torch.Tensor]
) -> SchNet:
    """Make the network of a shape and its tensors, in the dtype of the embedding.

    Raises:
        FluxError: tensors are missing, of other shapes or kinds, or not finite.
    """
    _check_fit(path, shape, state)
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise FluxError(f"{path}: tensor {name} holds integers, expected weights")
        if not torch.isfinite(tensor).all():
            raise FluxError(f"{path}: tensor {name} is not finite; the training diverged?")
        if name.endswith("filter.width") and not tensor > 0:
            raise FluxError(f"{path}: Gaussians of width {float(tensor)} Å are none")
    network = SchNet(shape).to(state["embedding.weight"].dtype)
    network.load_state_dict(state)
    return network


def _check_fit(
    path: str | PathLike[str], shape: Architecture, state: Mapping[str, torch.Tensor]
) -> None:
    """Compare shapes before there is a network: it may be told to be of any size."""
    wrong = f"{path}: tensors do not fit the architecture: "
    if shape.interactions > len(state):
        raise FluxError(f"{wrong}{shape.interactions} layers, {len(state)} tensors")
    with torch.device("meta"):
        expected = SchNet(shape).state_dict()
    if missing := sorted(set(expected) ^ set(state)):
        here = "unexpected" if missing[0] in state else "missing"
        raise FluxError(f"{wrong}{missing[0][:80]!r} is {here}")
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            found, hoped = tuple(state[name].shape), tuple(tensor.shape)
            raise FluxError(f"{wrong}{name} has shape {found}, expected {hoped}")


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
    except (
        ValueError,
        RecursionError,
    ) as error:  # a number of 5000 digits is no JSON error
        raise FluxError(f"{path}: its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise FluxError(f"{path}: its header is no JSON object")
    if header.get("format") != FORMAT:
        found = _short(header.get("format"))
        raise FluxError(f"{path} has model format {found}, not {FORMAT}; upgrade stepson")
    if header.get("kind") != "schnet":
        found = _short(header.get("kind"))
        raise FluxError(f"{path}: {found} is no architecture known here")
    if header.get("units") != UNITS:
        found = _short(header.get("units"))
        raise FluxError(f"{path} has units {found}, expected {UNITS}")
    return header


def _short(value: object) -> str:
    return ascii(value)[:80]


def architecture(path: str | PathLike[str], values: object) -> Architecture:
    """Build an `Architecture` from a header, and name what it does not know.

    Raises:
        FluxError: an unknown key, or a value that makes no network.
    """
    if not isinstance(values, dict):
        raise FluxError(f"{path}: its header names no architecture")
    unknown = set(values) - {f.name for f in fields(Architecture)}
    if unknown:
        raise FluxError(f"{path}: unknown architecture keys {_short(sorted(unknown))}")
    try:
        return Architecture(**values)
    except FluxError as error:
        raise FluxError(f"{path}: {error}") from None
