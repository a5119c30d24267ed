"""What the README shows and names exists and runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import stepson
from stepson_cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    stepson (\w+)|`stepson (\w+)", TEXT, re.MULTILINE)
LINKS = re.findall(r"\]\(([^)#]+)\)", TEXT)
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_code_prints_the_picture(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert len(CODE) == 2
    run = subprocess.run(
        [sys.executable, "-c", CODE[0]], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (shown,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert _rough(run.stdout) == _rough(shown)


def _write(path: Path, steps: range, parent: stepson.Trajectory | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [stepson.Field("temperature", "float64", (), "K")]
    with stepson.create(path, fields=fields, numbers=[18], parent=parent) as out:
        out.extend(steps=steps, temperature=[40.0 + step for step in steps])


def test_the_code_that_opens_many_files(tmp_path: Path) -> None:
    for i in range(2):
        _write(tmp_path / "runs" / str(i) / "md.son", range(5))
    _write(tmp_path / "first.son", range(5))
    _write(tmp_path / "second.son", range(5, 9), stepson.open(tmp_path / "first.son"))
    _write(tmp_path / "md.son", range(3))
    code = CODE[1].replace("s3://bucket", tmp_path.as_uri())
    code += "assert (len(runs), len(whole), len(far)) == (2, 9, 3)\n"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["0", "40.0", "1", "41.0", "2", "42.0"]


def _rough(picture: str) -> list[str]:
    """The words of a picture without ratios and sizes, which libraries may change."""
    words = re.sub(r"[\d.]+×(?= |$)|[\d.]+ [KM]iB", "", picture, flags=re.MULTILINE)
    return words.split()


@pytest.mark.parametrize("target", sorted(set(LINKS)))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"benchmarks/\w+\.py", TEXT))))
def test_benchmarks_exist(script: str) -> None:
    assert (ROOT / script).is_file()


@pytest.mark.parametrize("command", sorted({"".join(each) for each in COMMANDS}))
def test_commands_exist(command: str) -> None:
    assert command in cli.list_commands(cli.make_context("stepson", ["gk"]))
