"""Writes the conformance vectors: ``python -m spec.make_vectors [FOLDER]``.

Without a folder those in ``spec/vectors`` are written anew, except for what released
versions wrote. The bytes come from ``spec/generator``, which does not use the library.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from spec.generator import (
    cases_codecs,
    cases_container,
    cases_content,
    cases_damage,
    cases_hostile,
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
    ):
        yield from module.cases()


def main(folder: str = str(VECTORS)) -> None:
    """Write all folders."""
    for each in vectors():
        each.write(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
