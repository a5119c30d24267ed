"""`stepson info` of several files: one line a run, and what does not fit between files."""

import json
from pathlib import Path

import pytest

import stepson
from stepson_cli.main import main
from tests.stepson.files import create, frame, write


def shown(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    """Expect success and silence on stderr; the lines on stdout."""
    assert main(["info", *map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.rstrip() for line in out.splitlines()]


def replicas(folder: Path) -> None:
    for name, blocks in (("thermalise", [range(20)]), ("production/00", [range(2000)])):
        (folder / name).mkdir(parents=True)
        write(folder / name / "md.son", blocks)


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replicas(tmp_path)
    lines = shown(capsys, tmp_path)
    assert lines[0].startswith("2 runs, 1 010 frames, ")
    assert lines[2].split() == ["run", "atoms", "frames", "steps", "time", "size", "state"]
    assert lines[3].startswith("production/00 Ar3    1 000 0 to 1 998 7.99 ps ")
    assert lines[3].endswith(" sealed")
    assert lines[4].startswith("thermalise    Ar3       10    0 to 18   72 fs ")
    assert len(lines) == 5
    turned = shown(capsys, tmp_path / "thermalise/md.son", tmp_path / "production")
    assert turned == [*lines[:3], lines[4], lines[3]]


def test_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    replicas(tmp_path)
    assert max(map(len, shown(capsys, tmp_path))) <= 80


def test_one_file_in_a_folder_is_shown_as_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a" / "md.son"
    path.parent.mkdir()
    write(path, [range(20)])
    alone = shown(capsys, path)
    assert alone[0] == str(path)
    assert shown(capsys, tmp_path) == alone
    assert shown(capsys, tmp_path / "*" / "*.son") == alone


def test_a_chain_with_a_gap_and_a_file_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.son", [range(20)])
    with stepson.open(tmp_path / "a.son") as parent:
        writer = create(tmp_path / "b.son", parent=parent)
    writer.append(30, **frame(30))
    writer.commit()
    (tmp_path / "c.son").write_bytes(b"")
    lines = shown(capsys, tmp_path)
    assert lines[3].endswith("not sealed, 2 files")
    text = " ".join(lines)
    assert "c.son: the file is empty" in text
    assert "steps 20 to 28 missing between a and b" in text
    main(["info", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert len(found["remarks"]) == 2
    (run,) = found["runs"]
    assert run["files"] == [str(tmp_path / "a.son"), str(tmp_path / "b.son")]
    assert (run["frames"], run["steps"], run["time"]) == (11, [0, 30], [0.0, 120.0])
    assert (run["name"], run["formula"], run["state"]) == ("a", "Ar3", "not sealed")
    writer.close()


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replicas(tmp_path)
    path = tmp_path / "thermalise" / "md.son"
    for words, line in (
        (["info", path, path], "is given twice"),
        (["info", tmp_path / "nor.son", tmp_path / "none.son"], "no such file"),
        (["info", tmp_path / "*.none"], "nothing matches"),
        (["verify", tmp_path], "give one file at a time"),
        (["verify", tmp_path / "*" / "*.son"], "give one file at a time"),
    ):
        assert main([*map(str, words)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert line in err
        assert err.count("\n") == 1
