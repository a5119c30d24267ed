"""Following temperature and energy of runs in progress."""

from pathlib import Path

import numpy as np

import stepson
from gkflux.history import POINTS, History

FIELDS = [
    stepson.Field("temperature", "float64", (), "K"),
    stepson.Field("energy", "float64", (), "eV", every=2),
    stepson.Field("energy_kinetic", "float64", (), "eV", every=2),
]


def begin(path: Path, steps: int) -> stepson.Writer:
    return stepson.create(
        path,
        fields=FIELDS,
        numbers=[18, 18],
        timestep=2.0,
        metadata={"stage": {"name": "production", "index": 1, "steps": steps}},
    )


def write(out: stepson.Writer, start: int, stop: int) -> None:
    steps = np.arange(start, stop)
    even = steps[steps % 2 == 0]
    for step in steps:
        due = {} if step % 2 else {"energy": -5.0, "energy_kinetic": 0.1 * step}
        out.append(step=int(step), temperature=float(step), **due)
    assert len(even)
    out.commit()


def test_what_is_new_is_merged_to_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    with begin(path, 9_999) as out:
        write(out, 0, 100)
        history = History.of([path])
        assert history.update()
        assert not history.update()
        for start in range(100, 10_000, 900):
            write(out, start, min(start + 900, 10_000))
            assert history.update()
            assert not history.finished
    assert history.update()
    assert history.finished
    assert (history.steps, history.atoms) == ([9_999], 2)
    whole = History.of([path])
    whole.update()
    for name in ("temperature", "energy"):
        times, values = history.curve(name)
        assert POINTS / 2 <= len(times) <= POINTS
        again = whole.curve(name)
        np.testing.assert_allclose(times, again[0], rtol=1e-12)
        np.testing.assert_allclose(values, again[1], rtol=1e-12)
    times, values = history.curve("temperature")
    # a straight line: the mean of a block stands at its middle
    np.testing.assert_allclose(values[:-1], 500 * times[:-1] - 0.5, rtol=1e-12)


def test_a_stage_that_stopped_early_is_not_finished(tmp_path: Path) -> None:
    with begin(tmp_path / "md.son", 9_999) as out:
        write(out, 0, 100)
    history = History.of([tmp_path / "md.son"])
    history.update()
    assert history.files[0].sealed
    assert not history.finished


def test_nothing_yet(tmp_path: Path) -> None:
    begin(tmp_path / "md.son", 10).close()
    history = History.of([tmp_path / "md.son"])
    history.update()
    assert history.steps == [0]
    assert len(history.curve("temperature")[0]) == 0
