"""Turn what pydantic finds wrong in a configuration into one line for its writer.

The line names the place (table, key, line of the file where it can be found), what was
expected, and for an unknown key the nearest known one.
"""

import difflib
import inspect
import tomllib
import typing
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stepson.errors import StepsonError

__all__ = ["ConfigError", "explain", "toml_error"]

EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "list_type": "a list in [ ]",
    "dict_type": "a table",
    "model_type": "a table",
    "finite_number": "a finite number",
}

BOUNDS = {
    "gt": "a number above {:g}",
    "ge": "a number of at least {:g}",
    "lt": "a number below {:g}",
    "min_length": "at least {} entries",
    "max_length": "at most {} entries",
}


class ConfigError(StepsonError, ValueError):
    """A run configuration is wrong: says where, and what was expected.

    Attributes:
        path: the file.
    """

    def __init__(self, message: str, path: Path) -> None:
        self.path = path
        super().__init__(f"{path.name}: {message}")


def toml_error(error: tomllib.TOMLDecodeError) -> str:
    """Describe a file that is not TOML."""
    return f"not valid TOML: {error}"


def explain(
    error: ValidationError, data: dict[str, object], text: str, model: type[BaseModel]
) -> str:
    """Return one line for the first (and the number of further) faults found in `data`."""
    faults = error.errors()
    first = min(faults, key=_rank)
    line = _one(first, data, text, model)
    more = len(faults) - 1
    return line if more == 0 else f"{line} (and {more} more)"


def _rank(fault: ErrorDetails) -> int:
    """Unknown keys first: they often explain the key that is missing."""
    return 0 if fault["type"] == "extra_forbidden" else 1


def _one(
    fault: ErrorDetails, data: dict[str, object], text: str, model: type[BaseModel]
) -> str:
    place, key = _place(fault["loc"], data), str(fault["loc"][-1]) if fault["loc"] else ""
    kind = fault["type"]
    if kind == "extra_forbidden":
        known = _known_keys(model, fault["loc"][:-1])
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
        return f"{_at(text, key)}{place} is not known; {hint}"
    if kind == "missing":
        return f"{place} is missing"
    if kind == "value_error":
        cause = str(fault["msg"]).removeprefix("Value error, ")
        return f"{place}: {cause}" if place else cause
    return (
        f"{_at(text, key)}{place} = {_shown(fault['input'])}: expected {_expected(fault)}"
    )


def _expected(fault: ErrorDetails) -> str:
    context = fault.get("ctx", {})
    for bound, phrase in BOUNDS.items():
        if bound in context:
            return phrase.format(context[bound])
    if fault["type"] == "literal_error":
        return str(context["expected"])
    return EXPECTED.get(fault["type"], str(fault["msg"]))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str | int | float) else "a table or list"


def _place(location: tuple[int | str, ...], data: dict[str, object]) -> str:
    """Name a key as its writer thinks of it: ``stage 'production': heat_flux.every``."""
    if location[:1] != ("stage",) or len(location) < 2:
        return ".".join(str(part) for part in location)
    number = int(location[1])
    stages = data.get("stage")
    entry = stages[number] if isinstance(stages, list) else None
    name = entry.get("name") if isinstance(entry, dict) else None
    stage = f"stage {name!r}" if isinstance(name, str) else f"[[stage]] number {number + 1}"
    rest = ".".join(str(part) for part in location[2:])
    return f"{stage}: {rest}" if rest else stage


def _at(text: str, key: str) -> str:
    """Return ``line 12: `` where exactly one line of the file could hold the key."""
    lines = [
        i
        for i, line in enumerate(text.splitlines(), start=1)
        if key and key in line.split("#")[0].replace("=", " ").replace(".", " ").split()
    ]
    return f"line {lines[0]}: " if len(lines) == 1 else ""


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Follow a location through the models to the table that refused a key."""
    here: type[BaseModel] | None = model
    for part in location:
        if here is None or not isinstance(part, str):
            continue
        entry = here.model_fields.get(part)
        here = None if entry is None else _model_in(entry.annotation)
    return [] if here is None else list(here.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Find the model inside ``list[Model]``, ``Model | None``, ``Annotated[...]``."""
    if inspect.isclass(annotation) and typing.get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((model for model in found if model is not None), None)
