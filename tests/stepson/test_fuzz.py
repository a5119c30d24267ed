"""A sample of ``make fuzz``, and everything that it ever found."""

from pathlib import Path

import pytest

from tests.stepson.fuzz.attack import attack, bounded, example, seeds
from tests.stepson.fuzz.container import join, split

FOUND = sorted((Path(__file__).parent / "fuzz" / "found").glob("*.son"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_found_once(path: Path) -> None:
    with bounded():
        attack(path.read_bytes())


@pytest.mark.parametrize("part", range(4))
def test_a_sample(part: int) -> None:
    refused = 0
    for number in range(10 * part, 10 * part + 10):
        with bounded():
            refused += bool(attack(example(number)))
    assert refused


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_a_larger_sample(part: int) -> None:
    for number in range(10_000 + 50 * part, 10_050 + 50 * part):
        with bounded():
            attack(example(number))


def test_what_is_put_together_again_is_the_same_file() -> None:
    """Else all changes would be refused for their checksums alone."""
    for data in seeds()[:40]:
        assert join(*split(data)) == data
