"""Reducing real files: what is pooled, what is joined, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.correlate import Float
from gkflux.trajectories import find_files, trajectory_runs

FIELDS = [
    stepson.Field(
        "heat_flux",
        "float64",
        (3,),
        "eV Å/fs",
        every=2,
        attributes={"gauge": "none", "formulation": "semilocal", "convective": True},
    ),
    stepson.Field("temperature", "float64", (), "K", every=2),
    stepson.Field("energy", "float64", (), "eV", every=2),
    stepson.Field("energy_kinetic", "float64", (), "eV", every=2),
]
SAMPLES = 3000


def flux(seed: int, samples: int = SAMPLES) -> Float:
    noise = np.random.default_rng(seed).normal(size=(samples + 400, 3))
    series = np.zeros_like(noise)
    for step in range(1, len(noise)):
        series[step] = 0.8 * series[step - 1] + noise[step]
    return series[400:]


def write(
    path: Path,
    values: Float,
    *,
    first: int = 0,
    parent: stepson.Trajectory | dict[str, Any] | None = None,
    fields: list[stepson.Field] | None = None,
    cell: Float | None = None,
    seal: bool = True,
    **metadata: Any,
) -> Path:
    known: dict[str, Any] = {
        "ensemble": "nve",
        "temperature": 300.0,
        "degrees_of_freedom": 21,
        "potential": {"file": "model", "sha256": "00"},
        **metadata,
    }
    generator = np.random.default_rng(first)
    out = stepson.create(
        path,
        fields=FIELDS if fields is None else fields,
        numbers=[14] * 8,
        masses=[28.0] * 8,
        cell=np.eye(3) * 10 if cell is None else cell,
        timestep=known.pop("timestep", 4.0),
        metadata=known,
        parent=parent,
    )
    kinetic = 0.27 + 0.01 * generator.normal(size=len(values))
    names = {field.name for field in out.trajectory().fields.values()} if fields else None
    data = {
        "heat_flux": values,
        "temperature": 300 + generator.normal(size=len(values)),
        "energy": -5.0 - kinetic,
        "energy_kinetic": kinetic,
    }
    keep = {k: v for k, v in data.items() if names is None or k in names}
    out.extend(steps=np.arange(first, first + 2 * len(values), 2), **keep)
    if seal:
        out.close()
    else:
        out.commit()
    return path


def test_files_give_what_their_arrays_give(tmp_path: Path) -> None:
    series = [flux(seed) for seed in range(3)]
    for number, values in enumerate(series):
        (tmp_path / f"{number:02d}").mkdir()
        write(tmp_path / f"{number:02d}" / "md.son", values, replica=number)
    found = gkflux.GreenKubo.from_trajectories(tmp_path / "*" / "md.son")
    temperature = [entry["temperature_K"] for entry in found.inputs]
    scaled = [v * 300 / t for v, t in zip(series, temperature, strict=True)]
    expected = gkflux.kappa(scaled, timestep=8.0, volume=1000.0, temperature=300.0)
    assert found.kappa == pytest.approx(expected.kappa, rel=1e-12)
    assert found.kappa_std == pytest.approx(expected.kappa_std, rel=1e-12)
    assert len(found.replicas) == 3
    assert found.volume == pytest.approx(1000.0)
    assert {c.name: c.status for c in found.checks}["energy drift"] == "pass"
    assert found.inputs[0]["uuid"] != found.inputs[1]["uuid"]
    assert "potential_sha256" in found.to_json()


def test_threads_change_nothing(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.son", flux(number))
    one = gkflux.GreenKubo.from_trajectories(tmp_path)
    two = gkflux.GreenKubo.from_trajectories(tmp_path, threads=2)
    assert two.kappa == one.kappa
    np.testing.assert_array_equal(
        one.curves["autocorrelation"], two.curves["autocorrelation"]
    )


def test_a_continuation_is_joined_to_what_it_continues(tmp_path: Path) -> None:
    values = flux(1)
    whole = write(tmp_path / "whole.son", values)
    first = write(tmp_path / "first.son", values[:1000])
    with stepson.open(first) as parent:
        second = write(tmp_path / "second.son", values[1000:], first=2000, parent=parent)
    runs = trajectory_runs([second, first])
    assert [run.samples for run in runs] == [SAMPLES]
    together = np.concatenate([chunk.flux for chunk in runs[0].read(0, runs[0].samples)])
    np.testing.assert_array_equal(together, values)
    joined = gkflux.GreenKubo.from_trajectories([first, second])
    np.testing.assert_allclose(
        joined.curves["autocorrelation"],
        gkflux.GreenKubo.from_trajectories(whole).curves["autocorrelation"],
        rtol=1e-3,  # the temperatures of the two files were drawn anew
    )


def test_a_gap_before_a_continuation_is_not_correlated_across(tmp_path: Path) -> None:
    """One run of two pieces: what a run of each gives, not what a run of all would."""
    values = flux(1)
    first = write(tmp_path / "first.son", values[:1000])
    with stepson.open(first) as parent:
        second = write(tmp_path / "second.son", values[1100:], first=2200, parent=parent)
    found = gkflux.GreenKubo.from_trajectories([first, second])
    assert len(found.inputs) == 1
    assert found.inputs[0]["samples"] == SAMPLES - 100
    (spacing,) = [check for check in found.checks if check.name == "spacing"]
    assert spacing.status == "warn"
    assert spacing.message.startswith("1 gap in the series")
    apart = write(tmp_path / "apart.son", values[1100:], first=2200)
    pieces = gkflux.GreenKubo.from_trajectories([first, apart])
    assert len(pieces.inputs) == 2
    np.testing.assert_allclose(
        found.curves["autocorrelation"][:50],
        pieces.curves["autocorrelation"][:50],
        rtol=1e-3,  # the mean temperatures of two runs are not that of one
        atol=1e-4 * pieces.curves["autocorrelation"][0].max(),
    )


def test_what_did_not_go_on_from_the_file_that_is_there_is_a_run(tmp_path: Path) -> None:
    """Steps that follow say nothing where the parent lost its end and was run again."""
    values = flux(1)
    first = write(tmp_path / "first.son", values[:1000])
    with stepson.open(first) as found:
        parent = {"uuid": found.uuid, "digest": "0" * 64, "step": 1998}
    second = write(tmp_path / "second.son", values[1000:], first=2000, parent=parent)
    with stepson.open(second) as found:
        third = write(tmp_path / "third.son", values[:100], first=6000, parent=found)
    runs = trajectory_runs([third, second, first])
    assert [run.facts["files"] for run in runs] == [[str(first)], [str(second), str(third)]]


def test_branches_are_pooled_one_by_one(tmp_path: Path) -> None:
    first = write(tmp_path / "first.son", flux(1, 100))
    for name in "ab":
        with stepson.open(first) as parent:
            write(tmp_path / f"{name}.son", flux(2, 100), first=200, parent=parent)
    assert [run.samples for run in trajectory_runs(tmp_path)] == [100] * 3


def test_overlapping_steps_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "first.son", flux(1, 1000))
    with stepson.open(first) as parent:
        second = write(tmp_path / "second.son", flux(2, 1000), first=1000, parent=parent)
    with pytest.raises(gkflux.FluxError, match=r"overlap, .* give only one of the two"):
        trajectory_runs([first, second])


def test_a_restart_from_an_earlier_state_counts_each_step_once(tmp_path: Path) -> None:
    """What the parent had written behind that state is another branch of the same steps."""
    values = flux(1)
    first = write(tmp_path / "first.son", np.concatenate([values[:1000], flux(3, 500)]))
    with stepson.open(first) as opened:
        parent = {"uuid": opened.uuid, "digest": opened.digest, "step": 1999}
    second = write(tmp_path / "second.son", values[1000:], first=2000, parent=parent)
    (run,) = trajectory_runs([first, second])
    assert run.samples == SAMPLES
    np.testing.assert_array_equal(
        np.concatenate([chunk.flux for chunk in run.read(0, run.samples)]), values
    )
    found = gkflux.GreenKubo.from_trajectories([first, second])
    (check,) = [each for each in found.checks if each.name == "restarts"]
    assert check.status == "warn"
    assert "first.son counts up to step 1998, " in check.message
    assert {each.name: each.status for each in found.checks}["spacing"] == "pass"


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.son", flux(1, 100))
    with pytest.raises(gkflux.FluxError, match="same trajectory"):
        trajectory_runs([path, path])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timestep": 2.0}, "timestep"),
        ({"temperature": 400.0}, r"target temperature 400\.0"),
        ({"potential": {"file": "model", "sha256": "11"}}, "the potential 11"),
        ({"cell": np.eye(3) * 11}, "the cell"),
    ],
)
def test_runs_that_differ_are_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    first = write(tmp_path / "a.son", flux(1, 100))
    second = write(tmp_path / "b.son", flux(2, 100), **change)
    with pytest.raises(gkflux.FluxError, match=words):
        trajectory_runs([first, second])


def test_another_gauge_is_refused(tmp_path: Path) -> None:
    other = stepson.Field(
        "heat_flux", "float64", (3,), "eV Å/fs", every=2, attributes={"gauge": "lattice"}
    )
    first = write(tmp_path / "a.son", flux(1, 100))
    second = write(tmp_path / "b.son", flux(2, 100), fields=[other, *FIELDS[1:]])
    with pytest.raises(gkflux.FluxError, match="gauge lattice"):
        trajectory_runs([first, second])


def test_thermostatted_stages_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    nve = write(tmp_path / "a.son", flux(1, 100))
    langevin = write(tmp_path / "b.son", flux(2, 100), ensemble="langevin")
    assert [run.name for run in trajectory_runs([nve, langevin])] == [str(nve)]
    assert len(trajectory_runs([nve, langevin], any_ensemble=True)) == 2
    with pytest.raises(gkflux.FluxError, match="only langevin stages"):
        trajectory_runs(langevin)


def test_a_file_without_heat_flux_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.son", flux(1, 100), fields=FIELDS[1:])
    with pytest.raises(gkflux.FluxError, match="no field heat_flux, only temperature"):
        trajectory_runs(path)


def test_a_folder_may_hold_files_without_heat_flux(tmp_path: Path) -> None:
    write(tmp_path / "thermalise.son", flux(1, 100), fields=FIELDS[1:])
    with pytest.raises(gkflux.FluxError, match="1 files, none of them"):
        trajectory_runs(tmp_path)
    wanted = write(tmp_path / "production.son", flux(1, 100))
    assert [run.name for run in trajectory_runs(tmp_path)] == [str(wanted)]


def test_a_text_son_is_one_clear_line(shared_data: Path) -> None:
    with pytest.raises(stepson.StepsonError) as caught:
        trajectory_runs(shared_data / "vibes" / "mgo64-31-steps.son")
    assert "\n" not in str(caught.value)


def test_different_temperatures_without_a_target_are_refused(tmp_path: Path) -> None:
    free: dict[str, Any] = {"temperature": None, "degrees_of_freedom": 21_000}
    first = write(tmp_path / "a.son", flux(1, 200), **free)
    second = write(tmp_path / "b.son", flux(2, 200), **free)
    gkflux.GreenKubo.from_trajectories([first, second])
    hot = [field for field in FIELDS if field.name != "temperature"]
    cold = write(tmp_path / "c.son", flux(3, 200), fields=hot, **free)
    with pytest.raises(gkflux.FluxError, match="no kinetic temperature"):
        gkflux.GreenKubo.from_trajectories(cold)
    with pytest.raises(gkflux.FluxError, match="different temperatures"):
        gkflux.GreenKubo.from_trajectories([first, cold], temperature=500.0)


def test_a_run_in_progress_is_reduced_as_far_as_it_is_committed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.son", flux(1), seal=False)
    assert gkflux.GreenKubo.from_trajectories(path).inputs[0]["samples"] == SAMPLES


def test_species_that_leave_their_sites_are_noticed(tmp_path: Path) -> None:
    fields = [*FIELDS, stepson.Field("positions", "float64", ("atom", 3), "Å", every=None)]
    positions = np.random.default_rng(0).uniform(0, 10, size=(8, 3))
    for name, stretch in (("solid", 0.1), ("liquid", 5.0)):
        path = tmp_path / f"{name}.son"
        moved = positions + stretch * np.random.default_rng(1).normal(size=(8, 3))
        with stepson.create(
            path,
            fields=fields,
            numbers=[11, 17] * 4,
            cell=np.eye(3) * 10,
            timestep=1.0,
            metadata={"ensemble": "nve"},
        ) as out:
            for step, frame in enumerate([positions, moved]):
                scalars = dict.fromkeys(("temperature", "energy", "energy_kinetic"), 1.0)
                out.append(step=2 * step, heat_flux=np.ones(3), positions=frame, **scalars)
        assert trajectory_runs(path)[0].facts["diffusing"] is (name == "liquid")


def test_paths_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "md.son", flux(1, 20))
    expected = [str(tmp_path / name / "md.son") for name in ("a", "b")]
    assert find_files(tmp_path) == expected
    assert find_files(str(tmp_path / "*" / "md.son")) == expected
    assert find_files(reversed(expected)) == expected[::-1]
    with pytest.raises(gkflux.FluxError, match="no such file"):
        find_files(tmp_path / "*.nothing")
