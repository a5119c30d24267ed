"""Independent runs opened together: names, order, what is left out, what is the same."""

import gc
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepson
from stepson import (
    Ensemble,
    FormatError,
    RemoteError,
    SchemaError,
    SeriesWarning,
    Trajectory,
)
from stepson.series.names import labels
from tests.stepson.files import create, frame, steps_of, write


def run_folder(folder: Path) -> None:
    """What ``stepson run`` leaves: a stage, and replicas of the next one."""
    for name, blocks in (
        ("thermalise", [range(20)]),
        ("production/00", [range(40)]),
        ("production/01", [range(30), range(30, 60)]),
        ("production/10", [range(10)]),
    ):
        (folder / name).mkdir(parents=True)
        write(folder / name / "md.son", blocks)
        (folder / name / "md.txt").write_text("other files do not matter")


def test_the_folder_of_a_run(tmp_path: Path) -> None:
    run_folder(tmp_path)
    runs = stepson.open_many(tmp_path)
    found: Any = stepson.open(tmp_path)
    assert isinstance(found, Ensemble)
    assert found.names == runs.names
    assert runs.names == ("production/00", "production/01", "production/10", "thermalise")
    assert len(runs) == 4
    assert runs["production/01"].steps[:].tolist() == steps_of([range(60)])
    assert [len(each) for each in runs] == [20, 30, 5, 10]
    assert [len(each) for _, each in runs.items()] == [20, 30, 5, 10]
    assert runs[-1].path == tmp_path / "thermalise" / "md.son"
    assert runs[1:3].names == ("production/01", "production/10")
    known: Any = runs
    assert "thermalise" in known
    assert "production" not in known
    with pytest.raises(SchemaError, match="no run 'production' in this ensemble; it has"):
        runs["production"]
    with pytest.raises(IndexError, match="run 4 of 4"):
        runs[4]


def test_print(tmp_path: Path) -> None:
    run_folder(tmp_path)
    with (tmp_path / "production" / "00" / "md.son").open("ab") as file:
        file.write(b"torn")
    lines = str(stepson.open_many(tmp_path)).splitlines()
    assert lines[0].startswith("4 runs, 65 frames, ")
    assert lines[2].split() == ["run", "atoms", "frames", "steps", "time", "size", "state"]
    assert lines[3].split()[:7] == ["production/00", "Ar3", "20", "0", "to", "38", "152"]
    assert lines[3].endswith("open, 4 bytes uncommitted")
    assert lines[4].endswith("sealed")
    runs = stepson.open_many(tmp_path)
    assert repr(runs) == f"<stepson.Ensemble: 4 runs, {', '.join(runs.names)}>"


def test_one_file_is_a_trajectory_however_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "md.son"
    path.parent.mkdir()
    write(path, [range(20)])
    for name in (path, str(path), tmp_path, str(tmp_path / "*" / "md.son"), [path]):
        found = stepson.open(name)
        assert isinstance(found, Trajectory)
        assert found.path == path
        assert isinstance(stepson.open_many(name), Ensemble)
        assert isinstance(stepson.open(name, join=False), Ensemble)
        assert isinstance(stepson.open(name, join=True), Trajectory)
    assert stepson.open_many(tmp_path).names == ("runs",)
    assert stepson.open_many(path).names == ("md",)


def test_a_chain_among_independent_runs(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "md.son", [range(20)])
    with stepson.open(tmp_path / "b" / "md.son") as parent:
        more = create(tmp_path / "b" / "more.son", parent=parent)
    for step in range(24, 40, 2):
        more.append(step, **frame(step))
    more.close()
    with pytest.warns(SeriesWarning, match="steps 20 to 22 missing"):
        runs = stepson.open_many(tmp_path)
    assert runs.names == ("a/md", "b/md", "c/md")
    assert [len(each) for each in runs] == [10, 18, 10]
    assert runs["b/md"].gaps == (stepson.Gap(("b/md", "b/more"), 20, 22),)
    assert "b/md: steps 20 to 22 missing between b/md and b/more" in str(runs)
    assert [Path(run.paths[-1]).name for run in runs.runs] == [
        "md.son",
        "more.son",
        "md.son",
    ]
    assert len(stepson.open(tmp_path, join=False)) == 4


def test_the_order_is_the_one_given(tmp_path: Path) -> None:
    run_folder(tmp_path)
    pattern = str(tmp_path / "production" / "*")
    runs = stepson.open_many([tmp_path / "thermalise", pattern])
    assert runs.names == ("thermalise", "production/00", "production/01", "production/10")
    runs = stepson.open_many(str(tmp_path / "**" / "1?" / "*.son"))
    assert runs.names == ("md",)


def test_signs_of_a_glob_in_a_name(tmp_path: Path) -> None:
    for name in ("a[1].son", "a1.son", "b*.son"):
        write(tmp_path / name, [range(20)])
    assert stepson.open(tmp_path / "a[1].son").path == tmp_path / "a[1].son"
    assert stepson.open(str(tmp_path / "b*.son")).path == tmp_path / "b*.son"
    assert stepson.open(str(tmp_path / "?1.son")).path == tmp_path / "a1.son"
    with stepson.open(tmp_path / "b*.son", "a") as out:
        out.append(20, **frame(20))
    assert len(stepson.open(tmp_path / "b*.son")) == 11


def test_what_is_hidden_is_not_looked_at(tmp_path: Path) -> None:
    run_folder(tmp_path)
    hidden = tmp_path / ".snapshots" / "md.son"
    hidden.parent.mkdir()
    os.link(tmp_path / "thermalise" / "md.son", hidden)
    os.link(hidden, tmp_path / ".md.son")
    assert len(stepson.open_many(tmp_path)) == 4
    assert stepson.open(hidden).path == hidden


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, words in (
        (tmp_path / "empty", "is a folder without any .son file"),
        (tmp_path / "*.son", "no such file, and nothing matches it as a glob"),
        (tmp_path / "none.son", "there is no such file"),
        ([tmp_path / "empty"], "is a folder without any .son file"),
    ):
        for opening in (stepson.open, stepson.open_many):
            with pytest.raises(FormatError, match=words) as caught:
                opening(name)
            assert str(tmp_path) in str(caught.value)
            assert "\n" not in str(caught.value)


def test_what_is_no_trajectory_is_left_out_and_said(tmp_path: Path) -> None:
    """In a folder and a glob; a file that was named must be one."""
    run_folder(tmp_path)
    text = tmp_path / "trajectory.son"
    text.write_text('{"MD": {}}\n===\n')
    (tmp_path / "folder.son").mkdir()
    for name in (tmp_path, str(tmp_path / "**" / "*.son")):
        with pytest.warns(SeriesWarning, match=r"left out: .*trajectory\.son: this is the"):
            runs = stepson.open_many(name)
        assert len(runs) == 4
        with pytest.raises(FormatError, match=r"left out: .*trajectory\.son"):
            stepson.open_many(name, strict=True)
    with pytest.raises(FormatError, match=r"trajectory\.son: this is the text format"):
        stepson.open([tmp_path / "thermalise", text])
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.son").write_bytes(b"")
    with pytest.raises(FormatError, match=r"a\.son: the file is empty"):
        stepson.open(only)


def test_common(tmp_path: Path) -> None:
    for name, metadata in (
        ("a", {"seed": 1, "stage": {"name": "x", "list": [1, 2]}, "only": 1}),
        ("b", {"seed": 2, "stage": {"name": "x", "list": [1, 2]}}),
        ("c", {"seed": 3, "stage": {"name": "x", "list": [1, 2]}, "only": 1}),
    ):
        create(tmp_path / f"{name}.son", metadata=metadata).close()
    runs = stepson.open_many(tmp_path)
    found = runs.common
    assert set(found) == {"numbers", "masses", "cell", "pbc", "timestep", "stage"}
    assert found["stage"]["name"] == "x"
    assert found["numbers"].tolist() == [18] * 3
    create(tmp_path / "d.son", metadata={"stage": {"name": "x", "list": [1, 3]}}).close()
    assert "stage" not in stepson.open_many(tmp_path).common
    assert "masses" in stepson.open_many(tmp_path).common


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_runs_are_open_while_somebody_holds_them(tmp_path: Path) -> None:
    run_folder(tmp_path)
    gc.collect()
    before = descriptors()
    runs = stepson.open_many(tmp_path)
    assert descriptors() == before
    first = runs[0]
    assert runs[0] is first
    assert descriptors() == before + 1
    for each in runs:
        assert len(each) > 0
    del each, first
    assert descriptors() == before
    with runs:
        kept = list(runs)
        assert descriptors() == before + 4
    assert descriptors() == before
    assert len(kept) == 4


def test_a_run_that_grows_is_seen_as_it_is_when_asked_for(tmp_path: Path) -> None:
    run_folder(tmp_path)
    runs = stepson.open_many(tmp_path)
    with stepson.open(tmp_path / "thermalise" / "md.son", "a") as out:
        out.append(20, **frame(20))
    assert len(runs["thermalise"]) == 11
    assert runs.runs[3].frames == 10


def test_warnings_point_to_the_caller(tmp_path: Path) -> None:
    write(tmp_path / "a.son", [range(20)])
    (tmp_path / "b.son").write_bytes(b"")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stepson.open(tmp_path)
        stepson.open_many(tmp_path)
    assert [each.filename for each in said] == [__file__] * 2


@pytest.mark.parametrize(
    ("names", "root", "expected"),
    [
        (["x/a.son", "x/b.son"], None, ["a", "b"]),
        (["x/1/md.son", "x/2/md.son"], None, ["1", "2"]),
        (["x/1/md.son", "x/md.son"], None, ["1/md", "md"]),
        (["x/p/00/md.son", "x/p/01/md.son"], "x", ["p/00", "p/01"]),
        (["a/md.son", "b/other.son"], None, ["a/md", "b/other"]),
        (["x/a", "x/a.son"], None, ["x/a", "x/a.son"]),
        (["s3://b/1/md.son", "s3://b/2/md.son"], None, ["1", "2"]),
        (["s3://b/1/md.son", "/c/2/md.son"], None, ["s3:///b/1", "//c/2"]),
        (["/x/md.son"], None, ["md"]),
    ],
)
def test_labels(names: list[str], root: str | None, expected: list[str]) -> None:
    found = labels([n if "://" in n else Path(n) for n in names], root)
    if "s3:///b/1" not in expected:
        assert found == expected
    assert len(set(found)) == len(names)


def test_urls(tmp_path: Path) -> None:
    write(tmp_path / "a.son", [range(20)])
    with stepson.open(tmp_path / "a.son") as parent:
        more = create(tmp_path / "b.son", parent=parent)
    for step in range(20, 30, 2):
        more.append(step, **frame(step))
    more.close()
    names = [f"file://{tmp_path}/{name}.son" for name in "ba"]
    traj = stepson.open(names)
    assert isinstance(traj, Trajectory)
    assert traj["energy"][:].tolist() == [float(step) for step in range(0, 30, 2)]
    assert np.array_equal(
        stepson.open([*names[:1], tmp_path / "a.son"], join=True).steps, traj.steps
    )


def test_a_glob_of_urls(tmp_path: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    files = MemoryFileSystem()
    for i in range(3):
        path = tmp_path / f"{i}.son"
        write(path, [range(10)])
        files.pipe(f"/globbed/{i}/md.son", path.read_bytes())
    found = stepson.open_many("memory://globbed/*/md.son")
    assert found.names == ("0", "1", "2")
    assert [len(run) for run in found] == [5, 5, 5]
    with pytest.raises(FormatError, match="nothing matches"):
        stepson.open("memory://globbed/*/other.son")
    with pytest.raises(RemoteError, match="cannot be listed"):
        stepson.open("nonsense://*.son")
