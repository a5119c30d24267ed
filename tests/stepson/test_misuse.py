"""Calls that ask for what cannot be: each gets its right answer, or one clear line."""

from pathlib import Path

import pytest

import stepson
from stepson import Trajectory
from tests.stepson.files import write

BLOCKS = [range(20), range(20, 40)]


@pytest.fixture(params=["one", "joined"])
def traj(tmp_path: Path, request: pytest.FixtureRequest) -> Trajectory:
    """Frames at the even steps up to 38, in one file or in two."""
    if request.param == "one":
        write(tmp_path / "a.son", BLOCKS)
        return stepson.open(tmp_path / "a.son")
    write(tmp_path / "a.son", BLOCKS[:1])
    write(tmp_path / "b.son", BLOCKS[1:])
    return stepson.open(tmp_path, join=True)


def test_a_name_given_twice_is_streamed_once(traj: Trajectory) -> None:
    for batch in traj.stream("energy", "heat_flux", "energy", frames=100):
        assert batch["energy"].tolist() == list(range(0, 40, 2))
        assert len(batch["heat_flux"]) == 20
