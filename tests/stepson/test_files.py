"""Creating and opening files: names, locks, and one clear line for whatever is wrong."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

import stepson
from stepson import FormatError, SchemaError, TornError, VersionError, WriterError
from stepson.lock import forget_dead, lock_path
from stepson.records import RecordType, magic, pack_head, padded
from tests.stepson.files import FIELDS, check_content, create, frame, steps_of, write


def test_create_makes_a_complete_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    writer = create(path, metadata={"seed": 7})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["md.son", "md.son.lock"]
    traj = stepson.open(path)
    assert len(traj) == 0
    assert traj.metadata["seed"] == 7
    assert not traj.sealed
    writer.close()
    assert [each.name for each in tmp_path.iterdir()] == ["md.son"]


def test_create_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    path.write_bytes(b"precious")
    with pytest.raises(WriterError, match="never overwritten"):
        create(path)
    assert path.read_bytes() == b"precious"


def test_a_create_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SchemaError):
        create(tmp_path / "md.son", metadata={"bad": object()})
    with pytest.raises(SchemaError):
        create(tmp_path / "md.son", metadata={"masses": 1})
    assert list(tmp_path.iterdir()) == []


def test_create_sweeps_what_died_before_it_had_a_name(tmp_path: Path) -> None:
    dead = tmp_path / ".0123.born"
    dead.write_bytes(b"half")
    create(tmp_path / "md.son").close()
    assert not dead.exists()


def test_a_first_name_that_was_left_is_swept(tmp_path: Path) -> None:
    """A kill between the link to its name and the end of the hidden one."""
    path = tmp_path / "md.son"
    write(path, [range(20)], seal=False)
    os.link(path, tmp_path / ".0.born")
    with stepson.open(path, "a"):
        assert sorted(each.name for each in tmp_path.iterdir()) == ["md.son", "md.son.lock"]
    assert [each.name for each in tmp_path.iterdir()] == ["md.son"]


def test_the_name_of_a_dead_owner_can_be_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    write(path, [range(20)])
    name = lock_path(path)
    with stepson.open(path, "a"):
        forget_dead(path)
        assert name.exists()
    name.write_text("{}")
    forget_dead(path)
    forget_dead(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_create_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(WriterError, match="cannot be created"):
        create(tmp_path / "none" / "md.son")


def test_two_writers(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    with create(path) as writer:
        owner = json.loads((tmp_path / "md.son.lock").read_text())
        assert owner["pid"] == os.getpid()
        with pytest.raises(WriterError, match="by this process itself; close"):
            stepson.open(path, "a")
        writer.append(0, **frame(0))
    with stepson.open(path, "a") as writer:
        writer.append(2, **frame(2))
    check_content(stepson.open(path), [0, 2])


def test_no_flock_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "md.son"
    create(path).close()
    monkeypatch.setattr("stepson.lock._flock", lambda *_: False)
    lock = tmp_path / "md.son.lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "time": "now"}))
    with pytest.raises(WriterError, match="break_lock"):
        stepson.open(path, "a")
    assert lock.exists()
    stepson.open(path, "a", break_lock=True).close()
    lock.write_text(json.dumps({"host": os.uname().nodename, "pid": 2**22 + 1}))
    stepson.open(path, "a").close()


def test_reopening_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    blocks = [range(20), range(20, 50)]
    write(path, blocks)
    with stepson.open(path, "a") as writer:
        assert writer.last_step == 48
        assert writer.frames == 25
        with pytest.raises(WriterError, match="step 48 is not after"):
            writer.append(48, **frame(48))
        assert [step for step, _ in writer.checkpoints()] == [19, 49]
        state = writer.checkpoint_state()
        assert state is not None
        assert state["state"][0] == 49
        writer.append(50, **frame(50))
    traj = stepson.open(path)
    assert traj.sealed
    assert traj.torn_bytes == 0
    check_content(traj, [*steps_of(blocks), 50])
    assert traj.checkpoint(19)["state"][0] == 19


def _hold(path: Path, ready: Any) -> None:
    writer = create(path, commit="manual")
    writer.append(0, **frame(0))
    writer.commit()
    writer.append(2, **frame(2))
    ready.send(1)
    signal.pause()


def test_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(path, theirs))
    process.start()
    assert ours.poll(60)
    with pytest.raises(WriterError, match=f"process {process.pid}"):
        stepson.open(path, "a")
    process.kill()
    process.join()
    check_content(stepson.open(path), [0])
    with stepson.open(path, "a") as writer:
        writer.append(2, **frame(2))
    check_content(stepson.open(path), [0, 2])


def test_missing_folder_empty_short(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    for mode in ("r", "a"):
        with pytest.raises(FormatError, match="no such file"):
            stepson.open(path, mode)
        with pytest.raises(FormatError, match="folder"):
            stepson.open(tmp_path, mode)
    for content, message in (
        (b"", "empty"),
        (magic()[:20], "too short"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "magic"),
        (b'{"MD": {"timestep": 1}}\n', "FHI-vibes"),
        (magic(), "record"),
        (magic()[:8] + b"\x09" + magic()[9:], "version 9"),
    ):
        path.write_bytes(content)
        for mode in ("r", "a"):
            with pytest.raises(FormatError, match=message) as caught:
                stepson.open(path, mode)  # type: ignore[call-overload]
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert path.read_bytes() == content


def test_wrong_mode_and_option(tmp_path: Path) -> None:
    create(tmp_path / "md.son").close()
    with pytest.raises(SchemaError, match="mode"):
        stepson.open(tmp_path / "md.son", "w")  # type: ignore[call-overload]
    with pytest.raises(SchemaError, match="option"):
        stepson.open(tmp_path / "md.son", commit="manual")  # type: ignore[call-overload]


@pytest.mark.parametrize("bad", [-1, float("nan"), "30", None])
def test_seconds_are_no_less_than_none(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(SchemaError, match="commit_seconds is a number"):
        create(tmp_path / "md.son", commit_seconds=bad)
    assert list(tmp_path.iterdir()) == []
    create(tmp_path / "md.son", commit_seconds=float("inf")).close()
    with pytest.raises(SchemaError, match="commit_seconds is a number"):
        stepson.open(tmp_path / "md.son", "a", commit_seconds=bad)
    stepson.open(tmp_path / "md.son", "a", commit_seconds=0).close()


def with_features(data: bytes, **features: list[str]) -> bytes:
    """The same file with other feature flags in a HEADER made anew."""
    length = int.from_bytes(data[72:76], "little")
    content = msgpack.unpackb(data[96 : 96 + length])
    content["writer"] = ""
    packed = msgpack.packb({**content, **features})
    assert padded(32 + len(packed)) == padded(32 + length)
    head = pack_head(RecordType.HEADER, packed, 0, 0)
    return (
        data[:64]
        + head
        + bytes(padded(len(head)) - len(head))
        + data[64 + padded(32 + length) :]
    )


@pytest.mark.parametrize(
    ("features", "reads", "appends"),
    [
        ({"compatible": ["x"]}, True, True),
        ({"read_compatible": ["x"]}, True, False),
        ({"incompatible": ["x"]}, False, False),
    ],
)
def test_feature_flags(
    tmp_path: Path, features: dict[str, list[str]], reads: bool, appends: bool
) -> None:
    path = tmp_path / "md.son"
    write(path, [range(20)])
    path.write_bytes(with_features(path.read_bytes(), **features))
    for mode, allowed in (("r", reads), ("a", appends)):
        if allowed:
            stepson.open(path, mode).close()  # type: ignore[call-overload]
        else:
            with pytest.raises(VersionError, match="feature x"):
                stepson.open(path, mode)  # type: ignore[call-overload]


def test_strict(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    write(path, [range(20)], seal=False)
    stepson.open(path, strict=True).close()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"torn")
    assert stepson.open(path).torn_bytes == 4
    with pytest.raises(TornError) as caught:
        stepson.open(path, strict=True)
    assert caught.value.valid_until == size


def test_someone_else_writes(tmp_path: Path) -> None:
    path = tmp_path / "md.son"
    writer = create(path, commit="manual", threaded=False)
    writer.append(0, **frame(0))
    writer.commit()
    with path.open("ab") as file:
        file.write(bytes(64))
    writer.append(2, **frame(2))
    with pytest.raises(WriterError, match="something else wrote"):
        writer.commit()
    with pytest.raises(WriterError, match="something else wrote"):
        writer.close()
    check_content(stepson.open(path), [0])


def test_parent(tmp_path: Path) -> None:
    write(tmp_path / "a.son", [range(20)])
    parent = stepson.open(tmp_path / "a.son")
    create(tmp_path / "b.son", parent=parent).close()
    child = stepson.open(tmp_path / "b.son")
    assert child.parent == {"uuid": parent.uuid, "digest": parent.digest, "step": 18}


@pytest.mark.parametrize("numbers", [18, [[18]], ["Ar"], [1.5]])
def test_numbers_are_numbers(tmp_path: Path, numbers: Any) -> None:
    with pytest.raises(SchemaError, match="atomic numbers"):
        stepson.create(tmp_path / "md.son", fields=FIELDS, numbers=numbers)


def test_metadata(tmp_path: Path) -> None:
    values = {
        "text": "a" * 5000,
        "short": "Å",
        "nested": {
            "array": np.arange(6, dtype="i2").reshape(2, 3),
            "list": [1, 2.5, None, True],
        },
        "scalar": np.float32(0.5),
        "empty": np.zeros((0, 3)),
        "zero_d": np.array(4),
        "words": np.array(["a", "bc"]),
        "bytes": bytes(2000),
    }
    create(tmp_path / "md.son", metadata=values, pbc=(True, True, False)).close()
    found = stepson.open(tmp_path / "md.son").metadata
    assert found["text"] == values["text"]
    assert found["short"] == "Å"
    assert found["nested"]["list"] == [1, 2.5, None, True]
    assert found["nested"]["array"].dtype == np.int16
    assert found["nested"]["array"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["scalar"] == 0.5
    assert found["empty"].shape == (0, 3)
    assert found["zero_d"].shape == ()
    assert found["words"] == ["a", "bc"]
    assert found["bytes"] == bytes(2000)
    assert found["pbc"] == [True, True, False]
    assert found["cell"] is None
    assert found["numbers"].tolist() == [18] * 3
    assert found["timestep"] == 4.0


@pytest.mark.parametrize(
    "bad", [{"a": object()}, {"a": 1j}, {1: 2}, {"a": 2**64}, {"a": list(range(100_000))}]
)
def test_metadata_that_cannot_be_stored(tmp_path: Path, bad: dict[Any, Any]) -> None:
    with pytest.raises(SchemaError):
        create(tmp_path / "md.son", metadata=bad)


def test_a_commit_is_on_the_disk_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sync a commit, after its last byte; nothing is written behind it."""
    synced: list[int] = []
    real = os.fdatasync

    def spy(descriptor: int) -> None:
        real(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    writer = create(tmp_path / "md.son", commit="manual", threaded=False)
    monkeypatch.setattr(os, "fdatasync", spy)
    for step in range(0, 6, 2):
        writer.append(step, **frame(step))
        writer.commit()
        assert len(synced) == step // 2 + 1
        assert synced[-1] == (tmp_path / "md.son").stat().st_size
    writer.close()
