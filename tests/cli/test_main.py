"""Exit codes, help, and errors that become one line."""

import errno
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from stepson.errors import DamagedError, SchemaError, StepsonError
from stepson_cli import main as module
from stepson_cli.main import COMMANDS, cli, explain, main

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ("torch", "rich", "dask", "numpy", "ase", "blosc2", "stepson", "gkflux")


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Expect exit status 1, nothing on stdout, one line on stderr; return the line."""
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("Error: ")
    return err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: stepson {name}" in out
    assert f"  stepson {name} " in out.split("Examples:")[1]
    assert "--quiet" in out
    assert "--verbose" in out


def test_the_group_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stepson {version('stepson')}\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run"], ["info", "--nonsense"], ["run", "x.toml", "--steps", "a"]],
)
def test_a_wrong_command_line_exits_with_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Usage: stepson" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from stepson_cli.main import COMMANDS, main\n"
        "for words in ([], *([name] for name in COMMANDS)):\n"
        "    assert main([*words, '--help']) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"


@click.command()
@click.argument("kind")
def raising(kind: str) -> None:
    """Raise what a command may raise."""
    raise {
        "ours": SchemaError("positions have 3 atoms, expected 4; give all of them"),
        "damaged": DamagedError("a chunk", offset=64, field="energy", steps=(1, 2)),
        "full": OSError(errno.ENOSPC, "x", "md.son"),
        "in the way": NotADirectoryError(errno.ENOTDIR, "x", "out/warm"),
        "memory": MemoryError("Unable to allocate 7 TiB"),
        "denied": PermissionError(errno.EACCES, "x", "out"),
        "missing": ModuleNotFoundError("no", name="torch.nn"),
        "stopped": KeyboardInterrupt(),
        "bug": ZeroDivisionError("1/0"),
        "our own import": ModuleNotFoundError("no", name="stepson_cli.nonsense"),
    }[kind]


@pytest.fixture
def _raising(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cli", raising)


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ours", ["positions have 3 atoms", "give all of them"]),
        ("damaged", ["'energy'", "byte 64", "stepson verify"]),
        ("full", ["md.son: no space left on device", "free some space"]),
        ("denied", ["out: permission denied", "-o"]),
        ("missing", ["torch", "pip install 'stepson[md]'"]),
        ("in the way", ["out/warm: not a directory", "-o"]),
        ("memory", ["out of memory: Unable to allocate 7 TiB;", "fewer atoms"]),
    ],
)
def test_errors_that_a_user_can_cause_are_one_line(
    kind: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails([kind], capsys)
    assert all(word in line for word in words)


@pytest.mark.usefixtures("_raising")
@pytest.mark.parametrize("kind", ["bug", "our own import"])
def test_a_bug_keeps_its_traceback(kind: str) -> None:
    with pytest.raises((ZeroDivisionError, ModuleNotFoundError)):
        main([kind])


@pytest.mark.usefixtures("_raising")
def test_ctrl_c_exits_as_shells_expect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stopped"]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_a_reader_that_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "stepson_cli.main", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_errors_are_explained_for_everything_in_the_tree() -> None:
    assert explain(StepsonError("x")) == "x"
    assert explain(ValueError("x")) is None
    assert explain(OSError("a library raised this without a number")) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["none.toml", "cannot be read"]),
        ("[system", ["none.toml"]),
        ("[system]\nstructur = 'a'\n", ["none.toml", "structur"]),
    ],
)
def test_configurations_that_are_wrong_are_one_line(
    text: str | None, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.toml"
    if text is not None:
        path.write_text(text)
    line = fails(["run", str(path)], capsys)
    assert all(word in line for word in words)


def test_commands_are_imported_one_at_a_time() -> None:
    context = click.Context(cli)
    assert cli.get_command(context, "no such command") is None
    assert cli.list_commands(context) == list(COMMANDS)


def test_every_library_of_the_physics_is_explained_where_it_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["optional-dependencies"]["md"]:
        (name,) = re.findall(r"^\w+", requirement)
        assert "stepson[md]" in str(explain(ModuleNotFoundError(name=name)))
