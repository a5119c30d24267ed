"""Ctrl-C while everything is still being imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPT = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
ROOT = Path(__file__).resolve().parents[2]


def called(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the command, with the modules of `folder` instead of the real ones."""
    paths = os.pathsep.join(map(str, (folder, ROOT, ROOT / "cli")))
    call = [sys.executable, "-m", "stepson_cli", *words]
    return subprocess.run(
        call, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [("click", ["--help"]), ("numpy", ["info", "x.son"]), ("pydantic", ["run", "x.toml"])],
)
def test_ctrl_c_during_an_import_is_one_line(
    tmp_path: Path, module: str, words: list[str]
) -> None:
    """Of the first module, of one that a command needs, of one that its body needs."""
    (tmp_path / f"{module}.py").write_text(INTERRUPT)
    done = called(tmp_path, *words)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == "stopped"


def test_who_ignores_ctrl_c_is_not_interrupted(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "def hook(event, arguments):\n"
        "    if event == 'import' and arguments[0] == 'click':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(hook)\n"
    )
    done = called(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
