"""Files that continue one another read as the one trajectory that they are."""

import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepson
from spec.generator.file import File
from spec.generator.records import field as field_map
from stepson import Field, FormatError, SchemaError, SeriesWarning, TornError, Trajectory
from stepson.errors import StepsonError
from stepson.opening import Header
from stepson.schema import Schema
from stepson.series.lineage import sort_chains
from stepson.series.member import Member
from stepson.table import Totals
from tests.stepson.files import FIELDS, check_content, create, flipped, frame

Array = np.ndarray[Any, Any]
NAMES = ("positions", "energy", "note")
ATOMS = 3
GENERATED: Any = File
FIELD_MAP: Any = field_map


@dataclass
class Part:
    """A file, and what it should contribute."""

    first: int
    stop: int
    energy: int
    """Steps between samples."""
    positions: int
    notes: list[int]
    told: int | None = None
    """The step of its parent that it names."""
    frames: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def fields(self) -> list[Field]:
        return [
            Field("positions", "float32", ("atom", 3), "Å", every=self.positions),
            Field("energy", "float64", (), "eV", every=self.energy),
            Field("note", "int32", (2,), "", every=None),
        ]

    def fill(self, number: int) -> None:
        """Values that tell step and file."""
        for step in range(self.first, self.stop):
            found: dict[str, Any] = {}
            if step % self.energy == 0:
                found["energy"] = step + 1000.0 * number
            if step % self.positions == 0:
                grid = np.arange(3 * ATOMS).reshape(ATOMS, 3)
                found["positions"] = (grid + step + 1000 * number).astype("f4")
            if step in self.notes:
                found["note"] = np.array([step, number], "i4")
            if found:
                self.frames[step] = found

    def due(self, steps: Iterator[int] | range) -> list[int]:
        return [s for s in steps if s % self.energy == 0 or s % self.positions == 0]


@st.composite
def histories(draw: st.DrawFn) -> list[Part]:
    """One to six files; each goes on somewhere behind the start of the one before."""
    parts: list[Part] = []
    first, stop = 0, 0
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["exact", "exact", "gap", "overlap", "empty"]))
        begin = {
            "exact": stop,
            "empty": stop,
            "gap": stop + draw(st.integers(1, 12)),
            "overlap": draw(st.integers(min(first + 1, stop), stop)),
        }[kind]
        end = begin if kind == "empty" else begin + draw(st.integers(1, 25))
        energy, positions = draw(st.sampled_from([(1, 4), (2, 4), (2, 10), (3, 5)]))
        notes = draw(st.lists(st.integers(begin, max(begin, end - 1)), max_size=3))
        part = Part(begin, end, energy, positions, notes)
        part.fill(number)
        parts.append(part)
        if part.frames:
            first, stop = min(part.frames), end
    return parts


def write_history(parts: Sequence[Part], folder: Path, data: st.DataObject) -> list[Path]:
    """Write the files; each names a COMMIT of the one before."""
    paths: list[Path] = []
    parent: dict[str, Any] | None = None
    commits: list[tuple[str, int]] = []
    uuid = ""
    for number, part in enumerate(parts):
        if commits:
            digest, end = data.draw(st.sampled_from(commits))
            # The state that was continued may lie before or behind the last frame.
            near = st.integers(max(end - 3, -1), end + 6)
            told = data.draw(st.just(end) | near | st.integers(-1, max(end, 0)))
            # Up to a step in front of what follows, or it would be no continuation.
            later = [min(each.frames) for each in parts[number:] if each.frames]
            part.told = min([told, *(first - 1 for first in later)])
            parent = {"uuid": uuid, "digest": digest, "step": part.told}
        path = folder / f"{number}.son"
        writer = create(path, fields=part.fields, parent=parent, commit="manual")
        commits = [(writer.digest, -1)]
        for step, values in part.frames.items():
            writer.append(step, **values)
            if data.draw(st.integers(0, 4)) == 0:
                writer.commit()
                commits.append((writer.digest, step))
        writer.commit()
        commits.append((writer.digest, max(part.frames, default=-1)))
        uuid = writer.uuid
        if data.draw(st.booleans()):
            writer.close()
        else:
            writer.abandon()
        paths.append(path)
    return paths


def told_apart(parts: Sequence[Part]) -> dict[int, int]:
    """The oracle: which file's frame counts at each step, going through history."""
    owner: dict[int, int] = {}
    for number, part in enumerate(parts):
        if part.frames:
            start = min(part.frames)
            if number and part.told is not None and part.told >= 0:
                start = min(start, part.told + 1)
            owner = {step: who for step, who in owner.items() if step < start}
            owner |= dict.fromkeys(part.frames, number)
    return owner


def gap_by_force(
    before: Part, behind: Part, last: int, told: int | None
) -> tuple[int, int] | None:
    """What is missing, unless a border between the two files explains all of it."""
    first = min(behind.frames)
    least = last if told is None else max(last, min(told, first - 1))
    missing = [
        before.due(range(last + 1, border + 1)) + behind.due(range(border + 1, first))
        for border in range(least, first)
    ]
    if not all(missing):
        return None
    start = before.due(range(last + 1, first))[0]
    ends = before.due(range(start, least + 1)) + behind.due(range(start, first))
    return start, max(ends)


def expected_of(
    parts: Sequence[Part], owner: dict[int, int], name: str
) -> tuple[list[int], Array]:
    steps = [s for s in sorted(owner) if name in parts[owner[s]].frames[s]]
    values = [parts[owner[s]].frames[s][name] for s in steps]
    shape = {"positions": (ATOMS, 3), "energy": (), "note": (2,)}[name]
    dtype = {"positions": "f4", "energy": "f8", "note": "i4"}[name]
    return steps, np.array(values, dtype).reshape(len(steps), *shape)


slices = st.slices(80)


def check(
    traj: Trajectory, parts: Sequence[Part], owner: dict[int, int], data: st.DataObject
) -> None:
    """Everything that a trajectory offers, against numpy on the reference."""
    frames = sorted(owner)
    assert len(traj) == len(frames)
    assert traj.steps[:].tolist() == frames
    assert [each.step for each in traj] == frames
    for name in NAMES:
        steps, values = expected_of(parts, owner, name)
        column = traj[name]
        assert column.shape == values.shape
        assert column.steps[:].tolist() == steps
        np.testing.assert_array_equal(column[:], values)
        for _ in range(3):
            cut = data.draw(slices)
            np.testing.assert_array_equal(column[cut], values[cut])
            np.testing.assert_array_equal(column.time[cut], 4.0 * np.array(steps)[cut])
        if steps:
            chosen = data.draw(st.lists(st.integers(-len(steps), len(steps) - 1)))
            np.testing.assert_array_equal(column[chosen], values[chosen])
            step = data.draw(st.sampled_from(steps))
            np.testing.assert_array_equal(column.at_step(step), values[steps.index(step)])
        if name == "positions":
            np.testing.assert_array_equal(column[::2, 1:3, 0], values[::2, 1:3, 0])
    for step in data.draw(st.lists(st.integers(0, 120), max_size=8)):
        if step not in owner:
            with pytest.raises(SchemaError, match="nothing was recorded"):
                traj.at_step(step)
            continue
        reference = parts[owner[step]].frames[step]
        found = traj.at_step(step)
        assert set(found.fields) == set(reference)
        for name in NAMES:
            np.testing.assert_array_equal(found[name], reference.get(name))
        assert traj[frames.index(step)].step == step
    start = data.draw(st.integers(0, max(len(frames) - 1, 0)))
    assert [each.step for each in traj.frames(start)] == frames[start:]


def check_stream(
    traj: Trajectory, parts: Sequence[Part], owner: dict[int, int], data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    size = data.draw(st.integers(1, 20))
    bound = st.none() | st.integers(0, 120)
    start, stop = data.draw(bound), data.draw(bound)
    batches = list(traj.stream(*names, frames=size, start=start, stop=stop))
    end = -1
    for batch in batches:
        assert 0 < max(len(batch[name]) for name in names) <= size
        known = np.concatenate([batch.steps[name] for name in names])
        assert known.min() > end
        end = int(known.max())
    for name in names:
        steps, values = expected_of(parts, owner, name)
        kept = [
            i
            for i, s in enumerate(steps)
            if (start or 0) <= s < (999 if stop is None else stop)
        ]
        got = [batch.steps[name] for batch in batches]
        assert np.concatenate([*got, np.empty(0, int)]).tolist() == [steps[i] for i in kept]
        got = [batch[name] for batch in batches]
        np.testing.assert_array_equal(np.concatenate([*got, values[:0]]), values[kept])


def check_seams(traj: Trajectory, parts: Sequence[Part], owner: dict[int, int]) -> None:
    counted = [[s for s, who in owner.items() if who == i] for i in range(len(parts))]
    gaps: list[Any] = []
    before = -1
    for number, kept in enumerate(counted):
        if not kept:
            continue
        if before >= 0:
            told = parts[number].told
            told = None if told is not None and told < 0 else told
            last = max(counted[before])
            missing = gap_by_force(parts[before], parts[number], last, told)
            if missing is not None:
                gaps.append(((str(before), str(number)), *missing))
        before = number
    assert [tuple(each) for each in traj.gaps] == gaps
    lost = [
        (str(i), min(left), max(left))
        for i, part in enumerate(parts)
        if (left := set(part.frames) - set(counted[i]))
    ]
    assert [(each.files[0], each.first, each.last) for each in traj.overlaps] == lost


@settings(max_examples=40, deadline=None)
@given(histories(), st.data())
def test_any_history_is_one_trajectory(parts: list[Part], data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        paths = write_history(parts, Path(name), data)
        owner = told_apart(parts)
        order = data.draw(st.permutations(paths))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            traj = stepson.open(order)
        assert isinstance(traj, Trajectory)
        check(traj, parts, owner, data)
        check_stream(traj, parts, owner, data)
        check_seams(traj, parts, owner)
        assert bool(said) == bool(traj.gaps or traj.overlaps)
        assert all(each.category is SeriesWarning for each in said)
        assert [each.path for each in traj.parts] == paths
        assert traj.verify(deep=True).ok


def part(
    folder: Path,
    name: str,
    steps: Sequence[int],
    parent: Trajectory | dict[str, Any] | None = None,
    *,
    seal: bool = True,
    checkpoints: bool = True,
    **options: Any,
) -> Trajectory:
    """Write a file of `frame`, and open it."""
    path = folder / f"{name}.son"
    writer = create(path, parent=parent, commit="manual", threaded=False, **options)
    for step in steps:
        writer.append(step, **frame(step))
    if steps and checkpoints:
        writer.checkpoint({"step": steps[-1], "state": np.arange(3.0) + steps[-1]})
    writer.commit()
    if seal:
        writer.close()
    else:
        writer.abandon()
    return stepson.open(path)


def joined(folder: Path, *names: str, **options: Any) -> Trajectory:
    """Open files, which must be one."""
    found = stepson.open([folder / f"{name}.son" for name in names], **options)
    assert isinstance(found, Trajectory)
    return found


def even(start: int, stop: int) -> list[int]:
    return list(range(start, stop, 2))


def names_of(parent: Trajectory, step: int) -> dict[str, Any]:
    return {"uuid": parent.uuid, "digest": parent.digest, "step": step}


def test_three_files(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 40))
    b = part(tmp_path, "b", even(40, 80), a, seal=False)
    c = part(tmp_path, "c", even(80, 100), b)
    traj = joined(tmp_path, "c", "a", "b")
    check_content(traj, even(0, 100))
    assert not traj.gaps
    assert not traj.overlaps
    assert (traj.uuid, traj.digest, traj.parent) == (c.uuid, c.digest, None)
    assert traj.size == a.size + b.size + c.size
    assert traj.torn_bytes == 0
    assert traj.sealed
    assert traj.metadata["numbers"].tolist() == [18] * 3
    assert traj.checkpoint()["step"] == 98
    assert [traj.checkpoint(step)["step"] for step in (38, 78, 98)] == [38, 78, 98]
    assert traj.checkpoint_steps == [98]
    with pytest.raises(SchemaError, match="no checkpoint of step 40"):
        traj.checkpoint(40)
    assert [len(each) for each in traj.parts] == [20, 20, 10]
    assert [len(each) for each in traj.parts[1:]] == [20, 10]
    assert "positions" in traj
    assert traj.time[-1] == 4.0 * 98


def test_print_names_what_does_not_fit(tmp_path: Path) -> None:
    first = part(tmp_path, "a", even(0, 40))
    second = part(tmp_path, "b", even(30, 60), names_of(first, 28))
    part(tmp_path, "c", even(70, 80), second)
    with pytest.warns(SeriesWarning):
        traj = joined(tmp_path, "a", "b", "c")
    picture = str(traj)
    assert picture.startswith("a to c, 3 files\n")
    assert "35 frames, steps 0 to 78, 312 fs" in picture
    assert "steps 60 to 68 missing between b and c" in picture
    assert "steps 30 to 38 of a do not count, b starts before them" in picture
    assert repr(traj) == "<stepson.Trajectory a to c, 3 files: 35 frames, sealed>"
    assert f"continues the file {first.uuid[:8]}… from step 28 on" in str(second)


def test_a_restart_from_an_earlier_state(tmp_path: Path) -> None:
    """The parent had gone on: its later frames and checkpoints do not count."""
    a = part(tmp_path, "a", even(0, 40))
    with stepson.open(tmp_path / "a.son", "a", commit="manual") as out:
        for step in even(40, 60):
            out.append(step, **frame(step))
        out.checkpoint({"step": 58})
    part(tmp_path, "b", even(40, 50), a)
    with pytest.warns(SeriesWarning, match="steps 40 to 58 of a do not count") as said:
        traj = joined(tmp_path, "a", "b")
    assert len(said) == 1
    assert traj.overlaps == (stepson.Overlap(("a", "b"), 40, 58),)
    check_content(traj, even(0, 50))
    assert traj.checkpoint()["step"] == 48
    with pytest.raises(SchemaError, match="no checkpoint of step 58"):
        traj.checkpoint(58)


def test_the_checkpoint_of_a_file_that_just_began(tmp_path: Path) -> None:
    """A child without a checkpoint of its own: the last one in front of it counts."""
    a = part(tmp_path, "a", even(0, 20))
    with stepson.open(tmp_path / "a.son", "a", commit="manual") as out:
        for start in (20, 40):
            for step in even(start, start + 20):
                out.append(step, **frame(step))
            out.checkpoint({"step": start + 19})
            out.commit()
    part(tmp_path, "empty", [], a)
    traj = joined(tmp_path, "a", "empty")
    assert traj.checkpoint()["step"] == 59
    for name, told, expected in (("b", 19, 18), ("b2", 39, 39), ("b3", 38, 18)):
        parent = {**names_of(a, told), "digest": "0" * 64}
        part(tmp_path, name, even(50, 56), parent, checkpoints=False)
        with pytest.warns(SeriesWarning):
            traj = joined(tmp_path, "a", name)
        assert traj.checkpoint()["step"] == expected
        assert traj.checkpoint_steps == [39][: expected == 39]
    part(tmp_path, "c", even(0, 4), checkpoints=False)
    part(tmp_path, "d", even(4, 8), stepson.open(tmp_path / "c.son"), checkpoints=False)
    with pytest.raises(SchemaError, match="no checkpoint in these files"):
        joined(tmp_path, "c", "d").checkpoint()


def test_a_file_may_start_with_the_state_that_it_goes_on_from(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20), checkpoints=False)
    writer = create(tmp_path / "b.son", parent=a)
    writer.checkpoint({"step": 18, "of": "b"})
    writer.append(20, **frame(20))
    writer.close()
    traj = joined(tmp_path, "a", "b")
    assert traj.checkpoint(18)["of"] == "b"
    assert traj.checkpoint()["of"] == "b"
    with pytest.raises(SchemaError, match="no checkpoint"):
        traj.checkpoint(16)


def test_checkpoints_are_those_of_the_time_of_opening(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", even(20, 40), a, seal=False)
    traj = joined(tmp_path, "a", "b")
    with stepson.open(tmp_path / "b.son", "a") as out:
        for step in even(40, 60):
            out.append(step, **frame(step))
        out.checkpoint({"step": 58})
    assert traj.checkpoint()["step"] == 38
    assert traj.checkpoint_steps == [38]
    with pytest.raises(SchemaError, match="no checkpoint of step 58"):
        traj.checkpoint(58)
    assert traj.checkpoint(38)["step"] == 38


def test_a_stream_opens_only_files_of_its_range(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    b = part(tmp_path, "b", even(20, 40), a)
    part(tmp_path, "c", even(40, 60), b)
    traj = joined(tmp_path, "a", "b", "c")
    for name in "ac":
        (tmp_path / f"{name}.son").unlink()
    streamed = list(traj.stream("energy", start=20, stop=40))
    assert [step for batch in streamed for step in batch.steps["energy"]] == even(20, 40)


def test_a_state_behind_the_last_frame_says_what_is_missing(tmp_path: Path) -> None:
    """A copy of the parent that was made too early; the child alone would not show it."""
    a = part(tmp_path, "a", even(0, 20))
    sparse = [Field("energy", "float64", (), "eV", every=10)]
    path = tmp_path / "b.son"
    parent = names_of(a, 26)
    with create(path, fields=sparse, parent=parent) as out:
        out.append(30, energy=1.0)
    with pytest.warns(SeriesWarning, match="steps 20 to 26 missing between a and b"):
        assert joined(tmp_path, "a", "b").gaps[0][1:] == (20, 26)


def test_the_parent_may_be_a_series(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", even(20, 40), a)
    part(tmp_path, "empty", [], stepson.open(tmp_path / "b.son"))
    whole = joined(tmp_path, "a", "b", "empty")
    assert whole.last_step == 38
    part(tmp_path, "c", even(40, 60), whole)
    again = joined(tmp_path, "empty", "c", "b", "a")
    check_content(again, even(0, 60))
    assert again.gaps == ()
    assert again.parts[3].parent == names_of(whole, 38)


def test_one_that_is_not_what_was_continued(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", even(20, 40), {**names_of(a, 18), "digest": "0" * 64})
    with pytest.warns(SeriesWarning, match=r"a\.son is not what .*b\.son cont") as said:
        check_content(joined(tmp_path, "a", "b"), even(0, 40))
    assert str(said[0].message).count("a.son") == 1
    with pytest.raises(FormatError, match="is not what"):
        joined(tmp_path, "a", "b", strict=True)


def test_a_commit_in_the_middle_of_the_parent_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the step that is named is the one of that commit."""
    monkeypatch.setattr("stepson.growth.FAN_OUT", 4)
    writer = create(tmp_path / "a.son", commit="manual", threaded=False)
    commits = []
    for step in even(0, 60):
        writer.append(step, **frame(step))
        writer.commit()
        commits.append((step, writer.digest))
    writer.close()
    for number, (step, digest) in enumerate(commits[::5]):
        for told in (step, step + 1):
            name = f"b{number}-{told}"
            parent = {"uuid": writer.uuid, "digest": digest, "step": told}
            part(tmp_path, name, even(step + 2, step + 6), parent)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                check_content(joined(tmp_path, "a", name), even(0, step + 6))
            assert not any("is not what" in str(each.message) for each in said)
    part(tmp_path, "c", even(22, 26), {**parent, "digest": "0" * 64, "step": 20})
    with pytest.warns(SeriesWarning, match="is not what"):
        joined(tmp_path, "a", "c")


def test_strict(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20), seal=False)
    part(tmp_path, "b", even(20, 40), a)
    joined(tmp_path, "a", "b", strict=True)
    part(tmp_path, "c", even(30, 40), a)
    with pytest.raises(FormatError, match="missing between a and c"):
        joined(tmp_path, "a", "c", strict=True)
    with (tmp_path / "a.son").open("ab") as file:
        file.write(b"torn")
    assert joined(tmp_path, "a", "b").torn_bytes == 4
    with pytest.raises(TornError):
        joined(tmp_path, "a", "b", strict=True)


def with_gauge(gauge: str | None) -> Field:
    attributes = {} if gauge is None else {"gauge": gauge}
    return Field("heat_flux", "float64", (3,), "eV Å/fs", every=2, attributes=attributes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timestep": 2.0}, r"the timestep \(fs\) 2\.0, .*a\.son has 4\.0"),
        ({"numbers": [18, 18]}, r"atoms: 2, .* has 3"),
        ({"numbers": [18, 18, 10]}, "the atoms Ar2 Ne1, .* has Ar3"),
        ({"fields": [Field("energy", "float32", (), "eV", every=2)]}, "dtype float32"),
        ({"fields": [Field("energy", "float64", (), "Ry", every=2)]}, "unit Ry"),
        ({"fields": [Field("energy", "float64", (1,), "eV", every=2)]}, "with shape"),
        ({"fields": [Field("other", "float64", (), "eV", every=2)]}, "no field in common"),
        ({"fields": [with_gauge("lattice")]}, "with gauge lattice, .* has none"),
        ({"fields": [with_gauge(None)]}, "with gauge None, .* has none"),
        ({"masses": [18.0, 18.0, 4.0]}, r"masses \(amu\) \[18.0, 18.0, 4.0\], .* has \[1"),
        ({"pbc": False}, r"pbc \[False, False, False\], .* has \[True"),
        ({"cell": np.eye(3) * 9}, r"the cell \(Å\) \[\[9.0, .* has \[\[8.0"),
        ({"cell": None}, r"the cell \(Å\) none, .* has \[\[8.0"),
        (
            {"fields": [*FIELDS, Field("cell", "float64", (3, 3), "Å", every=2)]},
            "recorded as a field, .* has ",
        ),
    ],
)
def test_what_must_agree(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """Where it does not, the files are runs of their own, and it is said."""
    known: dict[str, Any] = {"numbers": [18] * 3, "timestep": 4.0, "masses": [18.0] * 3}
    known |= {"cell": np.eye(3) * 8, "fields": [*FIELDS[:2], with_gauge("none")]}
    stepson.create(tmp_path / "a.son", **known).close()
    a = stepson.open(tmp_path / "a.son")
    given = {**known, **change}
    if len(given["numbers"]) == 2:
        given["masses"] = [18.0] * 2
    stepson.create(tmp_path / "b.son", parent=a, **given).close()
    for options in ({"join": True}, {"strict": True}):
        with pytest.raises(SchemaError, match=words) as caught:
            joined(tmp_path, "a", "b", **options)
        assert "\n" not in str(caught.value)
    with pytest.warns(SeriesWarning, match=words):
        assert len(stepson.open_many(tmp_path)) == 2
    assert len(stepson.open([tmp_path / "a.son", tmp_path / "b.son"], join=False)) == 2


def test_a_chain_that_breaks_hides_nothing(tmp_path: Path) -> None:
    """Each piece is a run; an independent run beside it is there as well."""
    (tmp_path / "x").mkdir()
    part(tmp_path / "x", "alone", even(0, 10))
    a = part(tmp_path, "a", even(0, 20))
    b = part(tmp_path, "b", even(20, 40), a)
    c = part(tmp_path, "c", even(40, 50), b, cell=np.eye(3))
    part(tmp_path, "d", even(50, 60), c, cell=np.eye(3))
    with pytest.warns(SeriesWarning, match=r"c\.son has the cell .* run of its own"):
        runs = stepson.open_many(tmp_path)
    assert {run.name: len(run.paths) for run in runs.runs} == {"a": 2, "c": 2, "x/alone": 1}


def test_the_same_atoms_in_another_order(tmp_path: Path) -> None:
    fields = [Field("energy", "float64", (), "eV")]
    with stepson.create(tmp_path / "a.son", fields=fields, numbers=[14, 8]) as out:
        out.append(0, energy=0.0)
    a = stepson.open(tmp_path / "a.son")
    stepson.create(tmp_path / "b.son", fields=fields, numbers=[8, 14], parent=a).close()
    with pytest.raises(SchemaError, match=r"number 8 at 0, .* number 14 at 0"):
        joined(tmp_path, "a", "b", join=True)


def test_fields_of_some_files_only(tmp_path: Path) -> None:
    forces = Field("forces", "float32", ("atom", 3), "eV/Å", every=10)
    with create(tmp_path / "a.son", fields=[*FIELDS, forces]) as out:
        for step in even(0, 20):
            more = {"forces": np.ones((3, 3), "f4")} if step % 10 == 0 else {}
            out.append(step, **frame(step), **more)
    a = stepson.open(tmp_path / "a.son")
    part(tmp_path, "b", even(20, 40), a)
    traj = joined(tmp_path, "a", "b")
    check_content(traj, even(0, 40))
    assert "forces" not in traj
    with pytest.raises(SchemaError, match=r"'forces' is not in all files, only in a"):
        traj["forces"]
    with pytest.raises(SchemaError, match="not in all files"):
        traj[0]["forces"]
    with pytest.raises(AttributeError, match="forces"):
        _ = traj[0].forces
    assert traj[0].fields == ("positions", "energy", "heat_flux")
    assert len(traj.parts[0]["forces"]) == 2
    assert "forces is only in a" in str(traj)


def test_what_may_differ(tmp_path: Path) -> None:
    """Cadence, precision, what recovery notes: the whole says what holds for all."""
    kinds = [(2, None, "none"), (4, 1e-3, "none"), (4, 1e-2, "none")]
    parent, expected = None, []
    for number, (every, precision, gauge) in enumerate(kinds):
        fields = [
            Field(
                "positions",
                "float32",
                ("atom", 3),
                "Å",
                every=every,
                precision=precision,
                attributes={"gauge": gauge, "every_before_recovery": number},
            )
        ]
        with create(tmp_path / f"{number}.son", fields=fields, parent=parent) as out:
            for step in range(20 * number, 20 * number + 20, every):
                out.append(step, positions=np.full((3, 3), step, "f4"))
                expected.append(step)
        parent = stepson.open(tmp_path / f"{number}.son")
    traj = joined(tmp_path, "0", "1", "2")
    field = traj.fields["positions"]
    assert (field.every, field.precision) == (None, 1e-2)
    assert dict(field.attributes) == {"gauge": "none"}
    assert traj["positions"].steps[:].tolist() == expected
    assert abs(traj["positions"][:, 0, 0] - expected).max() < 1e-2
    later = joined(tmp_path, "1", "2")
    assert later.fields["positions"].every == 4


def test_more_cadences_than_one_file_may_have(tmp_path: Path) -> None:
    parent = None
    for number, every in enumerate((1, 3)):
        fields = [Field(f"f{i}", "float64", (), "", every=every) for i in range(12)]
        with create(tmp_path / f"{number}.son", fields=fields, parent=parent) as out:
            for step in range(9 * number, 9 * number + 9, every):
                out.append(step, **{each.name: float(step) for each in fields})
        parent = stepson.open(tmp_path / f"{number}.son")
    traj = joined(tmp_path, "0", "1")
    assert traj["f11"][:].tolist() == [*map(float, range(9)), 9.0, 12.0, 15.0]


def test_join_of_files_that_name_no_parent(tmp_path: Path) -> None:
    for name, steps in (("b", even(20, 40)), ("a", even(0, 20)), ("c", even(50, 60))):
        part(tmp_path, name, steps)
    paths = [tmp_path / f"{name}.son" for name in "cba"]
    apart = stepson.open(paths)
    assert isinstance(apart, stepson.Ensemble)
    with pytest.warns(SeriesWarning, match="steps 40 to 48 missing between b and c"):
        check_content(stepson.open(paths, join=True), [*even(0, 40), *even(50, 60)])
    part(tmp_path, "d", even(18, 30))
    with pytest.raises(SchemaError, match=r"d\.son starts at step 18, .*a\.son ends at"):
        stepson.open([tmp_path / "a.son", tmp_path / "d.son"], join=True)


def test_join_of_chains(tmp_path: Path) -> None:
    """Files that name a parent that is there, one whose parent is lost, one without any."""
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", even(20, 40), a)
    lost = part(tmp_path, "lost", even(40, 60))
    part(tmp_path, "c", even(60, 80), lost)
    part(tmp_path, "empty", [])
    (tmp_path / "lost.son").unlink()
    with pytest.warns(SeriesWarning, match="steps 40 to 58 missing between b and c"):
        traj = stepson.open(tmp_path, join=True)
    check_content(traj, [*even(0, 40), *even(60, 80)])
    assert [each.path for each in traj.parts] == [
        tmp_path / f"{name}.son" for name in ("a", "b", "c", "empty")
    ]
    assert traj.checkpoint()["step"] == 78


@st.composite
def families(draw: st.DrawFn) -> list[Member]:
    """Files that name any others as their parents."""
    count = draw(st.integers(1, 8))
    ids = [bytes([i]) * 16 for i in range(count)]
    schema = Schema(FIELDS, 3)
    found = []
    for i in range(count):
        uuid = draw(st.none() | st.sampled_from([*ids, b"x" * 16]))
        parent = None if uuid is None else {"uuid": uuid.hex()}
        first = draw(st.none() | st.integers(0, 5))
        found.append(
            Member(
                where=Path(f"{i}.son"),
                label=str(i),
                header=Header(ids[i], "", "", parent=parent),
                digest="",
                schema=schema,
                frames=0 if first is None else 2,
                samples=(0, 0),
                first=first,
                last=None if first is None else first + 1,
                numbers=None,
                timestep=None,
                totals=Totals.none(3),
                size=0,
                sealed=True,
                torn_bytes=0,
                valid_until=0,
            )
        )
    return found


@given(families(), st.randoms())
def test_any_family_falls_into_chains(family: list[Member], random: Any) -> None:
    known = {each.uuid: each for each in family}
    circle = False
    for each in family:
        seen, at = set(), each
        while at.parent in known and not circle:
            circle = at.uuid in seen
            seen.add(at.uuid)
            at = known[at.parent]
    if circle:
        with pytest.raises(SchemaError, match="continues itself"):
            sort_chains(family, None)
        return
    chains, notes = sort_chains(family, None)
    assert sorted(each.label for chain in chains for each in chain) == sorted(
        each.label for each in family
    )
    for chain in chains:
        firsts = [each.first for each in chain if each.first is not None]
        assert firsts == sorted(set(firsts))
        for before, behind in pairwise(chain):
            assert behind.parent == before.uuid
    heads = {chain[0].uuid for chain in chains}
    apart = [each for each in family if each.parent in known and each.uuid in heads]
    assert notes or not any(each.frames for each in apart)
    again, _ = sort_chains(random.sample(family, len(family)), None)
    first, second = (
        {tuple(e.label for e in c) for c in found} for found in (chains, again)
    )
    assert first == second


def test_replicas_are_never_joined(tmp_path: Path) -> None:
    for name in "ab":
        part(tmp_path, name, even(0, 20))
    assert len(stepson.open_many(tmp_path)) == 2
    with pytest.raises(SchemaError, match="no single trajectory"):
        stepson.open(tmp_path, join=True)


def test_a_fork(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    for name, stop in (("b", 40), ("c", 60)):
        part(tmp_path, name, even(20, stop), a)
    with pytest.warns(SeriesWarning, match=r"a\.son is continued by 2 files \(.*b\.son, "):
        runs = stepson.open_many(tmp_path)
    assert [len(each) for each in runs] == [10, 10, 20]
    check_content(joined(tmp_path, "c", "a"), even(0, 60))
    with pytest.raises(SchemaError, match=r"no single trajectory: .* is continued by"):
        stepson.open(tmp_path, join=True)


def test_a_branch_without_frames_is_no_fork(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", [], a)
    c = part(tmp_path, "c", [], a)
    runs = stepson.open_many(tmp_path)
    assert [len(each) for each in runs] == [10, 0, 0]
    part(tmp_path, "d", even(20, 40), c)
    runs = stepson.open_many(tmp_path)
    assert [len(each) for each in runs] == [20, 0]
    part(tmp_path, "e", even(20, 30), a)
    with pytest.warns(SeriesWarning, match=r"a\.son is continued by 2 files"):
        assert len(stepson.open_many(tmp_path)) == 4


def test_a_stage_that_counts_anew_is_a_run(tmp_path: Path) -> None:
    warm = part(tmp_path, "warm", even(0, 40))
    part(tmp_path, "empty", [], warm)
    part(tmp_path, "production", even(0, 60), stepson.open(tmp_path / "empty.son"))
    with pytest.warns(SeriesWarning, match="which it names as its parent"):
        runs = stepson.open_many(tmp_path)
    assert {run.name: run.frames for run in runs.runs} == {"production": 30, "warm": 20}
    with pytest.raises(SchemaError, match="no single trajectory"):
        stepson.open(tmp_path, join=True)


@pytest.mark.parametrize("between", [False, True])
def test_a_stage_with_an_offset_swallows_no_parent(tmp_path: Path, between: bool) -> None:
    """It starts at 0 from the end of another one; its first frame is due at 5."""
    warm = part(tmp_path, "warm", even(0, 102))
    if between:
        warm = part(tmp_path, "empty", [], warm)
    parent = names_of(warm, 100) if not between else warm
    late = [Field("energy", "float64", (), "eV", every=10, offset=5)]
    with create(tmp_path / "run.son", fields=late, parent=parent) as out:
        for step in range(5, 50, 10):
            out.append(step, energy=1.0)
    words = r"run\.son starts at step 5, no later than step 100 of .*warm\.son"
    with pytest.warns(SeriesWarning, match=words):
        runs = stepson.open_many(tmp_path)
    assert {run.name: run.frames for run in runs.runs} == {"run": 5, "warm": 51}
    with pytest.raises(SchemaError, match="no single trajectory"):
        stepson.open(tmp_path, join=True)


def test_a_restart_in_front_of_the_end_goes_on(tmp_path: Path) -> None:
    """From step 50, with the parent up to 100: an overlap."""
    a = part(tmp_path, "a", even(0, 102))
    part(tmp_path, "b", even(52, 120), names_of(a, 50))
    with pytest.warns(SeriesWarning, match="do not count"):
        check_content(joined(tmp_path, "a", "b"), even(0, 120))


def test_a_file_that_starts_at_the_step_that_it_goes_on_from_is_a_run(
    tmp_path: Path,
) -> None:
    """That step counts already: what goes on from a state has later frames."""
    a = part(tmp_path, "a", even(0, 102))
    part(tmp_path, "b", even(50, 120), names_of(a, 50), checkpoints=False)
    with pytest.warns(SeriesWarning, match="starts at step 50, no later than step 50"):
        assert len(stepson.open_many(tmp_path)) == 2


def test_a_parent_that_is_not_there(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    b = part(tmp_path, "b", even(20, 40), a)
    part(tmp_path, "c", even(40, 60), b)
    traj = joined(tmp_path, "c", "b")
    check_content(traj, even(20, 60))
    assert traj.parent == names_of(a, 18)
    assert f"continues the file {a.uuid[:8]}… from step 18 on" in str(traj)
    runs = stepson.open([tmp_path / "a.son", tmp_path / "c.son"])
    assert isinstance(runs, stepson.Ensemble)


def test_the_same_file_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.son"
    part(tmp_path, "a", even(0, 20))
    with pytest.raises(SchemaError, match=r"a\.son is given twice"):
        stepson.open([path, path])
    shutil.copy(path, tmp_path / "b.son")
    with pytest.raises(SchemaError, match=r"a\.son and .*b\.son are the same file"):
        stepson.open([path, tmp_path / "b.son"])


def test_a_backup_copy_is_left_out(tmp_path: Path) -> None:
    """The file that was named stays, or the one that goes furthest."""
    (tmp_path / "backup").mkdir()
    a = part(tmp_path, "a", even(0, 20), seal=False)
    path, copy = tmp_path / "a.son", tmp_path / "backup" / "a.son"
    shutil.copy(path, copy)
    part(tmp_path, "b", even(20, 40), a)
    with pytest.warns(SeriesWarning, match=r"left out: .*backup/a\.son, the same file as "):
        check_content(stepson.open(tmp_path), even(0, 40))
    with pytest.warns(SeriesWarning, match=r"left out: .*backup/a\.son, the same file as "):
        check_content(stepson.open(str(tmp_path / "**" / "*.son"), join=True), even(0, 40))
    with pytest.warns(SeriesWarning, match=r"a\.son, the same file as .*backup/a\.son"):
        found = stepson.open_many([tmp_path, copy])
    assert found.runs[0].paths == (copy, tmp_path / "b.son")
    assert len(stepson.open_many([tmp_path / "*.son", path])) == 1
    with stepson.open(copy, "a") as out:
        out.append(20, **frame(20))
    with pytest.warns(SeriesWarning) as said:
        runs = stepson.open_many(tmp_path, join=False)
    assert [run.paths[0] for run in runs.runs] == [tmp_path / "b.son", copy]
    assert len(said) == 1
    with pytest.raises(FormatError, match="the same file as"):
        stepson.open(tmp_path, strict=True)


def test_a_circle(tmp_path: Path) -> None:
    """Only made-up headers can do it."""
    from stepson.writing import start
    from tests.stepson.files import Memory

    for name, uuid, parent in (("a", b"1" * 16, b"2" * 16), ("b", b"2" * 16, b"1" * 16)):
        sink = Memory()
        header = Header(uuid, "", "", parent={"uuid": parent.hex(), "step": 3})
        start(sink, tmp_path / name, header, Schema(FIELDS, 3), {}).close()
        (tmp_path / f"{name}.son").write_bytes(sink.data)
    with pytest.raises(SchemaError, match="continues itself, through 2 files"):
        stepson.open(tmp_path)


@pytest.mark.parametrize(
    "parent",
    [{}, {"uuid": 3}, {"uuid": ["a"]}, {"uuid": b"1" * 16, "step": "x", "digest": 4}],
)
def test_a_parent_that_means_nothing_hides_nothing(tmp_path: Path, parent: Any) -> None:
    from stepson.writing import start
    from tests.stepson.files import Memory

    sink = Memory()
    header = Header(b"2" * 16, "", "", parent=parent)
    start(sink, tmp_path / "a", header, Schema(FIELDS, 3), {"numbers": 7}).close()
    (tmp_path / "a.son").write_bytes(sink.data)
    part(tmp_path, "b", even(0, 4))
    assert [len(each) for each in stepson.open_many(tmp_path)] == [0, 2]


@pytest.mark.parametrize(
    "parent",
    [
        {"uuid": "ab"},
        {"uuid": "0" * 32, "digest": "0" * 64},
        {"uuid": "0" * 32, "digest": "0" * 64, "step": 1.5},
        {"uuid": "g" * 32, "digest": "0" * 64, "step": 1},
        {"uuid": "0" * 32, "digest": "0" * 63, "step": 1},
        {"uuid": "0" * 32, "digest": "0" * 64, "step": 1, "more": 1},
        "a.son",
    ],
)
def test_a_parent_that_means_nothing_is_not_written(tmp_path: Path, parent: Any) -> None:
    with pytest.raises(SchemaError, match="parent is a trajectory, or a dict"):
        create(tmp_path / "a.son", parent=parent)
    assert list(tmp_path.iterdir()) == []


def test_verify_names_the_file(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", even(20, 40), a)
    data = (tmp_path / "b.son").read_bytes()
    traj = joined(tmp_path, "a", "b")
    seen: list[tuple[int, int]] = []
    result = traj.verify(on_progress=lambda done, total: seen.append((done, total)))
    assert result.ok
    assert result.frames == 20
    assert seen[-1][0] <= seen[-1][1] == traj.size
    assert seen == sorted(seen)
    place = stepson.open(tmp_path / "b.son").reader.unit_of_frame(0).offset + 40
    (tmp_path / "b.son").write_bytes(flipped(data, place))
    result = traj.verify()
    assert not result.ok
    assert all(str(each).startswith(f"{tmp_path}/b.son: ") for each in result.damages)


def test_a_file_that_grows_or_is_replaced(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", even(20, 40), a, seal=False)
    traj = joined(tmp_path, "a", "b")
    with stepson.open(tmp_path / "b.son", "a") as out:
        for step in even(40, 60):
            out.append(step, **frame(step))
    check_content(traj, even(0, 40))
    check_content(joined(tmp_path, "a", "b"), even(0, 60))
    runs = stepson.open_many(tmp_path)
    (tmp_path / "b.son").unlink()
    part(tmp_path, "b", even(20, 40), a)
    with pytest.raises(FormatError, match=r"b\.son was replaced by another file"):
        runs[0]["energy"][:]
    with pytest.raises(FormatError, match=r"b\.son was replaced by another file"):
        traj.parts[1]


def test_a_file_that_lost_its_end(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    b = part(tmp_path, "b", even(20, 40), a, seal=False)
    traj = joined(tmp_path, "a", "b")
    path = tmp_path / "b.son"
    path.write_bytes(path.read_bytes()[: b.opened.tail.commit.start])
    for read in (lambda: traj["energy"][:], lambda: traj.parts[1]):
        with pytest.raises(FormatError, match=r"b\.son has fewer frames than when"):
            read()


def test_damaged_metadata_hides_no_frames(tmp_path: Path) -> None:
    a = part(tmp_path, "a", even(0, 20))
    part(tmp_path, "b", even(20, 40), a)
    path = tmp_path / "b.son"
    place = stepson.open(path).opened.tail.commit.metadata + 40
    path.write_bytes(flipped(path.read_bytes(), place))
    traj = joined(tmp_path, "a", "b")
    assert traj["energy"][:].tolist() == [float(step) for step in even(0, 40)]


def foreign(numbers: Any, codec: str = "raw", uuid: bytes = b"a" * 16) -> Any:
    """A file of another program, its last COMMIT not written yet."""

    class Foreign(GENERATED):  # type: ignore[misc]
        @staticmethod
        def tree_codec(values: Any) -> Any:
            return codec, {}, values.tobytes(), values

    file = Foreign.created(
        FIELD_MAP("energy"), metadata={"numbers": np.array(numbers)}, uuid=uuid
    )
    file.block({"energy": (np.arange(6), np.arange(6.0))})
    return file


@pytest.mark.parametrize(
    ("numbers", "codec"),
    [([18, 18], "x-later"), ([1.5, 2.5], "raw"), ([[18], [18]], "raw")],
)
def test_metadata_of_others_hide_no_frames(
    tmp_path: Path, numbers: Any, codec: str
) -> None:
    """A codec of a later version; numbers that are none."""
    for name, uuid in (("a", b"a" * 16), ("b", b"b" * 16)):
        file = foreign(numbers, codec, uuid)
        file.commit()
        (tmp_path / f"{name}.son").write_bytes(file.data)
    runs = stepson.open_many(tmp_path)
    assert [len(run) for run in runs] == [6, 6]
    assert "2 runs, 12 frames" in str(runs)


def test_a_parent_whose_last_commit_lies(tmp_path: Path) -> None:
    """It says that steps were recorded to which its index does not lead."""
    a = foreign([14, 8])
    a.commit(lies={"end": 100})
    (tmp_path / "a.son").write_bytes(a.data)
    parent = {"uuid": (b"a" * 16).hex(), "digest": "0" * 64, "step": 50}
    b = GENERATED.created(FIELD_MAP("energy"), header={"parent": parent})
    b.block({"energy": (np.arange(51, 57), np.arange(6.0))})
    b.commit()
    (tmp_path / "b.son").write_bytes(b.data)
    with pytest.raises(FormatError, match=r"a\.son: the index ends before the last step"):
        stepson.open([tmp_path / "a.son", tmp_path / "b.son"])


COUNTED = """
import os, resource, sys, time
import stepson
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
names = [f"{sys.argv[1]}/{i:04d}.son" for i in range(int(sys.argv[2]))]
runs = stepson.open(names, join=eval(sys.argv[3]))
total = sum(len(run) for run in runs) if sys.argv[3] == "None" else len(runs)
sums = [run["energy"][-1] for run in runs] if sys.argv[3] == "None" else runs["energy"][:]
assert len(os.listdir("/proc/self/fd")) < 32
print(total, len(sums))
"""


@pytest.mark.parametrize("join", ["None", "True"])
def test_many_files_take_few_descriptors(tmp_path: Path, join: str) -> None:
    """More files than this process may have open at once."""
    files = 120
    for number in range(files):
        path = tmp_path / f"{number:04d}.son"
        with create(path, threaded=False, verify=False) as out:
            out.append(2 * number, **frame(2 * number))
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        COUNTED,
        str(tmp_path),
        str(files),
        join,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{files} {files}\n", "")


def test_threads_share_a_series(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    parent: Trajectory | None = None
    for number in range(6):
        start = 20 * number
        parent = part(tmp_path, f"{number}", even(start, start + 20), parent)
    traj = joined(tmp_path, *map(str, range(6)))
    expected = [float(step) for step in even(0, 120)]

    def work(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(60)
        return all(traj["energy"][int(i)] == expected[i] for i in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
    assert traj["energy"][:].tolist() == expected


def test_every_refusal_is_one_line(tmp_path: Path) -> None:
    part(tmp_path, "a", even(0, 20))
    refused: list[tuple[Any, dict[str, Any]]] = [
        ([], {}),
        ([tmp_path / "a.son"] * 2, {}),
        ([tmp_path / "a.son", 3], {}),
        (3, {}),
        (b"a.son", {}),
        ("", {}),
        ([tmp_path / "a.son", tmp_path / "none.son"], {}),
        (tmp_path / "*.none", {}),
        ([tmp_path / "a.son"], {"mode": "a"}),
        ([tmp_path / "a.son"], {"follow": True}),
        (tmp_path, {"follow": True}),
        (tmp_path, {"mode": "a"}),
        (tmp_path, {"timeout": 3}),
        (tmp_path, {"mode": "w"}),
        ([tmp_path / "a.son"], {"commit": "auto"}),
    ]
    for name, options in refused:
        with pytest.raises(StepsonError) as caught:
            stepson.open(name, **options)
        assert "\n" not in str(caught.value)
