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

The filters are stored twice in version 1, once below ``cfconv``. The activation of the
readout follows from the version: ssp in 1, silu in 2.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from gkflux.errors import FluxError
from gkflux.potentials.embedding_rows import trained_rows
from gkflux.potentials.model_file import Model
from gkflux.potentials.schnet import Architecture, SchNet

__all__ = ["network_from_state"]

State = Mapping[str, Tensor]

LAYER_1 = {"in2f": "cfconv.in2f", "f2out": "cfconv.f2out", "dense": "dense"}
LAYER_2 = {"in2f": "in2f", "f2out": "f2out.0", "dense": "f2out.1"}


def network_from_state(
    path: str | PathLike[str], config: Mapping[str, Any], state: State
) -> Model:
    """Build our network from a SchNetPack state.

    Args:
        path: for messages.
        config: the gknet or schnetkit configuration. Elements are taken from it where it
            names them, else guessed from the embedding (`embedding_rows`).
        state: tensors by SchNetPack's names.

    Raises:
        FluxError: it is not a SchNet, or of a form that is not known here.
    """
    tensors = {k.removeprefix("module."): v for k, v in state.items()}
    try:
        network = _network(path, config, tensors)
    except KeyError as error:
        raise FluxError(
            f"{path}: no tensor {error} in the state; this is not a SchNet as SchNetPack "
            "stores it"
        ) from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise FluxError(f"{path}: tensors do not fit a SchNet: {reason}") from error
    named = _elements(config)
    found = trained_rows(network.embedding.weight) if named is None else named
    origin = "unknown" if found is None else "config" if named else "embedding"
    return Model(network, found, {"elements_from": origin})


def _network(path: str | PathLike[str], config: Mapping[str, Any], state: State) -> SchNet:
    second = "representation.radial_basis.offsets" in state
    embedding = state["representation.embedding.weight"]
    names = LAYER_2 if second else LAYER_1
    shape = _shape(path, config, state, second=second)
    basis = "representation.radial_basis" if second else "representation.distance_expansion"
    renamed = {"embedding.weight": embedding}
    for n in range(shape.interactions):
        theirs, ours = f"representation.interactions.{n}", f"interactions.{n}"
        renamed[f"{ours}.filter.centres"] = state[f"{basis}.offsets"]
        renamed[f"{ours}.filter.width"] = state[f"{basis}.width{'s' * second}"].flatten()[0]
        for mine, their in _linear(names):
            renamed[f"{ours}.{mine}"] = state[f"{theirs}.{their}"]
    out = "output_modules.0.outnet" if second else "output_modules.0.out_net.1.out_net"
    for mine, k in (("hidden", 0), ("out", 1)):
        for part in ("weight", "bias"):
            renamed[f"{mine}.{part}"] = state[f"{out}.{k}.{part}"]
    renamed |= _scale(state, shape.max_z)
    network = SchNet(shape).to(embedding.dtype)
    network.load_state_dict(renamed)
    return network


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


def _scale(state: State, max_z: int) -> dict[str, Tensor]:
    """Mean, stddev and atomref, which a file may lack, or have for few species."""
    prefix = "output_modules.0"
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


def _shape(
    path: str | PathLike[str], config: Mapping[str, Any], state: State, *, second: bool
) -> Architecture:
    """Read the shape off the tensors; the config only says what they cannot."""
    _refuse_variants(path, config)
    layers = {
        k.split(".")[2] for k in state if k.startswith("representation.interactions.")
    }
    embedding = state["representation.embedding.weight"]
    filters, gaussians = state[
        "representation.interactions.0.filter_network.0.weight"
    ].shape
    hidden = (
        "output_modules.0." + ("outnet" if second else "out_net.1.out_net") + ".0.weight"
    )
    return Architecture(
        features=embedding.shape[1],
        filters=int(filters),
        interactions=len(layers),
        gaussians=int(gaussians),
        cutoff=_cutoff(state, second=second),
        readout="silu" if second else "ssp",
        readout_features=int(state[hidden].shape[0]),
        max_z=embedding.shape[0],
    )


def _cutoff(state: State, *, second: bool) -> float:
    where = "cutoff_fn" if second else "interactions.0.cutoff_network"
    return float(state[f"representation.{where}.cutoff"].flatten()[0])


def _refuse_variants(path: str | PathLike[str], config: Mapping[str, Any]) -> None:
    """Refuse options that change the network and leave no trace in the tensors."""
    representation = dict(_find(config, "representation") or {})
    if representation.get("normalize_filter"):
        raise FluxError(f"{path}: normalize_filter is not supported")
    cutoff = representation.get("cutoff_network", "CosineCutoff")
    if "cosine" not in str(cutoff).lower():
        raise FluxError(f"{path}: cutoff function {cutoff!r} is not supported, only cosine")


def _find(config: Mapping[str, Any], key: str) -> Any:
    """Return the first value under this key, at any depth."""
    if key in config:
        return config[key]
    nested = (_find(v, key) for v in config.values() if isinstance(v, Mapping))
    return next((value for value in nested if value is not None), None)


def _elements(config: Mapping[str, Any]) -> frozenset[int] | None:
    """Atomic numbers, where the configuration names them as such."""
    named = _find(config, "elements")
    if isinstance(named, (list, tuple)) and all(isinstance(z, int) for z in named):
        return frozenset(named)
    return None
