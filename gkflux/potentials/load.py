"""`load_potential`: any known potential, by its file or its name.

=============================  =======================================================
content of a file              read as
=============================  =======================================================
safetensors                    our own, see ``model_file``
torch, ``{config | spec,       gknet, schnetkit
state}``
torch, a pickled module        SchNetPack 0.3, 1 and 2, see ``schnetpack_modules``
torch, ``state_dict`` beside   a checkpoint of PyTorch Lightning, with the module among
``hyper_parameters``           its hyper-parameters, or the tensors alone
torch, tensors by name         the state of SchNetPack's module; also under "model"
=============================  =======================================================

Nothing that a torch file names is imported or called (``unpickle``). The name of a shipped
model, such as "argon", stands for its file; "lennard-jones" and "stillinger-weber" for the
analytic potentials; "python:FILE.py:NAME" for a function of the caller's own.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from gkflux.errors import FluxError, GkfluxWarning
from gkflux.potentials.base import Potential
from gkflux.potentials.lennard_jones import LennardJones
from gkflux.potentials.model_file import Model, read_model, save_model
from gkflux.potentials.model_units import Units
from gkflux.potentials.python_model import PREFIX, python_potential
from gkflux.potentials.schnet_potential import SchNetPotential
from gkflux.potentials.schnetpack import Told, model_from
from gkflux.potentials.stillinger_weber import StillingerWeber
from gkflux.potentials.torch_contents import contents_of
from gkflux.potentials.torch_files import is_torch_file, reason_of

__all__ = ["ANALYTIC", "convert_model", "load_model", "load_potential", "shipped_models"]

SHIPPED = Path(__file__).resolve().parents[1] / "models"
ANALYTIC = {"lennard-jones": LennardJones, "stillinger-weber": StillingerWeber}


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
    energy_unit: str | None = None,
    length_unit: str | None = None,
    readout: str | None = None,
    cutoff_function: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Potential:
    """Load a trained model, or make a potential that has a name.

    Args:
        path: file, or name; see the module.
        dtype: "float32": the production engine with tabulated filters. "float64": the
            network itself. Analytic potentials are float64 always.
        device: "cpu" or "cuda".
        exact_filters: True: no table in float32 either.
        elements: atomic numbers it is trained on, where the file does not tell.
        energy_unit: of a foreign file that does not tell: "eV", "kcal/mol", "Hartree" ...
        length_unit: likewise: "Å", "Bohr", "nm".
        readout: likewise: activation of the readout, "ssp" or "silu".
        cutoff_function: likewise: "cosine" or "hard".
        parameters: of an analytic potential, or of the function of a ``python:`` name.

    Raises:
        FluxError: no such file; damaged; unknown; of something else; it does not tell what
            has not been said; no device.

    Warns:
        GkfluxWarning: nobody knows which elements a model is trained on.
    """
    _check_device(dtype, device)
    name = str(path)
    told = Told(Units(energy_unit, length_unit), readout, cutoff_function)
    if not Path(path).is_file() and (name.startswith(PREFIX) or name in ANALYTIC):
        given = {"elements": elements, "exact_filters": exact_filters, **told.given()}
        _refuse(f"{name} is no file of a network", given)
        return _by_name(name, dtype, device, parameters or {})
    _refuse(f"{name} is a file of a network", {"parameters": parameters or None})
    file = _find(path)
    model = load_model(file, told)
    known = _known(model, elements, file)
    provenance = {**model.provenance, "file": file.name, "sha256": _sha256(file)}
    if elements is not None:
        provenance["elements_from"] = "caller"
    elif known is None:
        _warn_of_elements(file)
    return SchNetPotential(
        model.network,
        elements=known,
        provenance=provenance,
        dtype=dtype,
        device=device,
        exact_filters=exact_filters,
    )


def convert_model(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    elements: Iterable[int] | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    readout: str | None = None,
    cutoff_function: str | None = None,
) -> None:
    """Write a model of another program as our own file: safetensors, eV and Å, elements.

    Args: as `load_potential`; target: where, ending in ``.safetensors``.

    Raises:
        FluxError: see `load_potential`; target would replace source, or ends otherwise.

    Warns:
        GkfluxWarning: nobody knows which elements it is trained on.
    """
    file, out = _find(source), Path(target)
    if out.suffix != ".safetensors" or (out.exists() and out.samefile(file)):
        raise FluxError(f"{out} is no place for a model; name it MODEL.safetensors")
    told = Told(Units(energy_unit, length_unit), readout, cutoff_function)
    model = load_model(file, told)
    known = _known(model, elements, file)
    if known is None:
        _warn_of_elements(file)
    origin = {"converted_from": {"file": file.name, "sha256": _sha256(file)}}
    if elements is not None:
        origin["elements_from"] = "caller"  # type: ignore[assignment]
    provenance = {**model.provenance, **origin}
    save_model(out, model.network, elements=known, provenance=provenance)


def _check_device(dtype: str, device: str) -> None:
    if dtype not in ("float32", "float64"):
        raise FluxError(f"dtype {dtype!r} is neither float32 nor float64")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise FluxError(f"device {device!r} is neither cpu nor cuda")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise FluxError("no CUDA device here; use device='cpu'")


def _refuse(what: str, given: Mapping[str, object]) -> None:
    """Refuse options that have no meaning for this potential."""
    for name, value in given.items():
        if value is not None:
            raise FluxError(f"{what}, so {name} has no meaning for it; remove {name}")


def _by_name(
    name: str, dtype: str, device: str, parameters: Mapping[str, Any]
) -> Potential:
    """An analytic potential, or what a function of the caller's makes."""
    if name.startswith(PREFIX):
        return python_potential(name, parameters, dtype=dtype, device=device)
    if device != "cpu":
        raise FluxError(f"{name} runs on the CPU only; use device='cpu'")
    try:
        made: LennardJones | StillingerWeber = ANALYTIC[name](**parameters)
    except FluxError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        reason = str(error).removeprefix(f"{ANALYTIC[name].__name__}.__init__() ")
        raise FluxError(f"parameters of {name}: {reason}") from None
    text = json.dumps(dict(made.provenance), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    made.provenance = {**made.provenance, "sha256": digest}
    return made


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _warn_of_elements(file: Path) -> None:
    warnings.warn(
        f"{file.name} does not tell which elements it is trained on, so none can be "
        "refused; give elements=, such as [8, 40]",
        GkfluxWarning,
        stacklevel=3,
    )


def _known(
    model: Model, elements: Iterable[int] | None, file: Path
) -> frozenset[int] | None:
    """The elements that caller or file name, if the network can tell them apart at all."""
    named = model.elements if elements is None else elements
    if named is None:
        return None
    known = frozenset(int(z) for z in named)
    if not known:
        raise FluxError(f"{file.name} is trained on no element: give elements")
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
    raise FluxError(
        f"no model file {path}; shipped models: {names}; potentials by name: "
        f"{', '.join(ANALYTIC)}, {PREFIX}FILE.py:NAME"
    )


def load_model(path: str | PathLike[str], told: Told | None = None) -> Model:
    """Load the network and what its file says, without an engine.

    Raises:
        FluxError: see `load_potential`.
    """
    file, told = Path(path), told or Told()
    with file.open("rb") as handle:
        head = handle.read(262)
    if not head:
        raise FluxError(f"{file} is empty")
    if head[8:9] == b"{":
        _refuse(f"{file} is our own and tells everything", told.given())
        return read_model(file)
    if not is_torch_file(head):
        raise FluxError(f"{file} is neither a safetensors nor a torch model file")
    try:
        return model_from(file, contents_of(file), told)
    except FluxError:
        raise
    except Exception as error:  # what a file holds can be wrong in any way
        raise FluxError(
            f"{file} is a damaged torch file, or of a form that is not known here: "
            f"{reason_of(error)}"
        ) from error
