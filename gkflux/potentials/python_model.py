"""A potential made by a function of the user's own: ``python:FILE.py:NAME``.

``python:PLACE:NAME``, where PLACE is a file that ends in ``.py`` or a module that can be
imported, and NAME a function or a class in it. It is called with the parameters of the
configuration, and with ``dtype`` and ``device`` where it has arguments of these names, and
returns a `Potential`, such as a `TorchPotential`. This, and nothing else, runs code of
others: it is asked for by name.
"""

import hashlib
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from gkflux.errors import FluxError
from gkflux.potentials.base import Potential

__all__ = ["PREFIX", "python_potential"]

PREFIX = "python:"


def python_potential(
    name: str,
    parameters: Mapping[str, Any],
    *,
    dtype: str,
    device: str,
) -> Potential:
    """Call the function that a name stands for.

    Args:
        name: ``python:PLACE:NAME``.
        parameters: keyword arguments.
        dtype: handed over where it is wanted.
        device: likewise.

    Raises:
        FluxError: no such place or name, arguments that do not fit, code that fails, or
            what comes back is no potential.
    """
    place, colon, attribute = name.removeprefix(PREFIX).rpartition(":")
    if not (place and colon and attribute):
        raise FluxError(f"{name!r} is not of the form python:FILE.py:NAME")
    module, source = _module(place)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise FluxError(f"{place} has no function {attribute!r}; check {name!r}")
    found = _arguments(name, function, parameters, dtype, device)
    with _speaking_for(name):
        made = function(**found)
    if not isinstance(made, Potential):
        raise FluxError(
            f"{name} returned {type(made).__name__}, which is no Potential; wrap a torch "
            "module in gkflux.TorchPotential"
        )
    label = f"{PREFIX}{Path(place).name}:{attribute}"
    return _identified(made, label, source, parameters)


def _module(place: str) -> tuple[ModuleType, bytes]:
    """The module, and its source."""
    if not place.endswith(".py"):
        with _speaking_for(place):
            module = importlib.import_module(place)
        return module, Path(module.__file__).read_bytes() if module.__file__ else b""
    path = Path(place).expanduser()
    if not path.is_file():
        raise FluxError(f"there is no file {path}")
    label = f"gkflux_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(label, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[label] = module  # dataclasses and pickles look their module up
    with _speaking_for(str(path)):
        spec.loader.exec_module(module)
    return module, path.read_bytes()


@contextmanager
def _speaking_for(name: str) -> Iterator[None]:
    """Put what the user's code raises into one line: what, and at which of its lines."""
    try:
        yield
    except FluxError:
        raise
    except ModuleNotFoundError as error:
        raise FluxError(f"there is no module {error.name!r} for {name!r}") from error
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        raise FluxError(
            f"{name} fails: {type(error).__name__}: {text}{_line_of(error)}"
        ) from error


def _line_of(error: BaseException) -> str:
    """Where it was raised: the last line in the user's own file, not in a library."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<")
    ]
    if isinstance(error, SyntaxError) or not frames:
        return ""
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})"


def _arguments(
    name: str,
    function: Callable[..., Any],
    parameters: Mapping[str, Any],
    dtype: str,
    device: str,
) -> dict[str, Any]:
    signature = inspect.signature(function)
    offered = {"dtype": dtype, "device": device}
    wanted = {key: value for key, value in offered.items() if key in signature.parameters}
    found = {**wanted, **parameters}
    try:
        signature.bind(**found)
    except TypeError as error:
        raise FluxError(f"parameters of {name}: {error}; it takes {signature}") from None
    return found


def _identified(
    made: Potential, name: str, source: bytes, parameters: Mapping[str, Any]
) -> Potential:
    """Write into its provenance what decides its numbers: source, parameters, weights."""
    known = dict(made.provenance)
    parts = hashlib.sha256(source)
    parts.update(json.dumps(dict(parameters), sort_keys=True, default=str).encode())
    parts.update(str(known.get("sha256", "")).encode())
    known |= {"model": name, "sha256": parts.hexdigest()}
    try:
        made.provenance = known  # type: ignore[misc]
    except AttributeError as error:
        raise FluxError(
            f"{name}: provenance of {type(made).__name__} cannot be set; make it a plain "
            "attribute"
        ) from error
    return made
