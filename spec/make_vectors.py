"""Writes the conformance vectors: ``python -m spec.make_vectors [FOLDER]``.

Without a folder those in ``spec/vectors`` are written anew, except for what released
versions wrote. The bytes come from ``spec/generator``, which does not use the library.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import blosc2

from spec.generator import (
    cases_codecs,
    cases_container,
    cases_content,
    cases_damage,
    cases_hostile,
    cases_lies,
)
from spec.generator.vector import Vector

VECTORS = Path(__file__).parent / "vectors"


def vectors() -> Iterator[Vector]:
    """Every case."""
    for module in (
        cases_content,
        cases_codecs,
        cases_container,
        cases_damage,
        cases_hostile,
        cases_lies,
    ):
        yield from module.cases()


def compressor() -> dict[str, str]:
    """What compresses the chunks; another version may make other bytes of them."""
    return {"blosc2": blosc2.blosclib_version.split()[0]}


def main(folder: str = str(VECTORS)) -> None:
    """Write all folders."""
    text = json.dumps(compressor()) + "\n"
    (Path(folder) / "made-with.json").write_text(text, encoding="utf-8")
    for each in vectors():
        each.write(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
