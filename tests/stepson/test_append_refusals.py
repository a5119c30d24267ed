"""Every way in which a file is not opened for append: one line, what, where, what next."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import stepson
from stepson import StepsonError
from stepson.opening import Header
from stepson.records import MAGIC_SIZE
from stepson.schema import Schema
from stepson.writing import start
from tests.stepson.files import FIELDS, Memory, flipped, write

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def refusal(path: Any, **options: Any) -> str:
    """What is said; it changes nothing and leaves nothing open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StepsonError) as caught:
        stepson.open(path, "a", **options)
    text = str(caught.value)
    assert "\n" not in text
    del caught
    assert len(os.listdir("/proc/self/fd")) == before
    return text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "md.son", [range(20), range(20, 40)], seal=False)
    return tmp_path / "md.son"


@contextmanager
def owned(path: Path, owner: str) -> Iterator[None]:
    """The file is locked by someone whose lock file says this."""
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    name = path.with_name(path.name + ".lock")
    if owner:
        name.write_text(owner)
    try:
        yield
    finally:
        os.close(descriptor)
        name.unlink(missing_ok=True)


WRITER = """
import sys, stepson
out = stepson.open(sys.argv[1], "a", threaded=False)
print("ready", flush=True)
sys.stdin.read()
"""


def test_locked_by_another_process(path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == b"ready\n"
        text = refusal(path)
        other.stdin.close()
        assert other.wait(60) == 0
    assert text.startswith(f"{path} is being written by process {other.pid} on ")
    assert text.endswith("; wait until it ends, or stop it")
    stepson.open(path, "a").close()


@pytest.mark.parametrize("owner", ["", "{", '{"pid": 1}', "[]"])
def test_locked_by_who_knows_whom(path: Path, owner: str) -> None:
    with owned(path, owner):
        text = refusal(path)
    assert (
        text
        == f"{path} is being written by another process; wait until it ends, or stop it"
    )


def test_locked_by_this_process(path: Path) -> None:
    with stepson.open(path, "a"):
        text = refusal(path)
    assert (
        text == f"{path} is being written by this process itself; close that writer first"
    )


def feature(key: str) -> bytes:
    """A file that needs something."""
    sink = Memory()
    header = Header(uuid4().bytes, "", "tests", **{key: ("colour",)})  # type: ignore[arg-type]
    content = {"numbers": np.full(3, 18)}
    start(
        sink, Path("md.son"), header, Schema(FIELDS, 3), content, threaded=False
    ).abandon()
    return sink.data


COPY = "check the name, or copy it here again"
RECOVER = "`stepson recover IN OUT` saves what is sound"


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "empty": (lambda data: b"", "the file is empty", "delete it and use create()"),
    "short": (lambda data: data[:10], "too short for a .son file: 10 bytes", COPY),
    "other": (lambda data: b"nothing" * 99, "not a .son file", COPY),
    "magic": (lambda data: flipped(data, 2), "but a HEADER follows", RECOVER),
    "zeros": (lambda data: flipped(data, 20), "after the magic bytes are not", RECOVER),
    "header": (lambda data: flipped(data, MAGIC_SIZE + 40), "HEADER, which says", RECOVER),
    "version": (lambda data: flipped(data, 8), "needs format version 65", "upgrade it"),
    "feature": (lambda data: feature("incompatible"), "the feature colour", "upgrade it"),
    "kept": (lambda data: feature("read_compatible"), "the feature colour", "upgrade it"),
    "begun": (lambda data: data[:400], "no COMMIT verifies", RECOVER),
    "text": (lambda data: b"{\n" + bytes(99), "the text format of FHI-vibes", "reads it"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_bytes_that_are_refused(path: Path, change: str) -> None:
    damage, words, advice = CHANGES[change]
    data = damage(path.read_bytes())
    path.write_bytes(data)
    text = refusal(path)
    assert text.startswith(f"{path}: ")
    assert words in text
    assert advice in text
    assert path.read_bytes() == data
    assert [each.name for each in path.parent.iterdir()] == ["md.son"]


def test_a_damaged_or_torn_tail_is_no_reason(path: Path) -> None:
    """Nor is a seal: it goes on after the last commit that counts."""
    data = path.read_bytes()
    for torn in (data[:-100], data + bytes(100), flipped(data, len(data) - 100)):
        path.write_bytes(torn)
        stepson.open(path, "a").close()
        stepson.open(path, "a").close()
        with stepson.open(path) as traj:
            assert len(traj) >= 10
            assert traj.sealed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "an empty name; mode 'a' takes the name of a file"),
        (
            "here",
            "{} is a folder, not a .son file; mode 'a' takes the name of a file in it",
        ),
        (
            "here/m*.son",
            "{}: there is no such file, and mode 'a' takes no glob; give one name",
        ),
        (
            "no.son",
            "{}: there is no such file; check the name, or use create() for a new one",
        ),
        (
            "here/md.son/x",
            "{} cannot be opened for append: Not a directory; check the name",
        ),
        (
            "loop",
            "{} cannot be opened for append: Too many levels of symbolic links; check the "
            "name",
        ),
        (
            "https://h/x.son",
            "{} is a URL, which cannot be appended to: download it, append to the copy, "
            "upload that",
        ),
        (
            "file:///x.son",
            "{} is a URL, which cannot be appended to: give the path of the file instead",
        ),
    ],
)
def test_names_that_are_refused(
    path: Path, name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "here").mkdir()
    path.rename(path.parent / "here" / "md.son")
    (path.parent / "loop").symlink_to("loop")
    monkeypatch.chdir(path.parent)
    assert refusal(name) == words.format(name)


def test_a_name_with_signs_of_a_glob(path: Path) -> None:
    path.rename(path.parent / "m*.son")
    stepson.open(path.parent / "m*.son", "a").close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (["a.son", "b.son"], "not several; give the one to go on with"),
        (["a.son"], "not several; give the one to go on with"),
        (3, "not int"),
        (None, "not NoneType"),
        (b"a.son", "not bytes"),
    ],
)
def test_what_is_no_name(name: Any, words: str) -> None:
    assert refusal(name) == f"mode 'a' takes the name of one file, {words}"


def test_options_of_reading(path: Path) -> None:
    for option in ({"join": True}, {"join": False}, {"strict": True}, {"follow": True}):
        text = refusal(path, **option)
        assert text == f"mode 'a' takes no {next(iter(option))}: leave out one of the two"


def test_no_right_to_write(path: Path) -> None:
    path.chmod(0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        text = refusal(path)
    finally:
        if root:
            os.seteuid(0)
    assert text == (
        f"{path} cannot be opened for append: Permission denied; get the right to write, "
        "or append to a copy"
    )
