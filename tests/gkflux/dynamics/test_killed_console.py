"""The command itself, killed again and again, with a real network, as a user sees it."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gkflux.dynamics.runs import assert_same_files

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.mark.slow
def test_a_killed_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    text = (EXAMPLES / "argon-40K.toml").read_text()
    text = text.replace("50_000", "3_000").replace("10_000", "1_000")
    text = text.replace("[output]", "[output]\ncommit_seconds = 0.2")
    (tmp_path / "argon.xyz").write_text((EXAMPLES / "argon.xyz").read_text())
    config = tmp_path / "run.toml"
    config.write_text(text)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    began = time.monotonic()
    assert command(config, whole).wait() == 0
    span = time.monotonic() - began
    rng, kills = random.Random(3), 0
    while kills < 20:
        child = command(config, broken)
        try:
            assert child.wait(timeout=rng.uniform(0, span)) == 0
            break
        except subprocess.TimeoutExpired:
            child.kill()
            assert child.wait() == -signal.SIGKILL
            kills += 1
    assert kills > 1
    assert command(config, broken).wait() == 0
    assert_same_files(whole, broken)


def command(config: Path, folder: Path) -> "subprocess.Popen[bytes]":
    call = [sys.executable, "-m", "stepson_cli.main", "run", str(config), "-o", str(folder)]
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        call,
        env={"PYTHONPATH": f"{root}:{root / 'cli'}", "NUMBA_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
