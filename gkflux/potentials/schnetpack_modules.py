"""SchNetPack's pickled modules, read without SchNetPack: tensors, and what is no tensor.

A module that was pickled whole is a tree of `Stub`: every one has ``_parameters``,
``_buffers`` and ``_modules`` beside its plain attributes. The tensors alone do not tell the
activation, the cutoff function, or how energies are added up: classes and attributes do.
`read_module` checks all that changes a number, and gives the state by names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from torch import Tensor

from gkflux.errors import FluxError
from gkflux.potentials.inert import Array, Stub, shown
from gkflux.potentials.torch_files import tensors

__all__ = ["Contents", "is_module", "read_module"]

SSP = {"shifted_softplus", "ShiftedSoftplus", "ssp"}
SILU = {"silu", "SiLU", "swish", "Swish"}
CUTOFFS = {"CosineCutoff": "cosine", "HardCutoff": "hard"}
WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
    "AtomisticTask": "model",
}
NAME = re.compile(r"[\w-]{1,100}")
DEEPEST, MOST = 40, 10_000
"""Modules within each other, and modules, above which a file is refused."""


@dataclass
class Contents:
    """What a file of another program holds of a SchNet.

    ``state``: tensors by SchNetPack's names. ``readout``, ``cutoff_function``: None where
    the file does not tell. ``config``: of gknet and schnetkit. ``program``: who wrote it.
    ``in_our_units``: whether that program computes in eV and Å.
    """

    state: dict[str, Tensor]
    readout: str | None = None
    cutoff_function: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    program: str = "unknown"
    in_our_units: bool = False


@dataclass
class _Part:
    """One module of the tree: its class, attributes, tensors, and the names of children."""

    kind: str
    attributes: Mapping[str, Any]
    tensors: dict[str, Array]
    children: list[str]


Parts = dict[str, _Part]


def is_module(value: object) -> bool:
    """Whether this was a torch module."""
    return (
        isinstance(value, Stub)
        and "_modules" in value.state
        and ("_parameters" in value.state)
    )


def read_module(
    path: str | PathLike[str], root: Stub, newest: Mapping[str, Tensor] | None = None
) -> Contents:
    """Read a pickled potential of SchNetPack 0.3, 1 or 2.

    Args:
        path: for messages.
        root: the module.
        newest: tensors by name, in place of those of the module.

    Raises:
        FluxError: it is no SchNet, or has a variant that is not known here.
    """
    parts = _walk(path, root)
    prefix = _unwrapped(parts)
    parts = {
        name[len(prefix) :]: part for name, part in parts.items() if name.startswith(prefix)
    }
    representation = parts.get("representation")
    if representation is None:
        raise FluxError(
            f"{path} holds a pickled {_kind(root) or 'object'}, no potential of "
            "SchNetPack; use another kind of model through Python, see gkflux/README.md"
        )
    if representation.kind != "SchNet":
        raise FluxError(
            f"{path} holds a {representation.kind}, and only SchNet is read from files; "
            "use it through Python, see gkflux/README.md"
        )
    state = tensors(
        {
            f"{name}.{key}" if name else key: value
            for name, part in parts.items()
            for key, value in part.tensors.items()
        }
    )
    state.update({key: value for key, value in (newest or {}).items() if key in state})
    second = "representation.radial_basis" in parts
    _check_representation(path, parts, second=second)
    output = _output(path, parts, second=second)
    readout = _check_readout(path, parts, output, second=second)
    cutoff = _cutoff(path, parts, second=second)
    _rename_output(state, output)
    if second:
        _postprocessing(path, parts, output, state)
    version = parts[""].attributes.get("spk_version") if "" in parts else None
    if not isinstance(version, str):
        version = "2" if second else "1"
    program = f"SchNetPack {version[:20]}"
    return Contents(state, readout, cutoff, program=program)


def _walk(path: str | PathLike[str], root: Stub) -> Parts:
    """All modules below one, by name; a module in two places comes twice.

    Raises:
        FluxError: there are too many, as where a module is below itself.
    """
    parts: Parts = {}
    waiting = [("", root)]
    while waiting:
        name, module = waiting.pop()
        groups = (module.state.get(group) for group in ("_parameters", "_buffers"))
        found = {k: v for group in groups for k, v in _named(group) if isinstance(v, Array)}
        below = _named(module.state.get("_modules"))
        children = [(k, v) for k, v in below if isinstance(v, Stub) and is_module(v)]
        parts[name] = _Part(_kind(module), module.state, found, [k for k, _ in children])
        if name.count(".") > DEEPEST or len(parts) + len(waiting) > MOST:
            raise FluxError(f"{path}: its modules are nested too deeply; it is damaged")
        waiting += [(f"{name}.{k}" if name else k, v) for k, v in reversed(children)]
    return parts


def _named(table: object) -> list[tuple[str, Any]]:
    """What a table has under names that may be those of modules and tensors."""
    entries = table.items() if isinstance(table, Mapping) else ()
    return [(k, v) for k, v in entries if isinstance(k, str) and NAME.fullmatch(k)]


def _kind(value: object) -> str:
    """The class of a module, or the name of a function, without its place."""
    kind = value if isinstance(value, type) else type(value)
    return kind.origin.rpartition(".")[2] if issubclass(kind, Stub) else ""


def _unwrapped(parts: Parts) -> str:
    """The name, with its dot, of what wrappers for training hold."""
    prefix = ""
    while (part := parts.get(prefix.rstrip("."))) and part.kind in WRAPPERS:
        prefix += WRAPPERS[part.kind] + "."
    return prefix


def _activation(parts: Parts, name: str) -> str | None:
    """What a dense layer ends with: "ssp", "silu", None, or the name of something else."""
    child = parts.get(f"{name}.activation")
    kind = child.kind if child else _kind(parts[name].attributes.get("activation"))
    if child and kind == "ShiftedSoftplus":
        ones = all((value.numbers() == 1).all() for value in child.tensors.values())
        return "ssp" if ones else "a trained softplus"
    if kind in SSP:
        return "ssp"
    if kind in SILU:
        return "silu"
    return None if kind in ("", "Identity") else kind


def _expect(
    path: str | PathLike[str], parts: Parts, name: str, expected: str | None
) -> None:
    """Refuse a layer that is missing, or ends with another activation."""
    if name not in parts:
        raise FluxError(f"{path}: it has no layer {name}; this is no SchNet as known here")
    found = _activation(parts, name)
    if found != expected:
        raise FluxError(
            f"{path}: layer {name} ends with {found or 'no activation'}, expected "
            f"{expected or 'none'}; this variant of SchNet is not supported"
        )


def _check_representation(path: str | PathLike[str], parts: Parts, *, second: bool) -> None:
    """Refuse what changes the numbers and is not in the tensors."""
    names = [n for n in parts if n.startswith("representation.interactions.")]
    for name in sorted({".".join(n.split(".")[:3]) for n in names}):
        conv = name if second else f"{name}.cfconv"
        first, last = ("f2out.0", "f2out.1") if second else ("cfconv.f2out", "dense")
        _expect(path, parts, f"{name}.filter_network.0", "ssp")
        _expect(path, parts, f"{name}.filter_network.1", None)
        _expect(path, parts, f"{conv}.in2f", None)
        _expect(path, parts, f"{name}.{first}", "ssp")
        _expect(path, parts, f"{name}.{last}", None)
        pool = parts.get(f"{name}.cfconv.agg")
        if pool and pool.attributes.get("average"):
            raise FluxError(f"{path}: normalize_filter is not supported")
    basis = "radial_basis" if second else "distance_expansion"
    kinds = {
        "representation.embedding": ("Embedding",),
        f"representation.{basis}": ("GaussianRBF", "GaussianSmearing"),
    }
    for name, known in kinds.items():
        part = parts.get(name)
        if part is None or part.kind not in known or part.attributes.get("centered"):
            found = part.kind if part else "nothing"
            raise FluxError(f"{path}: {name} is {found}, supported is {known[0]}")
    electronic = parts.get("representation.electronic_embeddings")
    own = set(parts["representation"].tensors) - {"cutoff"}
    if own or (electronic and electronic.children):
        raise FluxError(f"{path}: a model that is told charge or spin is not supported")


def _output(path: str | PathLike[str], parts: Parts, *, second: bool) -> str:
    """The name of the module that gives the energy."""
    key = "output_key" if second else "property"
    found = {
        f"output_modules.{child}": parts[f"output_modules.{child}"]
        for child in (parts["output_modules"].children if "output_modules" in parts else ())
        if parts[f"output_modules.{child}"].kind == "Atomwise"
    }
    if len(found) > 1:
        wanted = {
            part.attributes.get("energy_key") for part in parts.values() if second
        } - {None} or {"energy"}
        found = {n: p for n, p in found.items() if p.attributes.get(key) in wanted}
    if len(found) != 1:
        raise FluxError(
            f"{path} has {len(found) or 'no'} outputs of kind Atomwise that may be the "
            "energy; keep one in its output_modules"
        )
    return next(iter(found))


def _check_readout(
    path: str | PathLike[str], parts: Parts, output: str, *, second: bool
) -> str:
    """The activation of the readout, which has two layers, and sums over atoms."""
    part, pool = parts[output], parts.get(f"{output}.atom_pool")
    summed = (
        part.attributes.get("aggregation_mode") == "sum"
        if second
        else pool is not None
        and pool.kind == "Aggregate"
        and not pool.attributes.get("average")
    )
    if not summed:
        raise FluxError(f"{path}: {output} does not sum over atoms, so it is no energy")
    net = f"{output}.outnet" if second else f"{output}.out_net.1.out_net"
    layers = [n for n in parts if n.rpartition(".")[0] == net]
    if len(layers) != 2:
        raise FluxError(
            f"{path}: its readout has {len(layers)} layers, supported are 2 "
            "(one element-wise network for all elements)"
        )
    _expect(path, parts, f"{net}.1", None)
    readout = _activation(parts, f"{net}.0")
    if readout not in ("ssp", "silu"):
        raise FluxError(f"{path}: readout activation {readout} is not supported")
    return readout


def _cutoff(path: str | PathLike[str], parts: Parts, *, second: bool) -> str:
    name = "cutoff_fn" if second else "interactions.0.cutoff_network"
    part = parts.get(f"representation.{name}")
    kind = part.kind if part else "none"
    if kind not in CUTOFFS:
        raise FluxError(
            f"{path}: cutoff function {kind} is not supported, only {' and '.join(CUTOFFS)}"
        )
    return CUTOFFS[kind]


def _rename_output(state: dict[str, Tensor], output: str) -> None:
    """Put the energy at place 0, where it usually is."""
    if output == "output_modules.0":
        return
    for name in [n for n in state if n.startswith("output_modules.0.")]:
        del state[name]
    for name in [n for n in state if n.startswith(f"{output}.")]:
        state[f"output_modules.0{name[len(output) :]}"] = state.pop(name)


def _postprocessing(
    path: str | PathLike[str], parts: Parts, output: str, state: dict[str, Tensor]
) -> None:
    """Keep the offsets and the scale that act on the energy, in the order they do."""
    found = {n: state.pop(n) for n in list(state) if n.startswith("postprocessors.")}
    energy = parts[output].attributes.get("output_key")
    listed = parts["postprocessors"].children if "postprocessors" in parts else []
    shifted = False
    for key in listed:
        part = parts[f"postprocessors.{key}"]
        about = part.attributes.get("_property", part.attributes.get("input_key"))
        if part.kind in ("CastTo32", "CastTo64", "CastMap") or (about or energy) != energy:
            continue
        if part.kind == "ScaleProperty" and not shifted:
            state["postprocessors.0.stddev"] = found[f"postprocessors.{key}.scale"]
        elif (
            part.kind == "AddOffsets"
            and not shifted
            and part.attributes.get("is_extensive", True)
        ):
            shifted = True
            for flag, buffer in (("add_mean", "mean"), ("add_atomrefs", "atomref")):
                if part.attributes.get(flag):
                    value = found[f"postprocessors.{key}.{buffer}"]
                    state[f"postprocessors.0.{buffer}"] = value
        else:
            raise FluxError(
                f"{path}: postprocessor {part.kind} of {shown(energy)} is not supported in "
                "this place"
            )
