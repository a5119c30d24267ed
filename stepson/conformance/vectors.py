"""The vectors as files: plain ones, recipes with holes, and variants of a file."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stepson
from stepson.errors import FormatError

__all__ = ["Case", "cases", "default_folder"]

Expectation = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One file, and what is right to make of it."""

    name: str
    """Folder, and variant where there are several."""
    folder: Path
    expectations: tuple[Expectation, ...]
    """Any of them is right; the first is best."""
    recipe: Mapping[str, Any]
    """How the file differs from that of the folder."""

    def place(self, scratch: Path) -> Path:
        """Write the file: a copy, which may be spoilt."""
        scratch.unlink(missing_ok=True)  # a new file: the old one may still be mapped
        plain = self.folder / "file.son"
        if not plain.exists():
            _expand(self.folder / "file.son.pieces", scratch)
            return scratch
        data = bytearray(plain.read_bytes()[: self.recipe.get("cut")])
        for offset, text in self.recipe.get("patch", []):
            piece = bytes.fromhex(text)
            data[offset : offset + len(piece)] = piece
        scratch.write_bytes(data + bytes.fromhex(self.recipe.get("behind", "")))
        return scratch


def default_folder() -> Path:
    """``spec/vectors`` of the source that this module is in."""
    return Path(stepson.__file__).parents[1] / "spec" / "vectors"


def cases(folder: Path, pattern: str = "") -> Iterator[Case]:
    """All cases in a folder whose name contains `pattern`, sorted.

    Raises:
        FormatError: there are no vectors, or one of them cannot be understood.
    """
    found = sorted(folder.rglob("expect.json"))
    if not found:
        raise FormatError(
            f"{folder}: no vectors here; they are spec/vectors of the source: name that "
            "folder with --vectors"
        )
    for path in found:
        try:
            of_folder = list(_of_folder(folder, path))
        except (ValueError, LookupError, TypeError) as error:
            raise FormatError(
                f"{path}: not as spec/vectors/README.md says: {error!r}"
            ) from error
        yield from (case for case in of_folder if pattern in case.name)


def _of_folder(root: Path, path: Path) -> Iterator[Case]:
    content = json.loads(path.read_text(encoding="utf-8"))
    name = path.parent.relative_to(root).as_posix()
    if "variants" not in content:
        yield Case(name, path.parent, (content,), {})
        return
    for row in content["variants"]:
        recipe = {key: row[key] for key in ("cut", "patch", "behind") if key in row}
        own = {k: v for k, v in row.items() if k not in {*recipe, "name", "expect"}}
        wanted = row["expect"] if isinstance(row["expect"], list) else [row["expect"]]
        right = tuple({**content["expectations"][each], **own} for each in wanted)
        yield Case(f"{name}/{row['name']}", path.parent, right, recipe)


def _expand(recipe: Path, target: Path) -> None:
    """Write a file with holes."""
    content = json.loads(recipe.read_text(encoding="utf-8"))
    with target.open("wb") as file:
        file.truncate(content["size"])
        for offset, text in content["pieces"]:
            file.seek(offset)
            file.write(base64.b64decode(text))
