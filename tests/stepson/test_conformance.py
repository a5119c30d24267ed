"""The vectors of the specification against reader, naive reader and writer; the runner."""

import io
import json
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

import stepson
from spec import make_release, make_vectors
from spec.generator.file import File
from spec.generator.records import field as field_map
from stepson.conformance import __main__ as runner
from stepson.conformance import reading
from stepson.conformance.compare import judge
from stepson.conformance.process import Batch, Limits
from stepson.conformance.reading import describe
from stepson.conformance.report import Report, Result
from stepson.conformance.vectors import Case, cases, default_folder
from stepson.errors import DamageWarning, FormatError, StepsonError
from stepson.opening import Header
from stepson.schema import Field, Schema
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writing import resume, start
from tests.naive_reader import Refused, summary
from tests.stepson.files import FIELDS, Memory, frame

FOLDER = default_folder()
LARGE = "beyond-4-gib"
MAGIC_ZEROS = ("zeros", "zeros-end")
REFUSED_ENTIRELY = {
    *(
        f"flips-{s}/MAGIC-{n}"
        for s in ("sealed", "unsealed")
        for n in ("zeros", "zeros-end")
    ),
    "hostile-headers/header-no-compatible",
    "hostile-headers/header-no-read_compatible",
    "hostile-tables/table-last-missing",
    *(f"hostile-tables/footer-roots-{n}" for n in ("none", "out-of-order", "beyond")),
}
"""Damaged files of which this reader says nothing, though something could be read."""


@cache
def by_folder() -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases(FOLDER):
        found.setdefault(case.folder.relative_to(FOLDER).as_posix(), []).append(case)
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "file.son"


@pytest.fixture(autouse=True)
def told() -> Iterator[None]:
    """Damage that costs nothing is told, which is right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        yield


def ours(path: Path) -> dict[str, Any]:
    try:
        with stepson.open(path) as trajectory:
            return describe(trajectory)
    except StepsonError as error:
        return {"refused": str(error)}


def naive(path: Path) -> dict[str, Any]:
    try:
        return summary(str(path))
    except Refused as error:
        return {"refused": str(error)}


@pytest.mark.parametrize("folder", by_folder())
def test_stepson_reads_and_refuses(folder: str, scratch: Path) -> None:
    wrong = {}
    for case in by_folder()[folder]:
        answer = ours(case.place(scratch))
        found = judge(case.expectations, answer)
        verdict = case.expectations[0]["verdict"]
        if verdict == "damaged" and ("refused" in answer) != (
            case.name in REFUSED_ENTIRELY
        ):
            found.append(str(answer.get("refused", "read")))
        if found:
            wrong[case.name] = found
    assert not wrong


@pytest.mark.parametrize("folder", by_folder())
def test_naive_reader_reads_and_refuses(folder: str, scratch: Path) -> None:
    wrong = {}
    for case in by_folder()[folder]:
        found = judge(case.expectations, naive(case.place(scratch)))
        if found:
            wrong[case.name] = found
    assert not wrong


@pytest.mark.parametrize("folder", ["flips-sealed", "flips-unsealed"])
def test_verify_finds_every_flipped_bit(folder: str, scratch: Path) -> None:
    wrong = {}
    for case in by_folder()[folder]:
        verdict = case.expectations[0]["verdict"]
        if verdict == "refused" or case.name in REFUSED_ENTIRELY:
            continue
        with stepson.open(case.place(scratch)) as trajectory:
            found = trajectory.verify(deep=True)
        if found.ok != (verdict == "reads"):
            wrong[case.name] = found.damages
    assert not wrong


# The writer


def next_frame(trajectory: Trajectory) -> tuple[int, dict[str, Any]]:
    """A step behind the last one, and all fields that are due there."""
    step = int(trajectory.steps[-1]) + 1 if len(trajectory) else 0
    n = trajectory.n_atoms
    values = {
        name: np.ones(field.sample_shape(n), field.dtype)
        for name, field in trajectory.fields.items()
        if field.due(step) or field.every is None
    }
    return step, values


CUTS = pytest.mark.parametrize("cuts", [8, pytest.param(1, marks=pytest.mark.slow)])


def appendable(cuts: int) -> Iterator[Case]:
    """Cases with one right answer; of the many cuts, which are alike, one of so many."""
    for folder, found in by_folder().items():
        for case in found[:: cuts if folder == "cuts" else 1]:
            if folder != LARGE and len(case.expectations) == 1:
                yield case


@CUTS
def test_append_keeps_every_byte_and_both_read_it(
    cuts: int, scratch: Path, tmp_path: Path
) -> None:
    done = 0
    for case in appendable(cuts):
        expected = case.expectations[0]
        if expected["verdict"] != "reads" or not expected["append"]:
            continue
        if case.name in ("last-step", "odd-names"):
            continue  # there is no step behind it; append(step=...) has no field "step"
        old = case.place(scratch).read_bytes()
        step, values = next_frame(Trajectory(Bytes(old)))
        sink = Memory(old)
        writer = resume(sink, tmp_path / "x.son", commit="manual", threaded=False)
        if values:
            writer.append(step, **values)
        writer.close()
        assert sink.data.startswith(old), case.name
        (tmp_path / "new.son").write_bytes(sink.data)
        answers = [ours(tmp_path / "new.son"), naive(tmp_path / "new.son")]
        for answer in answers:
            check_appended(case.name, expected, answer, step, values)
        assert answers[0]["digest"] == answers[1]["digest"]
        done += 1
    assert done > 200


def check_appended(
    name: str, expected: Any, answer: Any, step: int, values: dict[str, Any]
) -> None:
    assert "refused" not in answer, (name, answer)
    assert answer["sealed"], name
    assert answer["torn_bytes"] == 0, name
    assert answer["frames"] == expected["frames"] + bool(values), name
    for field, each in expected["fields"].items():
        got = answer["fields"][field]
        assert got["samples"] == each["samples"] + (field in values), name
        if field not in values:
            assert got["sha256"] == each["sha256"], name
        elif isinstance(got["steps"], list):
            assert got["steps"] == [*each["steps"], step], name
    assert answer["metadata"] == expected["metadata"], name
    assert answer["checkpoints"] == expected["checkpoints"], name


@CUTS
def test_append_refuses_what_must_not_be_appended_to(cuts: int, scratch: Path) -> None:
    done = 0
    for case in appendable(cuts):
        expected = case.expectations[0]
        if expected["verdict"] != "refused" and expected["append"]:
            continue
        old = case.place(scratch).read_bytes()
        sink = Memory(old)
        with pytest.raises(StepsonError):
            resume(sink, scratch, commit="manual", threaded=False)
        assert sink.data == old, case.name
        done += 1
    assert done > 120


def test_no_step_behind_the_last_one(tmp_path: Path) -> None:
    sink = Memory((FOLDER / "last-step" / "file.son").read_bytes())
    writer = resume(sink, tmp_path / "x.son", commit="manual", threaded=False)
    with pytest.raises(StepsonError):
        writer.append(2**62, x=1.0)
    writer.abandon()


def test_append_behind_4_gib(tmp_path: Path) -> None:
    (case,) = by_folder()[LARGE]
    path = case.place(tmp_path / "large.son")
    size = path.stat().st_size
    with stepson.open(path, "a", threaded=False) as writer:
        writer.append(40, positions=np.ones((2, 3), "f4"), energy=1.0)
    assert path.stat().st_size > size > 2**32
    for answer in (ours(path), naive(path)):
        assert answer["fields"]["positions"]["steps"][-2:] == [36, 40]
    path.unlink()


def test_what_is_written_is_read_by_the_naive_reader(tmp_path: Path) -> None:
    header = Header(bytes(16), "2026-01-01T00:00:00+00:00", "test")
    schema = Schema((*FIELDS, Field("extra", "int16", ("atom",), "", every=None)), 3)
    images = []
    for _ in range(2):
        sink = Memory()
        numbers = np.array([1, 2, 3], np.int64)
        metadata = {"numbers": numbers, "masses": None, "pbc": [True] * 3, "timestep": 1.0}
        writer = start(
            sink, tmp_path, header, schema, metadata, commit="manual", threaded=False
        )
        for step in range(0, 60, 2):
            extra = {"extra": np.arange(3) - step} if step % 7 == 0 else {}
            writer.append(step, **frame(step), **extra)
            if step % 20 == 0:
                writer.checkpoint({"a": [1.5, np.arange(3)]})
                writer.commit()
        writer.close()
        images.append(sink.data)
    assert images[0] == images[1]
    path = tmp_path / "x.son"
    path.write_bytes(images[0])
    answer = ours(path)
    del answer["append"]
    assert naive(path) == answer
    assert answer["frames"] == 30


def test_checkpoint_has_its_step() -> None:
    with stepson.open(FOLDER / "sealed" / "file.son") as trajectory:
        assert trajectory.checkpoint_steps == [7, 15]
        assert trajectory.checkpoint()["step"] == 15
        assert trajectory.checkpoint(7)["step"] == 7


# The generator


def test_committed_vectors_are_what_the_generator_makes(tmp_path: Path) -> None:
    make_vectors.main(str(tmp_path))
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    kept = {
        path.relative_to(FOLDER)
        for path in FOLDER.rglob("*")
        if path.is_file()
        and not path.relative_to(FOLDER).parts[0].startswith("written-by-")
    } - {Path("README.md")}
    assert made == kept
    same = make_vectors.compressor() == json.loads((FOLDER / "made-with.json").read_text())
    differ = [
        name
        for name in made
        if (tmp_path / name).read_bytes() != (FOLDER / name).read_bytes()
    ]
    if same:
        assert not differ
    else:  # another blosc2 may compress in another way; what is read must be the same
        for case in cases(tmp_path):
            assert not judge(case.expectations, ours(case.place(tmp_path / "f.son")))


def test_generator_does_not_use_the_library() -> None:
    code = "import sys, spec.make_vectors; print('stepson' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_what_a_release_writes_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_release, "VECTORS", tmp_path)
    monkeypatch.setattr("socket.gethostname", lambda: "example")  # main() sets it too
    assert make_release.main() == 0
    found = list(cases(tmp_path))
    assert len(found) == len(make_release.CASES)
    for case in found:
        assert judge(case.expectations, naive(case.folder / "file.son")) == []
    assert make_release.main() == 1
    assert "never written anew" in capsys.readouterr().err


# The runner


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = runner.main(list(arguments))
    return status, capsys.readouterr().out


OURS = (sys.executable, "-m", "stepson.conformance", "--read")


@pytest.mark.parametrize("batch", [(), ("--batch",)])
def test_runner_finds_stepson_right(
    batch: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run([*batch, "-k", "e-frame", *OURS], capsys)
    assert status == 0, text
    assert text.splitlines() == [
        "1 of 1 right: 1 by reading, 0 by refusing",
        "a complete reader reads 1 of them and refuses 0",
    ]


def test_refusing_everything_is_told_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(["-k", "feature-", "false"], capsys)
    assert status == 1
    lines = text.splitlines()
    assert lines[-2:] == [
        "1 of 3 right: 0 by reading, 1 by refusing",
        "a complete reader reads 2 of them and refuses 1",
    ]
    assert [line.split()[0] for line in lines[:-2]] == ["WRONG"] * 2  # and no other


def program(tmp_path: Path, text: str) -> list[str]:
    """An implementation that is wrong."""
    path = tmp_path / "reader.py"
    path.write_text("import json, os, sys, time\n" + text)
    return [sys.executable, "-S", "-E", str(path)]


ENDLESS = "while True: sys.stdout.write('x' * 2**16)"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("print('{}')", "frames"),
        ("print('[]')", "no JSON object"),
        ("print('text')", "no JSON"),
        ("print('[' * 10**6)", "no JSON"),
        ("sys.exit('no')", "refused: no"),
        ("raise ValueError('bug')", "ended with status 1: ValueError: bug"),
        ("sys.exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), 9)", "ended with status -9"),
        ("bytes(2**30); print(1)", "MemoryError"),
        (ENDLESS, "printed more than 16 MiB"),
        ("print('{}', flush=True); time.sleep(60)", "no answer within 0.1 s"),
        ("while True: sys.stderr.write('x' * 2**16)", "no answer within 0.1 s"),
        ("os.fork() or time.sleep(60)", "no answer within 0.1 s"),  # holds the streams
        ("os.close(1); os.close(2); time.sleep(60)", " within 0.1 s"),
    ],
)
def test_runner_tells_what_is_wrong(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = program(tmp_path, text)
    limits = ["--seconds", "0.1"] if told.endswith("0.1 s") else []
    status, out = run([*limits, "--json", "-k", "one-frame", *command], capsys)
    (result,) = json.loads(out)
    assert status == 1
    assert not result["ok"]
    assert told in "; ".join(result["differs"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time.sleep(60)", "no answer within 0.1 s"),
        (  # each piece is in time
            "while True: print(end='x', flush=True); time.sleep(0.01)",
            "no answer within 0.1 s",
        ),
        (ENDLESS, "printed more than 16 MiB"),
        ("os.close(1); time.sleep(60)", "no answer within 0.1 s"),
    ],
)
def test_batch_that_does_not_answer(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = program(tmp_path, "sys.stdin.readline()\n" + text)
    limits = ["--seconds", "0.1"] if told.endswith("0.1 s") else []
    options = ["--batch", *limits, "--json", "-k", "one-frame"]
    _, out = run([*options, *command], capsys)
    (result,) = json.loads(out)
    assert told in "; ".join(result["differs"])


BATCH = """
for line in sys.stdin:
    if "{mark}" in open(line.strip(), "rb").read().decode("latin-1"):
        {what}
    print(json.dumps({{"refused": "x"}}), flush=True)
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("sys.exit(5)", "ended with status 5"),
        ("print('half', end='', flush=True); sys.exit(0)", "ended with status 0"),
        ("sys.stdout.write('1\\n2\\n'); sys.stdout.flush()", "more than one line"),
    ],
)
def test_runner_goes_on_after_a_batch_that_failed(
    what: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = program(tmp_path, BATCH.format(mark="encrypted", what=what))
    status, out = run(["--batch", "--json", "-k", "feature-", *command], capsys)
    results = {each["case"]: each for each in json.loads(out)}
    assert status == 1
    assert len(results) == 3
    assert told in results["feature-incompatible"]["differs"][0]
    assert results["feature-compatible"]["differs"] == ["refused: x"]
    assert results["feature-read-compatible"]["differs"] == ["refused: x"]


LATE = """
os.chdir({folder!r})
sys.stdin.readline()
print("{{}}", flush=True)
while not os.path.exists("go"):
    time.sleep(0.001)
print("{{}}", flush=True)
open("gone", "w")
time.sleep(60)
"""


def test_line_too_many_is_not_the_answer_for_the_next_file(tmp_path: Path) -> None:
    command = program(tmp_path, LATE.format(folder=str(tmp_path)))
    with Batch(command, Limits()) as batch:
        assert batch.ask(tmp_path) == {}
        (tmp_path / "go").touch()
        while not (tmp_path / "gone").exists():
            pass
        assert "more than one line" in batch.ask(tmp_path)["failed"]


def test_program_cannot_spoil_the_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil = "open(sys.argv[1], 'r+b').truncate(3); open(sys.argv[1] + '.lock', 'x')"
    shutil.copytree(FOLDER / "one-frame", tmp_path / "vectors" / "a")
    shutil.copytree(FOLDER / "one-frame", tmp_path / "vectors" / "b")
    command = program(tmp_path, spoil + "\nprint('{}')")
    vectors = tmp_path / "vectors"
    _, out = run(["--vectors", str(vectors), "--json", *command], capsys)
    assert [each["answer"] for each in json.loads(out)] == ["read", "read"]
    sound = (FOLDER / "one-frame" / "file.son").read_bytes()
    for name in "ab":
        assert (vectors / name / "file.son").read_bytes() == sound
        assert len(list((vectors / name).iterdir())) == 2


@pytest.mark.parametrize("batch", [(), ("--batch",)])
def test_stops_where_every_case_fails_alike(
    batch: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run([*batch, "-k", "foreign", "/nowhere/reader"], capsys)
    assert status == 1
    assert text.splitlines()[-2].startswith("0 of 6 right")  # fewer than 20
    options = [*batch, "-k", "hostile-tables"]
    status, text = run([*options, "/nowhere/reader"], capsys)
    assert status == 1
    assert text.count("/nowhere/reader cannot be run: No such file") == 20
    assert text.splitlines()[20].startswith("stopped: 20 cases in a row failed alike")
    assert text.splitlines()[21].startswith("0 of 20 right: 0 by reading, 0 by refusing")
    assert text.endswith("\n12 more were not tested\n")
    status, text = run([*options, "--keep-going", "/nowhere/reader"], capsys)
    assert text.count("WRONG") == 32
    assert "stopped" not in text


def test_failures_that_differ_or_do_not_follow_do_not_stop_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
for number, line in enumerate(sys.stdin):
    print({what}, flush=True)
"""
    differ = program(tmp_path, text.format(what="'not JSON %d' % number"))
    _, out = run(["--batch", "-k", "hostile-headers", *differ], capsys)
    assert out.count("WRONG") == 56
    some = program(tmp_path, text.format(what="'{}' if number % 20 == 19 else 'no'"))
    _, out = run(["--batch", "-k", "hostile-headers", *some], capsys)
    assert out.count("WRONG") == 56


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_interrupt_keeps_what_was_found(options: tuple[str, ...], tmp_path: Path) -> None:
    text = f"""
os.chdir({str(tmp_path)!r})
if os.path.exists("second"):
    open("third", "w")
    time.sleep(60)
open("second", "w")
"""
    command = [sys.executable, "-m", "stepson.conformance", *options, "-k", "cuts"]
    with subprocess.Popen(
        [*command, *program(tmp_path, text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "third").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    count = "interrupted\n0 of 1 right: 0 by reading, 0 by refusing"
    if options:
        assert len(json.loads(out)) == 1
        assert count in err
    else:
        assert out.startswith("WRONG  cuts/cut-00000  printed no JSON")
        assert count in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_a_terminal() -> None:
    out, err = io.StringIO(), Terminal()
    report = Report(out, err, total=3)
    report.add(Result("a", True, "read", []), readable=True)
    report.add(Result("b", False, "failed", ["no\x1b[31m\n\ud800"]), readable=True)
    assert out.getvalue() == "WRONG  b  no\\x1b[31m\\n\\ud800\n"  # before the end
    assert err.getvalue().endswith("\r\x1b[K2 of 3, 1 wrong")
    report.end()
    assert err.getvalue().endswith("\r\x1b[K")
    assert not report.all_right


def test_runner_without_vectors_or_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(["--vectors", str(tmp_path), "true"]) == 1
    assert "--vectors" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        runner.main([])
    assert stopped.value.code == 2
    assert runner.main(["--read"]) == 2


def test_read_prints_one_line_where_it_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--read", str(FOLDER / "no-commit" / "file.son")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert runner.main(["--read", "/nowhere/x.son"]) == 1


@pytest.mark.parametrize(
    "odd", [float("nan"), [b"1"], msgpack.ExtType(5, b"1"), msgpack.Timestamp(1)]
)
def test_any_parent_is_json(
    odd: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generated: Any = File
    energy: Any = field_map
    file = generated.created(
        energy("e"), header={"parent": {"uuid": b"1" * 16, "odd": odd}}
    )
    path = tmp_path / "md.son"
    path.write_bytes(file.data)
    assert reading.main([str(path)]) == 0
    parent = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["parent"]
    assert parent["uuid"] == "31" * 16


def test_runner_without_a_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["-k", "nothing-like-it", "true"]) == 1
    assert capsys.readouterr().err == "no case has 'nothing-like-it' in its name: see -k\n"
    (tmp_path / "expect.json").write_text('{"variants": 3}')
    assert runner.main(["--vectors", str(tmp_path), "true"]) == 1
    assert "expect.json: not as" in capsys.readouterr().err
    for wrong in (["--seconds", "nan"], ["--seconds", "0"], ["--memory", "-1"]):
        with pytest.raises(SystemExit):
            runner.main([*wrong, "true"])


def test_limits_that_the_system_does_not_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _ = run(["--memory", str(2**39), "-k", "no-commit", "false"], capsys)
    assert status == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sealed": True}, "sealed"),
        ({"torn_bytes": 1}, "torn_bytes"),
        ({"frames": True}, "frames"),
        ({"fields": {}}, "fields"),
        ({"metadata": None}, "metadata"),
        ({"checkpoints": [{"step": 1, "tree": {}}]}, "checkpoints"),
        ({"checkpoints": None}, "checkpoints"),
        ({"unreadable": [{"field": "x", "first_step": 7, "last_step": 7}]}, "unreadable"),
        ({"append": False}, "append"),
        ({"uuid": None}, "uuid"),
        ({"digest": "0"}, "digest"),
    ],
)
def test_every_key_is_compared(change: dict[str, Any], told: str) -> None:
    (case,) = by_folder()["one-frame"]
    answer = ours(case.folder / "file.son")
    assert judge(case.expectations, answer) == []
    (found,) = judge(case.expectations, {**answer, **change})
    assert found.startswith(told)


def test_every_key_of_a_field_is_compared() -> None:
    (case,) = by_folder()["one-frame"]
    answer = ours(case.folder / "file.son")
    for key in ("dtype", "shape", "unit", "every", "offset", "samples", "steps", "sha256"):
        changed = {**answer["fields"]["x"], key: "other"}
        (found,) = judge(case.expectations, {**answer, "fields": {"x": changed}})
        assert found.startswith(f"field x {key}")


ODD: list[Any] = [3, True, "x", [], {}, [1], [[]], {"x": 3}, {"x": {}}, {"x": []}, None]
ODD += [[{}], [{"field": 1}], [{"field": "x"}], [{"field": "x", "first_step": "a"}]]
ODD += [[{"field": "x", "first_step": 1, "last_step": None}], 1e999, "\ud800"]


def test_malformed_answer_is_wrong_and_nothing_more() -> None:
    (case,) = by_folder()["one-frame"]
    answer = ours(case.folder / "file.son")
    for key in (*case.expectations[0].keys() & answer.keys(), "unreadable", "append"):
        for odd in ODD:
            same = odd == answer[key] and type(odd) is type(answer[key])
            same |= key == "unreadable" and odd is None
            found = judge(case.expectations, {**answer, key: odd})
            assert bool(found) != same, (key, odd)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert judge(case.expectations, {**answer, "metadata": deep}) != []
    while deep:  # one by one: all at once is deep too
        deep = deep.pop()


@pytest.mark.parametrize(
    "text",
    [
        '{"fields": {"x": 3}}',
        '{"fields": {"x": {}}, "unreadable": 3}',
        '{"unreadable": [{"field": 1}]}',
        '{"checkpoints": [1]}',
        '{"refused": "\\ud800\\n"}',
        '{"metadata": "\\ud800\\n"}',
    ],
)
def test_runner_survives_a_malformed_answer(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = program(tmp_path, f"print({text!r})")
    status, out = run(["-k", "one-frame", *command], capsys)
    assert status == 1
    assert out.startswith("WRONG  one-frame")
    assert out.encode()


def test_damaged_data_that_are_returned_are_wrong(scratch: Path) -> None:
    case = next(c for c in by_folder()["hostile-blocks"] if c.name.endswith("runs-twice"))
    sound = next(c for c in by_folder()["hostile-blocks"] if c.name.endswith("/sound"))
    answer = ours(sound.place(scratch))
    assert judge(sound.expectations, answer) == []
    assert judge(case.expectations, answer) != []
    assert judge(case.expectations, {"refused": "damaged"}) == []
    with pytest.raises(FormatError):
        list(cases(Path("nowhere")))
