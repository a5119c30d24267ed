"""Some of the crashes that ``make crashes`` counts, and whether they would notice."""

from typing import Any
from unittest import mock

import pytest

from tests.stepson.crashes import disk, pool

SOME = {
    "short": 16,
    "enospc": 20,
    "eio": 24,
    "power": 30,
    "double": 8,
    "sigkill": 5,
    "cut": 12,
    "flip": 60,
    "reader": 1,
}
SLOW = 8


def run(kind: str, first: int, count: int) -> None:
    for seed in range(first, first + count):
        result = pool.run_case(kind, seed)
        assert not result.wrong, f"{pool.repeat(result)}\n{result.told}"


@pytest.mark.parametrize("kind", SOME)
def test_nothing_is_lost_and_nothing_wrong_is_read(kind: str) -> None:
    run(kind, 0, SOME[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize("part", range(1, SLOW))
def test_more_of_them(kind: str, part: int) -> None:
    run(kind, 100_000 + part * SOME[kind], SOME[kind])


def wrongs(kind: str, count: int) -> set[str]:
    """What is found when something is broken."""
    return {pool.run_case(kind, seed).wrong for seed in range(count)}


def test_a_writer_that_does_not_sync_is_found_out() -> None:
    sync = disk.Disk.sync

    def promise(self: disk.Disk) -> None:
        before = self.synced
        sync(self)
        self.synced = before

    with mock.patch.object(disk.Disk, "sync", promise):
        assert "lost commit" in wrongs("power", 10)


def test_a_reader_that_does_not_check_is_found_out() -> None:
    def nothing(*_: Any) -> None:
        pass

    with mock.patch("stepson.scan.check_transaction", nothing):
        assert wrongs("power", 25) - {""}


class Anything(int):
    """A checksum that fits."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def test_a_chunk_that_is_not_checked_is_found_out() -> None:
    def fits(data: Any, crc: int = 0) -> Anything:
        return Anything()

    with mock.patch("stepson.chunk.crc32c.crc32c", fits):
        assert wrongs("flip", 60) - {""}
