"""`stepson info` on real files: sealed, unsealed, torn, being written, empty, not ours."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.theme import Theme

import stepson
from stepson_cli.facts import facts
from stepson_cli.main import main
from stepson_cli.terminal import PALETTE
from stepson_cli.views.file import picture

FIELDS = (
    stepson.Field("positions", "float32", ("atom", 3), "Å", every=10, precision=1e-4),
    stepson.Field("energy", "float64", (), "eV"),
)
TRICLINIC = [[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, 0.5, 6.0]]


def write(path: Path, frames: int = 21, **options: object) -> stepson.Writer:
    """Write so many frames, a checkpoint and a commit; leave the writer open."""
    rng = np.random.default_rng(0)
    given = {"numbers": [40, 8, 8], "cell": np.eye(3) * 5.1, "timestep": 4.0, **options}
    out = stepson.create(path, fields=FIELDS, **given)  # type: ignore[arg-type]
    for step in range(frames):
        due = {"positions": rng.normal(size=(3, 3))} if step % 10 == 0 else {}
        out.append(step=step, energy=float(step), **due)
    if frames:
        out.checkpoint({"step": frames - 1, "seed": 1})
    out.commit()
    return out


def sealed(path: Path, frames: int = 21, **options: object) -> Path:
    """Write a file and close it."""
    write(path, frames, **options).close()
    return path


def drawn(path: Path, width: int = 80) -> str:
    stream = io.StringIO()
    with stepson.open(path) as trajectory:
        view = picture(facts(trajectory))
    Console(file=stream, width=width, theme=Theme(dict(PALETTE))).print(view)
    return stream.getvalue()


def test_the_picture_of_a_sealed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line.rstrip() for line in drawn(sealed(Path("md.son"))).splitlines()]
    assert lines[0] == "md.son"
    assert lines[1].startswith("sealed, ")
    assert lines[1].endswith(" kB, 21 frames, steps 0 to 20, 80 fs")
    assert lines[3] == "O2 Zr1  3 atoms, cube of 5.100 Å, periodic"
    assert lines[5].split() == [
        "field",
        "unit",
        "shape",
        "type",
        "every",
        "samples",
        "codec",
        "ratio",
        "size",
    ]
    assert lines[6].split()[:8] == [
        "positions",
        "Å",
        "n",
        "x",
        "3",
        "float32",
        "10",
        "3",
    ]
    assert "±0.0001" in lines[6]
    assert lines[7].split()[:6] == ["energy", "eV", "1", "float64", "1", "21"]
    assert lines[-1].split() == ["checkpoint", "step", "20"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_fits(width: int, tmp_path: Path) -> None:
    text = drawn(sealed(tmp_path / "md.son", metadata=METADATA), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text.replace("abababab…abababab", "")  # nothing is cut


METADATA = {
    "ensemble": "nve",
    "stage": {"name": "production", "index": 1, "steps": 20},
    "replica": 3,
    "replicas": 11,
    "temperature": 300.0,
    "seed": 42,
    "potential": {"file": "/a/model_n2.torch", "sha256": "ab" * 32, "dtype": "float32"},
    "start": {"uuid": "x", "step": 40_000, "file": "thermalise/md.son"},
    "host": {"name": "node7", "device": "cuda"},
    "versions": {"stepson": "0.1.0"},
}


def test_a_run_tells_where_it_comes_from(tmp_path: Path) -> None:
    text = " ".join(drawn(sealed(tmp_path / "md.son", metadata=METADATA), 120).split())
    for words in (
        "stage production, 20 steps, 4 fs, nve, replica 3 of 11, 300 K, seed 42",
        "potential model_n2.torch, float32, sha256 abababab…abababab",
        "started from thermalise/md.son, step 40 000",
        "written on node7, cuda, stepson 0.1.0",
    ):
        assert words in text


def test_cells_and_clusters(tmp_path: Path) -> None:
    triclinic = drawn(sealed(tmp_path / "a.son", cell=TRICLINIC, pbc=(True, True, False)))
    assert "4.000 x 5.099 x 6.042 Å, 84.4, 85.3, 78.7°, periodic in xy" in triclinic
    cluster = drawn(sealed(tmp_path / "b.son", cell=None, pbc=False))
    assert "3 atoms, no cell" in cluster


def test_a_file_without_frames_or_time(tmp_path: Path) -> None:
    text = drawn(sealed(tmp_path / "md.son", frames=0, timestep=None))
    assert "0 frames" in text
    assert "steps" not in text.splitlines()[1]


def test_a_writer_at_work_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    out = write(path)
    assert "being written" in drawn(path)
    out.close()
    assert "sealed" in drawn(path)


def test_what_a_crash_leaves_is_said(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    child = os.fork()
    if child == 0:
        write(path)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with path.open("ab") as end:
        end.write(b"x" * 1234)
    text = drawn(path)
    assert "not sealed" in text
    assert "1 234 bytes at the end were never committed" in text


def test_json_holds_the_same_facts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sealed(tmp_path / "md.son", metadata=METADATA)
    assert main(["info", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == [0, 20]
    assert found["time"] == [0.0, 80.0]
    assert found["checkpoints"] == [20]
    assert found["system"]["volume"] == pytest.approx(5.1**3)
    assert [field["samples"] for field in found["fields"]] == [3, 21]
    assert found["run"]["potential"] == METADATA["potential"]


def test_info_prints_the_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sealed(tmp_path / "md.son")
    assert main(["info", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "sealed" in out
    assert "\x1b" not in out
    assert err == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b'{"text": "of FHI-vibes"}\n', "FHI-vibes"),
        (b"\x00" * 200, "not a .son file"),
    ],
)
def test_what_is_no_trajectory_is_one_line(
    content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "md.son"
    if content is not None:
        path.write_bytes(content)
    assert main(["info", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(path) in err
    assert words in err


def test_a_bad_file_among_others_hides_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the shell expands a glob: each name was given by hand."""
    for name in "ac":
        sealed(tmp_path / f"{name}.son")
    bad = tmp_path / "b.son"
    bad.write_bytes(b"\x00" * 200)
    names = [str(tmp_path / f"{name}.son") for name in "abc"]
    assert main(["info", *names]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("2 runs, 42 frames")
    assert err.count("\n") == 1
    assert err.startswith(f"Error: {bad}: not a .son file")
    assert main(["info", *names[:2], "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["path"] == names[0]
    assert err.count("\n") == 1
    assert main(["info", str(bad), str(tmp_path / "none.son")]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("command", ["info", "gk", "verify"])
def test_an_empty_name_is_not_the_current_folder(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    sealed(tmp_path / "a.son")
    assert main([command, ""]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Error: an empty name; give a file, a glob or a folder\n"
