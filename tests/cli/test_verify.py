"""`stepson verify`: sound, damaged and torn files, and their exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest

import stepson
from stepson_cli.main import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sealed file of two commits."""
    path = tmp_path / "md.son"
    fields = [
        stepson.Field("positions", "float32", ("atom", 3), "Å"),
        stepson.Field("energy", "float64", (), "eV"),
    ]
    rng = np.random.default_rng(0)
    with stepson.create(path, fields=fields, numbers=[18] * 20, timestep=4.0) as out:
        for step in range(40):
            out.append(step=step, energy=float(step), positions=rng.normal(size=(20, 3)))
            if step == 20:
                out.commit()
    return path


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_a_sound_file_exits_with_zero(
    deep: list[str], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(path), *deep]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{path}: sound" in out
    assert "40 frames" in out


def damage(path: Path) -> None:
    """Flip bits in more bytes of the middle than the padding between records has."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 128] = bytes(b ^ 1 for b in data[middle : middle + 128])
    path.write_bytes(data)


def test_a_damaged_file_exits_with_one_and_says_where(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(path)
    assert main(["verify", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "damaged" in out
    assert "frames in those that are sound" in out
    assert "at byte" in " ".join(out.split())
    assert err == ""


def test_json_lists_the_damages(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    damage(path)
    assert main(["verify", str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["damages"]


def test_a_torn_tail_is_no_damage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with path.open("ab") as end:
        end.write(b"\x01" * 100)
    assert main(["verify", str(path)]) == 0
    assert "100 bytes at the end were never committed" in capsys.readouterr().out


def test_details_show_how_far_it_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(path), "-v"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("md.son (") for line in lines)
