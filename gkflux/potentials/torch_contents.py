"""What a file of ``torch.save`` holds of a SchNet: a module, a checkpoint, a state."""

from pathlib import Path
from typing import Any

from torch import Tensor

from gkflux.errors import FluxError
from gkflux.potentials.inert import Array, Stub, shown
from gkflux.potentials.schnetpack_modules import Contents, is_module, read_module
from gkflux.potentials.torch_files import read_torch, tensors

__all__ = ["contents_of"]


def contents_of(file: Path) -> Contents:
    """Recognise what a torch file holds; the table of ``gkflux.potentials.load``.

    Raises:
        FluxError: it is damaged, or holds something else.
        Exception: of any kind, where what it holds is of another form than it seems.
    """
    content = read_torch(file)
    if is_module(content):
        return read_module(file, content)
    if not isinstance(content, dict):
        raise FluxError(f"{file} holds no SchNet, but {_shown(content)}")
    if "state_dict" in content:
        return _checkpoint(file, content)
    if "model" in content and "state" not in content:
        return _of_trainer(file, content["model"])
    if "state" not in content:
        return Contents(_state(file, content))
    config = content.get("config", content.get("spec"))
    if not isinstance(config, dict):
        what = "no config" if config is None else f"its config is {_shown(config)}"
        raise FluxError(f"{file} has a state, but {what}: what network it is, is not known")
    state = _state(file, content["state"])
    program = "gknet" if "config" in content else "schnetkit"
    return Contents(state, config=config, program=program, in_our_units=True)


def _checkpoint(file: Path, content: dict[Any, Any]) -> Contents:
    """A checkpoint of training: the newest tensors, and the module they belong to."""
    state = _state(file, content["state_dict"], strict=False)
    options = content.get("hyper_parameters")
    module = options.get("model") if isinstance(options, dict) else None
    if not (isinstance(module, Stub) and is_module(module)):
        return Contents(state, program="PyTorch Lightning")
    newest = {key.removeprefix("model."): value for key, value in state.items()}
    return read_module(file, module, newest)


def _of_trainer(file: Path, model: object) -> Contents:
    """A checkpoint that has the module, or its tensors, under "model"."""
    if isinstance(model, Stub) and is_module(model):
        return read_module(file, model)
    return Contents(_state(file, model))


def _state(file: Path, found: object, *, strict: bool = True) -> dict[str, Tensor]:
    """Tensors by name; refuses what is something else."""
    if isinstance(found, dict) and found and all(isinstance(key, str) for key in found):
        values = {k: v for k, v in found.items() if isinstance(v, Array)}
        if values and (len(values) == len(found) or not strict):
            return tensors(values)
    raise FluxError(f"{file} holds no table of tensors by name, but {_shown(found)}")


def _shown(content: object) -> str:
    """One line on something strange."""
    if isinstance(content, Stub):
        return f"{shown(content)}, which is never run here"
    if isinstance(content, dict) and content:
        return f"a dictionary of {', '.join(map(shown, list(content)[:4]))}"
    return "an empty dictionary" if isinstance(content, dict) else shown(content)
