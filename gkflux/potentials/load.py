"""`load_potential`: any known model file, recognised by its content.

======================  ==============================================================
content                 read as
======================  ==============================================================
safetensors             our own file, see ``model_file``
torch, a dictionary     ``{config | spec, state}`` as gknet and schnetkit write them
======================  ==============================================================

Torch files are read with ``weights_only=True``: a file that wants to run code is refused.
The name of a shipped model, such as "argon", stands for its file.
"""

import hashlib
import pickle
import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from gkflux.errors import FluxError
from gkflux.potentials.model_file import Model, read_model
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.potentials.schnetpack import network_from_state

__all__ = ["load_model", "load_potential", "shipped_models"]

SHIPPED = Path(__file__).resolve().parents[1] / "models"


def shipped_models() -> tuple[str, ...]:
    """Names that `load_potential` knows without a file."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.safetensors")))


def load_potential(
    path: str | PathLike[str],
    dtype: str = "float32",
    device: str = "cpu",
    exact_filters: bool | None = None,
    *,
    elements: Iterable[int] | None = None,
) -> SchNetPotential:
    """Load a trained model.

    Args:
        path: file, or the name of a shipped model.
        dtype: "float32": the production engine with tabulated filters. "float64": the
            network itself.
        device: "cpu" or "cuda".
        exact_filters: True: no table in float32 either.
        elements: atomic numbers it is trained on, where the file does not tell.

    Raises:
        FluxError: no such file; damaged; unknown; of code instead of numbers; no device.
    """
    if dtype not in ("float32", "float64"):
        raise FluxError(f"dtype {dtype!r} is neither float32 nor float64")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise FluxError(f"device {device!r} is neither cpu nor cuda")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise FluxError("no CUDA device here; use device='cpu'")
    file = _find(path)
    model = load_model(file)
    known = model.elements if elements is None else _known(model, elements, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    provenance = {**model.provenance, "file": file.name, "sha256": digest}
    if elements is not None:
        provenance["elements_from"] = "caller"
    return SchNetPotential(
        model.network,
        elements=known,
        provenance=provenance,
        dtype=dtype,
        device=device,
        exact_filters=exact_filters,
    )


def _known(model: Model, elements: Iterable[int], file: Path) -> frozenset[int]:
    """The elements that the caller names, if the network can tell them apart at all."""
    known = frozenset(int(z) for z in elements)
    rows = model.network.embedding.num_embeddings
    beyond = sorted(z for z in known if not 0 < z < rows)
    if beyond:
        raise FluxError(
            f"{file.name} is not trained on atomic number {beyond[0]}: its embedding has "
            f"the numbers 1 to {rows - 1}; correct elements"
        )
    return known


def _find(path: str | PathLike[str]) -> Path:
    file = Path(path)
    if file.is_file():
        return file
    shipped = SHIPPED / f"{path}.safetensors"
    if shipped.is_file():
        return shipped
    names = ", ".join(shipped_models()) or "none"
    raise FluxError(f"no model file {path}; shipped models: {names}")


def load_model(path: str | PathLike[str]) -> Model:
    """Load the network and what its file says, without an engine.

    Raises:
        FluxError: see `load_potential`.
    """
    file = Path(path)
    with file.open("rb") as handle:
        head = handle.read(9)
    if not head:
        raise FluxError(f"{file} is empty")
    if head[8:9] == b"{":
        return read_model(file)
    if head[:2] in (b"PK", b"\x80\x02"):
        return _torch_model(file)
    raise FluxError(f"{file} is neither a safetensors nor a torch model file")


def _torch_model(file: Path) -> Model:
    content = _torch_load(file)
    if not isinstance(content, dict) or "state" not in content:
        raise FluxError(f"{file} holds no {{config, state}} of a SchNet")
    config = content.get("config", content.get("spec"))
    if not isinstance(config, dict):
        raise FluxError(f"{file} has a state, but no config that says what network it is")
    state = content["state"]
    if not _is_state(state):
        raise FluxError(f"{file}: its state is no table of tensors by name")
    return network_from_state(file, config, state)


def _is_state(state: object) -> bool:
    return isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor)
        for key, value in state.items()
    )


def _torch_load(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*TorchScript", category=UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FluxError(
            f"{file} contains pickled code, which is never run here; save its state_dict "
            "and config as plain tensors, {'config': ..., 'state': ...}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        if "TorchScript" in str(error):
            raise FluxError(
                f"{file} is a TorchScript archive, which holds code; save its state_dict "
                "and config as plain tensors, {'config': ..., 'state': ...}"
            ) from error
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise FluxError(f"{file} is a damaged or truncated torch file: {reason}") from error
