"""States of other programs' SchNets, mapped onto ours.

SchNetPack 0.3 and 1 (whose modules gknet and schnetkit store as plain tensors) and
SchNetPack 2 name the same tensors differently:

==============  =========================================  ================================
ours            SchNetPack 1                               SchNetPack 2
==============  =========================================  ================================
embedding       representation.embedding                   the same
filter.centres  ...distance_expansion.offsets              ...radial_basis.offsets
filter.width    ...distance_expansion.width                ...radial_basis.widths
filter.first    ...interactions.N.filter_network.0         the same
filter.second   ...interactions.N.filter_network.1         the same
in2f            ...interactions.N.cfconv.in2f              ...interactions.N.in2f
f2out           ...interactions.N.cfconv.f2out             ...interactions.N.f2out.0
dense           ...interactions.N.dense                    ...interactions.N.f2out.1
hidden, out     output_modules.0.out_net.1.out_net.{0,1}   output_modules.0.outnet.{0,1}
mean            output_modules.0.standardize.mean          postprocessors.K.mean
stddev          output_modules.0.standardize.stddev        1
atomref         output_modules.0.atomref.weight            postprocessors.K.atomref
==============  =========================================  ================================

The filters are stored twice in version 1, once below ``cfconv``. What is no tensor comes
from the classes of a pickled module (`schnetpack_modules`), from the configuration, or from
the caller: the activation of the readout (ssp in version 1, silu in 2, unless changed), the
cutoff function, the units.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.potentials.embedding_rows import trained_rows
from gkflux.potentials.inert import shown
from gkflux.potentials.model_file import Model, build
from gkflux.potentials.model_units import Units, in_our_units
from gkflux.potentials.schnet import Architecture, SchNet
from gkflux.potentials.schnetpack_modules import Contents

__all__ = ["Told", "model_from"]

State = Mapping[str, Tensor]

LAYER_1 = {"in2f": "cfconv.in2f", "f2out": "cfconv.f2out", "dense": "dense"}
LAYER_2 = {"in2f": "in2f", "f2out": "f2out.0", "dense": "f2out.1"}
READOUTS, CUTOFFS = ("ssp", "silu"), ("cosine", "hard")
EMBEDDING = "representation.embedding.weight"


@dataclass(frozen=True)
class Told:
    """What the caller says of a file of another program; None: the file has to tell.

    ``units``: of its energies and lengths. ``readout``: "ssp" or "silu".
    ``cutoff_function``: "cosine" or "hard".
    """

    units: Units = field(default_factory=Units)
    readout: str | None = None
    cutoff_function: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("readout", READOUTS), ("cutoff_function", CUTOFFS)):
            value = getattr(self, name)
            if value not in (None, *known):
                raise FluxError(f"{name} {value!r} is not known; {' or '.join(known)}")

    def given(self) -> dict[str, str | None]:
        """All of it, by the names of the arguments."""
        return {
            "energy_unit": self.units.energy,
            "length_unit": self.units.length,
            "readout": self.readout,
            "cutoff_function": self.cutoff_function,
        }


def model_from(path: str | PathLike[str], contents: Contents, told: Told) -> Model:
    """Build our network from what a file of another program holds.

    Args:
        path: for messages.
        contents: tensors by SchNetPack's names, and what is known beside them. Elements are
            taken from the configuration where it names them, else guessed from the
            embedding (`embedding_rows`) or from the atomrefs.
        told: by the caller.

    Raises:
        FluxError: it is not a SchNet, or of a form that is not known here, or what it does
            not tell has not been said.
    """
    tensors = _without_prefix(path, contents.state)
    second = "representation.radial_basis.offsets" in tensors
    if EMBEDDING in tensors:
        _check_told(path, contents, told, tensors)
    readout = _chosen(path, "readout", contents.readout, told.readout)
    if readout is None and contents.config:
        readout = "silu" if second else "ssp"
    cutoff = _chosen(
        path,
        "cutoff_function",
        contents.cutoff_function or _cutoff_of_config(path, contents.config),
        told.cutoff_function,
    )
    try:
        network = _network(path, tensors, readout or "ssp", cutoff or "cosine", second)
    except KeyError as error:
        raise FluxError(
            f"{path}: no tensor {error} in the state; this is not a SchNet as SchNetPack "
            "stores it"
        ) from error
    except FluxError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FluxError(f"{path}: tensors do not fit a SchNet: {reason}") from error
    known, origin = _elements(contents.config, network)
    provenance: dict[str, Any] = {"elements_from": origin, "program": contents.program}
    if not told.units.missing():
        provenance["units"] = {"energy": told.units.energy, "length": told.units.length}
    return Model(in_our_units(network, told.units), known, provenance)


def _check_told(
    path: str | PathLike[str], contents: Contents, told: Told, state: State
) -> None:
    """Ask for everything that is missing, at once."""
    missing = [] if contents.in_our_units else told.units.missing()
    if not contents.config:
        for name in ("readout", "cutoff_function"):
            if getattr(contents, name) is None and getattr(told, name) is None:
                missing.append(name)
    examples = {
        "energy_unit": "'eV'",
        "length_unit": "'Å'",
        "readout": "'ssp' (SchNetPack 1) or 'silu' (2)",
        "cutoff_function": "'cosine' or 'hard'",
    }
    if missing:
        asked = ", ".join(f"{name}={examples[name]}" for name in missing)
        raise FluxError(
            f"{path} does not tell its {', '.join(missing)}: give {asked}; in a run, "
            "potential.units = { energy = ..., length = ... }, potential.readout ..."
        )


def _chosen(
    path: str | PathLike[str], name: str, found: str | None, told: str | None
) -> str | None:
    if found is not None and told is not None and found != told:
        raise FluxError(f"{path} has {name} {found!r}, not {told!r}; remove {name}")
    return found or told


def _without_prefix(path: str | PathLike[str], state: State) -> dict[str, Tensor]:
    """Strip what wrappers for training put in front: ``module.``, ``model.``."""
    found = sorted({k.removesuffix(EMBEDDING) for k in state if k.endswith(EMBEDDING)})
    if len(found) > 1:
        raise FluxError(f"{path} holds {len(found)} networks, {', '.join(found)}; keep one")
    prefix = found[0] if found else ""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def _cutoff_of_config(path: str | PathLike[str], config: Mapping[str, Any]) -> str | None:
    """Which cutoff function a configuration has; refuses what no tensor would show."""
    found = _find(config, "representation")
    representation = found if isinstance(found, Mapping) else {}
    if representation.get("normalize_filter"):
        raise FluxError(f"{path}: normalize_filter is not supported")
    if not config:
        return None
    name = representation.get("cutoff_network", "CosineCutoff")
    for known in CUTOFFS:
        if isinstance(name, str) and known in name.lower():
            return known
    raise FluxError(
        f"{path}: cutoff function {shown(name)} is not supported, only cosine and hard"
    )


def _network(
    path: str | PathLike[str], state: State, readout: str, cutoff: str, second: bool
) -> SchNet:
    embedding = state[EMBEDDING]
    names = LAYER_2 if second else LAYER_1
    shape = _shape(state, readout, cutoff, second=second)
    basis = "representation.radial_basis" if second else "representation.distance_expansion"
    width = state[f"{basis}.width{'s' * second}"].flatten()
    if not (width == width[0]).all():
        raise FluxError(f"{path}: Gaussians of several widths are not supported")
    renamed = {"embedding.weight": embedding}
    for n in range(shape.interactions):
        theirs, ours = f"representation.interactions.{n}", f"interactions.{n}"
        renamed[f"{ours}.filter.centres"] = state[f"{basis}.offsets"]
        renamed[f"{ours}.filter.width"] = width[0]
        for mine, their in _linear(names):
            renamed[f"{ours}.{mine}"] = state[f"{theirs}.{their}"]
    out = "output_modules.0.outnet" if second else "output_modules.0.out_net.1.out_net"
    for mine, k in (("hidden", 0), ("out", 1)):
        for part in ("weight", "bias"):
            renamed[f"{mine}.{part}"] = state[f"{out}.{k}.{part}"]
    renamed |= _scale(path, state, shape.max_z)
    return build(path, shape, renamed)


def _linear(names: Mapping[str, str]) -> list[tuple[str, str]]:
    pairs = [
        ("filter.first.weight", "filter_network.0.weight"),
        ("filter.first.bias", "filter_network.0.bias"),
        ("filter.second.weight", "filter_network.1.weight"),
        ("filter.second.bias", "filter_network.1.bias"),
        ("in2f.weight", f"{names['in2f']}.weight"),
    ]
    for layer in ("f2out", "dense"):
        pairs += [
            (f"{layer}.{part}", f"{names[layer]}.{part}") for part in ("weight", "bias")
        ]
    return pairs


def _scale(path: str | PathLike[str], state: State, max_z: int) -> dict[str, Tensor]:
    """Mean, stddev and atomref, which a file may lack, or have for few species."""
    prefix = "output_modules.0"
    for key, value in state.items():
        if (
            key.startswith("postprocessors.")
            and key.endswith(".scale")
            and (value != 1).any()
        ):
            raise FluxError(
                f"{path}: weights alone do not say which property {key} scales; give the "
                "whole model, as SchNetPack saves it (best_model)"
            )
    found = {
        key.split(".")[-1]: value
        for key, value in state.items()
        if key.startswith(("postprocessors.", f"{prefix}.standardize."))
    }
    if f"{prefix}.atomref.weight" in state:
        found["atomref"] = state[f"{prefix}.atomref.weight"]
    atomref = found.get("atomref", torch.zeros(0)).double().reshape(-1)[:max_z]
    return {
        "mean": found.get("mean", torch.tensor(0.0)).double().reshape(()),
        "stddev": found.get("stddev", torch.tensor(1.0)).double().reshape(()),
        "atomref": torch.nn.functional.pad(atomref, (0, max_z - len(atomref))),
    }


def _shape(state: State, readout: str, cutoff: str, *, second: bool) -> Architecture:
    """Read the shape off the tensors."""
    layers = {
        k.split(".")[2] for k in state if k.startswith("representation.interactions.")
    }
    embedding = state[EMBEDDING]
    filters, gaussians = state[
        "representation.interactions.0.filter_network.0.weight"
    ].shape
    hidden = (
        "output_modules.0." + ("outnet" if second else "out_net.1.out_net") + ".0.weight"
    )
    shape: dict[str, Any] = {
        "features": embedding.shape[1],
        "filters": int(filters),
        "interactions": len(layers),
        "gaussians": int(gaussians),
        "cutoff": _cutoff(state, second=second),
        "cutoff_function": cutoff,
        "readout": readout,
        "readout_features": int(state[hidden].shape[0]),
        "max_z": embedding.shape[0],
    }
    return Architecture(**shape)


def _cutoff(state: State, *, second: bool) -> float:
    where = "cutoff_fn" if second else "interactions.0.cutoff_network"
    return float(state[f"representation.{where}.cutoff"].flatten()[0])


def _find(config: Mapping[str, Any], key: str) -> Any:
    """Return the first value under this key, at any depth; None where there is none."""
    waiting, met = [config], {id(config)}
    while waiting:
        table = waiting.pop()
        if table.get(key) is not None:
            return table[key]
        below = [v for v in table.values() if isinstance(v, Mapping) and id(v) not in met]
        met |= {id(v) for v in below}
        waiting += reversed(below)
    return None


def _elements(
    config: Mapping[str, Any], network: SchNet
) -> tuple[frozenset[int] | None, str]:
    """Atomic numbers that it is trained on, as far as they can be known, and from where."""
    named = _find(config, "elements")
    if isinstance(named, (list, tuple)) and all(type(z) is int for z in named):
        return frozenset(named), "config"
    found = trained_rows(network.embedding.weight)
    if found is not None:
        return found, "embedding"
    # a data set has reference energies of the elements in it
    with_atomref = torch.nonzero(network.atomref[1:]).flatten() + 1
    if len(with_atomref):
        return frozenset(with_atomref.tolist()), "atomref"
    return None, "unknown"
