"""What a stage stores, when, and the buffers on the way to the file."""

import numpy as np
import pytest

from gkflux.dynamics.config import StageConfig
from gkflux.dynamics.recording import Recorder, stage_fields
from gkflux.dynamics.recovery import quantised
from stepson import Field


def stage(**changes: object) -> StageConfig:
    plain = {"name": "s", "timestep": 1.0, "steps": 100}
    return StageConfig.model_validate({**plain, **changes})


def cadences(config: StageConfig) -> dict[str, int | None]:
    return {f.name: f.every for f in stage_fields(config, gauge="none", convective=True)}


def test_small_fields_follow_the_flux_where_there_is_one() -> None:
    assert cadences(stage(record={"every": 10})) == {
        "energy": 10,
        "energy_kinetic": 10,
        "temperature": 10,
        "positions": 10,
        "velocities": 10,
    }
    record = {"every": 10, "fields": ["forces", "stress"]}
    both = stage(record=record, heat_flux={"every": 3})
    assert cadences(both) == {
        "energy": 3,
        "energy_kinetic": 3,
        "temperature": 3,
        "heat_flux": 3,
        "stress": 10,
        "forces": 10,
    }


def test_how_exactly_fields_are_stored() -> None:
    how = {"precision": {"positions": 1e-4}, "dtype": {"velocities": "float64"}}
    config = stage(record=how)
    fields = {f.name: f for f in stage_fields(config, gauge="none", convective=True)}
    assert fields["positions"].dtype == "float32"
    assert fields["positions"].precision == 1e-4
    assert fields["velocities"].dtype == "float64"
    assert fields["velocities"].precision is None
    assert fields["energy"].dtype == "float64"


FIELDS = (
    Field("energy", "float64", (), "eV", every=2),
    Field("positions", "float32", ("atom", 3), "Å", every=5),
)


def recorded(last: int) -> Recorder:
    recorder = Recorder(FIELDS, replicas=2, n_atoms=3)
    for step in range(last + 1):
        values = {
            "energy": np.array([step, -step], dtype=float),
            "positions": np.full((2, 3, 3), step, dtype=float),
        }
        assert set(recorder.due(step)) == {
            name for name, every in (("energy", 2), ("positions", 5)) if step % every == 0
        }
        recorder.put(step, values)
    return recorder


@pytest.mark.parametrize("last", [0, 1, 7, 1000])
def test_an_epoch_holds_every_due_sample(last: int) -> None:
    epoch = recorded(last).take()
    steps = [s for s in range(last + 1) if s % 2 == 0 or s % 5 == 0]
    assert epoch.steps.tolist() == steps
    mine = epoch.fields(1)
    np.testing.assert_array_equal(mine["energy"], -np.arange(0, last + 1, 2.0))
    assert mine["positions"].dtype == np.float32
    assert mine["positions"].shape == (last // 5 + 1, 3, 3)
    assert mine["positions"].flags.c_contiguous
    np.testing.assert_array_equal(mine["positions"][:, 0, 0], np.arange(0, last + 1, 5))


def test_an_epoch_can_be_cut_at_a_step() -> None:
    epoch = recorded(50).take()
    before, after = epoch.until(20), epoch.after(20)
    assert before.steps[-1] == 20
    assert after.steps[0] == 22
    joined = np.concatenate([before.steps, after.steps])
    np.testing.assert_array_equal(joined, epoch.steps)
    assert len(epoch.until(-1).steps) == 0
    assert len(epoch.after(50).steps) == 0


def test_taking_an_epoch_leaves_nothing_behind() -> None:
    recorder = recorded(10)
    assert recorder.bytes_waiting == 2 * (6 * 8 + 3 * 36)
    first = recorder.take()
    assert recorder.bytes_waiting == 0
    assert len(recorder.take().steps) == 0
    recorder.put(12, {"energy": np.ones(2)})
    assert first.fields(0)["energy"].tolist() == [0, 2, 4, 6, 8, 10]


def test_quantised_values_are_those_that_are_read_again() -> None:
    rule = Field("positions", "float32", ("atom", 3), "Å", precision=1e-3)
    values = np.random.default_rng(0).normal(size=(40, 5, 3)).astype(np.float32)
    once = quantised(values, rule)
    assert np.abs(once - values).max() <= 1e-3
    assert not np.array_equal(once, values)
    np.testing.assert_array_equal(quantised(values[7:9], rule), once[7:9])
