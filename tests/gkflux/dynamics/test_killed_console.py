"""The command itself, killed again and again, with a real network, as a user sees it."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gkflux.dynamics.runs import assert_same_files

ROOT = Path(__file__).resolve().parents[3]
KILLS = 24


@pytest.mark.slow
def test_a_killed_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """At random moments, from the imports to the seal; when it ends, it begins anew."""
    text = (ROOT / "examples" / "argon-40K.toml").read_text()
    text = text.replace("50_000", "3_000").replace("10_000", "1_000")
    text = text.replace("[output]", "[output]\ncommit_seconds = 0.2")
    (tmp_path / "argon.xyz").write_text((ROOT / "examples" / "argon.xyz").read_text())
    config = tmp_path / "run.toml"
    config.write_text(text)
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert command(config, whole).wait() == 0
    span = time.monotonic() - began
    rng, kills, folders = random.Random(3), 0, 1
    folder = tmp_path / "0"
    while kills < KILLS:
        child = command(config, folder)
        try:
            assert child.wait(timeout=rng.uniform(0, span)) == 0
        except subprocess.TimeoutExpired:
            child.kill()
            assert child.wait() == -signal.SIGKILL
            kills += 1
        else:
            assert_finished(whole, folder)
            folder = tmp_path / str(folders)
            folders += 1
    assert command(config, folder).wait() == 0
    assert_finished(whole, folder)


def assert_finished(whole: Path, folder: Path) -> None:
    """The same bytes in every field, and nothing else in the folder."""
    assert_same_files(whole, folder)
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {"md.son"}


def command(config: Path, folder: Path) -> "subprocess.Popen[bytes]":
    call = [sys.executable, "-m", "stepson_cli.main", "run", str(config), "-o", str(folder)]
    return subprocess.Popen(
        call,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}", "NUMBA_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
