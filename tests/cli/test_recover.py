"""`stepson recover`: exit codes, what it says, that it fits; verify and info on damage."""

import io
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.theme import Theme

import stepson
from stepson.records import RecordType
from stepson.scan import Record, walk
from stepson.source import Bytes
from stepson_cli.main import main
from stepson_cli.terminal import PALETTE
from stepson_cli.views.recover import report

FIELDS = (
    stepson.Field("positions", "float32", ("atom", 3), "Å", every=10),
    stepson.Field("energy", "float64", (), "eV"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Ten commits of twenty frames, five checkpoints, sealed."""
    path = tmp_path / "md.son"
    rng = np.random.default_rng(0)
    with stepson.create(path, fields=FIELDS, numbers=[18] * 20, timestep=4.0) as out:
        for step in range(200):
            due = {"positions": rng.normal(size=(20, 3))} if step % 10 == 0 else {}
            out.append(step=step, energy=float(step), **due)
            if step % 40 == 39:
                out.checkpoint({"step": step})
            if step % 20 == 19:
                out.commit()
    return path


def of_kind(path: Path, kind: RecordType) -> list[Record]:
    data = path.read_bytes()
    return [r for r in walk(Bytes(data), 64, len(data)) if r.prefix.type == kind]


def damage(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 0x40
    path.write_bytes(data)


def words(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return " ".join((out + err).split())


def test_a_sound_file_exits_with_zero(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = path.with_name("saved.son")
    assert main(["recover", str(path), str(target)]) == 0
    text = words(capsys)
    assert "all of it is sound" in text
    assert "200" in text
    assert "5 checkpoints saved, the last of step 199" in text
    assert main(["verify", str(target), "--deep"]) == 0


def test_a_copy_is_no_loss(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (index,) = of_kind(path, RecordType.INDEX)
    damage(path, index.offset + 40)
    assert main(["recover", str(path), str(path.with_name("saved.son"))]) == 0
    assert "nothing is lost" in words(capsys)


def test_what_is_lost_is_listed_and_exits_with_one(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = of_kind(path, RecordType.BLOCK)[3]
    point = of_kind(path, RecordType.CHECKPOINT)[2]
    damage(path, block.payload + block.prefix.payload_length - 1, point.offset + 40)
    target = path.with_name("saved.son")
    assert main(["recover", str(path), str(target)]) == 1
    text = words(capsys)
    assert "some of it is lost" in text
    assert "0 to 50, 80 to 190 60 to 70" in text
    assert "irregular now: positions" in text
    assert "checkpoints lost: step 119" in text
    assert f"stepson verify {target} --deep" in text
    assert main(["verify", str(target), "--deep"]) == 0


def test_json_has_numbers(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = of_kind(path, RecordType.BLOCK)[3]
    damage(path, block.payload + block.prefix.payload_length - 1)
    assert main(["recover", str(path), str(path.with_name("s.son")), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["complete"] is False
    assert found["lost"]["positions"] == [[60, 70]]
    assert found["frames"] == 200
    assert found["damages"][0]["field"] == "positions"
    assert main(["verify", str(path), "--json"]) == 1
    (one,) = json.loads(capsys.readouterr().out)["damages"]
    assert one["field"] == "positions"
    assert (one["first_step"], one["last_step"]) == (60, 79)
    assert isinstance(one["expected"], int)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ([], 2, "Missing argument"),
        (["md.son"], 2, "Missing argument"),
        (["none.son", "new.son"], 1, "there is no such file"),
        (["md.son", "md.son"], 1, "never overwritten"),
        (["md.son", "new.son", "--fields", "velocity"], 1, "no field 'velocity'"),
        (["md.son", "new.son", "--like", "none.son"], 1, "there is no such file"),
        (["md.son", "none/new.son"], 1, "none/new.son cannot be created"),
        (["noise.son", "new.son"], 1, "nothing found"),
        (["empty.son", "new.son"], 1, "nothing found"),
        (["lost.son", "new.son"], 1, "--like OTHER.son"),
        ([".", "new.son"], 1, ". is a folder or a glob; give one file at a time"),
        (["*.so?", "new.son"], 1, "*.so? is a folder or a glob; give one file at a time"),
        (
            ["http://h/*.son", "new.son"],
            1,
            "is a folder or a glob; give one file at a time",
        ),
        (["", "new.son"], 1, "an empty name; give a file"),
        (["memory://none.son", "new.son"], 1, "memory://none.son: there is no such file"),
        (["md.son", "s3://b/new.son"], 1, "s3://b/new.son is a URL; give a local file"),
    ],
)
def test_one_line_for_what_cannot_be(
    arguments: list[str],
    status: int,
    text: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(path.parent)
    Path("noise.son").write_bytes(np.random.default_rng(0).bytes(10_000))
    Path("empty.son").write_bytes(b"")
    (schema,) = of_kind(path, RecordType.SCHEMA)
    Path("lost.son").write_bytes(path.read_bytes())
    damage(Path("lost.son"), schema.offset + 40)
    assert main(["recover", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert text in " ".join(err.split())
    assert status == 2 or err.count("\n") == 1
    assert not Path("new.son").exists()


def test_like_lends_a_schema(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    like = path.with_name("like.son")
    like.write_bytes(path.read_bytes())
    (schema,) = of_kind(path, RecordType.SCHEMA)
    damage(path, schema.offset + 40)
    target = path.with_name("saved.son")
    assert main(["recover", str(path), str(target), "--like", str(like)]) == 0
    assert "taken from the other file: SCHEMA" in words(capsys)


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_fits(path: Path, width: int) -> None:
    blocks = of_kind(path, RecordType.BLOCK)
    damage(path, *(block.payload + 5 for block in blocks[::2]), blocks[1].offset + 9)
    done = stepson.recover(path, path.with_name("saved.son"))
    stream = io.StringIO()
    Console(file=stream, width=width, theme=Theme(dict(PALETTE))).print(report(done))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in stream.getvalue()


def test_verify_says_what_next(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = of_kind(path, RecordType.BLOCK)[3]
    damage(path, block.offset + 9)
    assert main(["verify", str(path)]) == 1
    text = words(capsys)
    assert "the head of a record does not verify" in text
    assert "60 to 79" in text
    assert f"stepson recover {path} OUT.son" in text


def test_info_on_damage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (metadata,) = of_kind(path, RecordType.METADATA)
    damage(path, metadata.offset + 40)
    assert main(["info", str(path)]) == 0
    text = words(capsys)
    assert "damaged: `stepson verify` says where" in text
    assert "200 frames, steps 0 to 199" in text


def test_info_of_a_torn_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (footer,) = of_kind(path, RecordType.FOOTER)
    damage(path, footer.offset + 40)
    assert main(["info", str(path)]) == 0
    assert "a FOOTER that does not verify" in words(capsys)
    with path.open("ab") as end:
        end.write(b"\x01" * 100_000)
    assert main(["info", str(path)]) == 0
    assert "what is committed ends with step 199" in words(capsys)


def test_warnings_are_a_line(path: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    *_, table = of_kind(path, RecordType.TABLE)
    damage(path, table.offset + 40)
    code = "import sys; from stepson_cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "gk", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    first = done.stderr.splitlines()[0]
    assert first.startswith("Warning: ")
    assert "TABLE before it" in first


def test_a_scheduler_stops_it_and_nothing_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the middle of writing: exit status 143, no hidden file."""
    real = stepson.recover

    def stopped(source: Path, target: Path, listener: object, **more: object) -> object:
        def stop(done: int, total: int) -> None:
            if done > 0.7 * total:
                os.kill(os.getpid(), signal.SIGTERM)

        return real(source, target, stop, **more)  # type: ignore[arg-type]

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(stepson, "recover", stopped)
        try:
            status = main(["recover", str(path), str(path.with_name("new.son"))])
        except SystemExit as error:
            status = error.code  # type: ignore[assignment]
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert [each.name for each in path.parent.iterdir()] == ["md.son"]


def test_no_room_for_the_new_file(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What appending can do after a failure, a recovery cannot; it says so."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        os._exit(main(["recover", str(path), str(path.with_name("new.son"))]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    line = words_of(capfd)
    assert "new.son: writing failed: File too large" in line
    assert "give the same command again" in line
    assert "mode 'a'" not in line
    assert [each.name for each in path.parent.iterdir()] == ["md.son"]


def words_of(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    return " ".join((out + err).split())


def test_a_file_that_no_table_is_left_of_is_listed(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be opened can be checked: no advice goes in a circle."""
    tables = [r.offset + 20 for kind in (5, 8) for r in of_kind(path, RecordType(kind))]
    damage(path, *tables)
    assert main(["verify", str(path)]) == 1
    assert "the head of a record does not verify" in words(capsys)
    assert main(["info", str(path)]) == 1
    assert "stepson recover" in words(capsys)
