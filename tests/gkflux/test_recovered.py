"""A recovered file has gaps: Green-Kubo sees them and correlates nothing across."""

from pathlib import Path

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.survey import survey_all
from gkflux.trajectories import trajectory_runs
from stepson.records import RecordType
from stepson.scan import Record, walk
from stepson.source import Bytes
from tests.gkflux.test_trajectories import FIELDS, flux

BLOCK = 500


def write(path: Path) -> None:
    """Six blocks of 500 samples of the flux, as a run stores them."""
    series = flux(0)
    rng = np.random.default_rng(1)
    with stepson.create(
        path,
        fields=FIELDS,
        numbers=[14] * 8,
        masses=[28.0] * 8,
        cell=np.eye(3) * 10,
        timestep=4.0,
        metadata={"ensemble": "nve", "temperature": 300.0, "degrees_of_freedom": 21},
    ) as out:
        for start in range(0, len(series), BLOCK):
            values = series[start : start + BLOCK]
            kinetic = 0.27 + 0.01 * rng.normal(size=len(values))
            out.extend(
                steps=2 * np.arange(start, start + len(values)),
                heat_flux=values,
                temperature=300 + rng.normal(size=len(values)),
                energy=-5.0 - kinetic,
                energy_kinetic=kinetic,
            )
            out.commit()


def blocks(data: bytes) -> list[Record]:
    found = walk(Bytes(data), 64, len(data))
    return [r for r in found if r.prefix.type == RecordType.BLOCK]


def place_of_flux(block: Record) -> int:
    info = next(each for each in block.map["chunks"] if each["field"] == 0)
    return int(block.payload + info["offset"])


@pytest.mark.parametrize(
    ("number", "whole", "pieces"),
    [
        (2, False, [(0, 1000), (1000, 2500)]),
        (0, False, [(0, 2500)]),
        (2, True, [(0, 1000), (1000, 2500)]),
    ],
)
def test_a_gap_is_a_gap(
    tmp_path: Path, number: int, whole: bool, pieces: list[tuple[int, int]]
) -> None:
    write(tmp_path / "md.son")
    data = bytearray((tmp_path / "md.son").read_bytes())
    block = blocks(bytes(data))[number]
    data[block.offset + 9 if whole else place_of_flux(block)] ^= 1
    (tmp_path / "md.son").write_bytes(data)
    done = stepson.recover(tmp_path / "md.son", tmp_path / "saved.son")
    assert done.irregular == (() if whole else ("heat_flux",))
    (run,) = trajectory_runs(tmp_path / "saved.son")
    assert run.every == 2
    (found,), _ = survey_all([run])
    assert list(found.pieces) == pieces
    assert found.gaps == len(pieces) - 1
    checks = {
        c.name: c for c in gkflux.GreenKubo.from_trajectories(tmp_path / "saved.son").checks
    }
    assert checks["spacing"].status == ("pass" if len(pieces) == 1 else "warn")
