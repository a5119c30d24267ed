"""`stepson run` for real: the shipped model, a small liquid, signals, and going on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stepson
from stepson_cli.commands.demo import saved_step
from stepson_cli.demos import DEMOS
from stepson_cli.main import main

SHORT = 40
LONG = 100_000


def configure(folder: Path, steps: int) -> Path:
    """Write the demonstration with short stages before its production."""
    for name, text in DEMOS["argon"].files(steps).items():
        short = re.sub(r"^steps = [46]_000$", f"steps = {SHORT}", text, flags=re.MULTILINE)
        short = short.replace("record.every = 100", "record.every = 10")
        (folder / name).write_text(
            short.replace("commit_seconds = 2 ", "commit_seconds = 0.3 ")
        )
    return folder / "argon.toml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is complete; the path of its configuration."""
    config = configure(tmp_path_factory.mktemp("run"), 400)
    assert main(["run", "-q", str(config)]) == 0
    return config


def test_a_run_writes_a_sealed_file_for_every_replica(finished: Path) -> None:
    paths = sorted((finished.parent / "run" / "production").glob("*/md.son"))
    assert [path.parent.name for path in paths] == ["00", "01", "02", "03"]
    for path in paths:
        with stepson.open(path) as trajectory:
            assert trajectory.sealed
            assert trajectory.steps[-1] == 400
            assert len(trajectory["heat_flux"]) == 201


def test_off_a_terminal_it_speaks_plain_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, SHORT)
    assert main(["run", str(config), "--steps", "50"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    starts = [line.split(":")[0] for line in err.splitlines() if "replica" in line]
    assert starts == ["melt", "thermalise", "production"]
    assert "finished after" in out
    assert "next: stepson gk" in out


def test_until_the_error_is_small_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, 400)
    assert main(["run", str(config), "--until-kappa-error", "5%"]) == 0
    shown = capsys.readouterr()
    looks = [line for line in shown.err.splitlines() if line.startswith("! step ")]
    assert len(looks) >= 5
    assert looks[-1].startswith("! step 400: ")
    assert main(["run", str(config), "--until-kappa-error", "0.05"]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("wish", ["0", "5", "100%", "nan", "five", "-3%", ""])
def test_errors_of_kappa_that_mean_nothing(
    finished: Path, wish: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(finished), "--until-kappa-error", wish]) == 2
    assert "is not a percentage such as 5%" in capsys.readouterr().err


def test_a_finished_run_says_so(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(finished)]) == 0
    assert "finished before: nothing to do" in capsys.readouterr().out


def test_other_settings_are_refused_with_the_difference(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("argon.xyz", "argon.toml"):
        text = (finished.parent / name).read_text().replace("seed = 1 ", "seed = 2 ")
        (tmp_path / name).write_text(text)
    folder = str(finished.parent / "run")
    assert main(["run", str(tmp_path / "argon.toml"), "-o", folder]) == 1
    assert re.search(r"system.seed\s+1\s+2", capsys.readouterr().err)


def test_the_result_as_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-q", str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["already_finished"] is True
    assert len(found["files"]) == 6


def test_gk_takes_the_folder_of_a_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished.parent / "run"
    assert main(["gk", str(folder), "-o", str(tmp_path), "-v"]) == 0
    out, err = capsys.readouterr()
    assert "kappa = " in out
    assert f"left out: {folder / 'melt' / 'md.son'}" in err
    result = json.loads((tmp_path / "gk.json").read_text())
    assert len(result["inputs"]) == 4
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "gk.npz").exists()


def test_gk_prints_its_result_as_json(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(finished.parent / "run" / "production" / "00")
    assert main(["gk", folder, "-o", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kappa"] == json.loads((tmp_path / "gk.json").read_text())["kappa"]


def test_gk_refuses_a_folder_without_heat_flux(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    melt = str(finished.parent / "run" / "melt")
    assert main(["gk", melt, "-o", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "heat_flux.every" in err
    assert not list(tmp_path.iterdir())


def started(config: Path) -> "subprocess.Popen[str]":
    """Start a long run in a process of its own, and wait for a commit in its last stage."""
    child = subprocess.Popen(
        [sys.executable, "-m", "stepson_cli.main", "run", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while saved_step(config.parent / "run" / "production") <= 0:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return child


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    config = configure(tmp_path, LONG)
    child = started(config)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 143
    words = " ".join(out.split())
    assert f"go on with: stepson run {config}" in words
    stopped = re.search(r"stopped at step ([\d ]+) of 100 000", words)
    assert stopped is not None
    step = int(stopped[1].replace(" ", ""))
    assert saved_step(tmp_path / "run" / "production") == step


def test_a_killed_run_goes_on_and_ctrl_c_stops_it(tmp_path: Path) -> None:
    config = configure(tmp_path, LONG)
    first = started(config)
    first.kill()
    first.communicate()
    production = tmp_path / "run" / "production"
    saved = saved_step(production)
    second = started(config)
    while saved_step(production) <= saved:
        time.sleep(0.05)
    second.send_signal(signal.SIGINT)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 130
    grouped = f"{saved:,}".replace(",", " ")
    assert f"100 000 steps of 5 fs, from step {grouped}" in " ".join(err.split())


@pytest.mark.slow
def test_the_demonstration(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "stepson_cli.main", "demo", "--steps", "2000"]
    done = subprocess.run(
        [*words, "-o", str(tmp_path / "demo")], capture_output=True, text=True, check=True
    )
    said = " ".join(done.stderr.split())  # lines are wrapped at the width of a terminal
    assert "That was SIGKILL, sent on purpose" in said
    assert "from step" in said
    assert "kappa = " in done.stdout
    assert (tmp_path / "demo" / "report.html").exists()


def test_a_demonstration_that_somebody_kills_says_how_it_goes_on(tmp_path: Path) -> None:
    """As the kernel does when memory runs out: that was not on purpose."""
    words = [sys.executable, "-m", "stepson_cli.main", "demo", "-o", str(tmp_path / "demo")]
    demo = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children")
    while not (child := children.read_text().split()):
        time.sleep(0.01)
    os.kill(int(child[0]), signal.SIGKILL)
    said = "".join(demo.communicate()[1].decode().split())  # a path may be wrapped
    assert demo.returncode == 128 + signal.SIGKILL
    assert f"goesonwith:stepsondemoargon-o{tmp_path}/demo" in said


def test_a_demonstration_never_overwrites_other_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "argon.toml").write_text("mine")
    assert main(["demo", "-o", str(tmp_path)]) == 1
    assert "exists and is different" in capsys.readouterr().err
    assert (tmp_path / "argon.toml").read_text() == "mine"
