"""`stepson flux`: what it says and leaves behind, signals, exit codes, errors."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.theme import Theme

import stepson
from gkflux.recompute import Recomputed
from stepson_cli.main import main
from stepson_cli.terminal import PALETTE
from stepson_cli.views.flux import report
from tests.gkflux.stored_frames import at_the_frames, column, copied, stored


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of argon; the path of its trajectory."""
    return stored(tmp_path_factory.mktemp("run"), lattice=True, steps=2000, every=2)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "\x1b" not in out + err
    return out + err


def test_one_command_and_then_green_kubo(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "flux.son"
    assert main(["flux", str(run), "-o", str(out)]) == 0
    text = said(capsys)
    assert f"{out}: 1 001 frames of {run}" in text
    assert "argon.safetensors, semilocal, gauge of the lattice, a frame every 8" in text
    assert f"next: stepson gk {out}" in text
    expected = at_the_frames(run, "heat_flux")
    np.testing.assert_allclose(column(out, "heat_flux"), expected, rtol=1e-12, atol=1e-15)
    assert main(["gk", "-q", "--json", str(out), "-o", str(tmp_path / "gk")]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["flux", str(run), "-o", str(out)]) == 0
    assert "finished before, nothing left to do" in said(capsys)


def test_a_folder_gives_a_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = slice(0, 80)
    for name, ensemble in (("00", "nve"), ("01", "nve"), ("warm", "langevin")):
        (tmp_path / "in" / name).mkdir(parents=True)
        told = {"ensemble": ensemble}
        copied(run, tmp_path / "in" / name / "md.son", keep=few, metadata=told)
    words = ["flux", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--json", "-v"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "warm/md.son, a langevin stage" in err
    assert [entry["computed"] for entry in json.loads(out)] == [80, 80]
    made = sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/*/*"))
    assert made == ["00/md.son", "01/md.son"]


def test_by_default_it_lies_beside_the_trajectory(run: Path, tmp_path: Path) -> None:
    copied(run, tmp_path / "md.son", keep=slice(0, 80))
    assert main(["flux", "-q", str(tmp_path / "md.son"), "--workers", "1"]) == 0
    assert len(stepson.open(tmp_path / "md.flux.son")) == 80


def test_an_interrupted_one_says_how_to_go_on(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "flux.son"
    code = (
        "import sys, time\n"
        "from gkflux.recompute import flux, source\n"
        "source.PIECE_FRAMES, write = (20, 20), flux.write\n"
        "flux.write = lambda *a: (write(*a), time.sleep(0.1))\n"
        "from stepson_cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, "flux", str(run), "-o", str(out)],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None and not out.exists():
        time.sleep(0.01)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    text, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in err
    assert "the same command goes on from here" in text
    with stepson.open(out) as found:
        assert not found.sealed
        assert 0 < len(found) < 1001
    assert main(["flux", "-q", str(run), "-o", str(out)]) == 0
    assert len(column(out, "heat_flux")) == 1001


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nix.son"], "nix.son: no such file"),
        (["RUN", "--formulation", "virial"], "'virial' is none of semilocal, local, hardy"),
        (["RUN", "--gauge", "x"], "gauge 'x' is none of none, lattice"),
        (["RUN", "--model", "nix.torch"], "no model file nix.torch"),
        (["RUN", "-o", "RUN"], "is the trajectory itself"),
        (["RUN", "-o", "/proc/flux.son"], "/proc/flux.son cannot be created"),
        (["RUN", "--lattice", "nix.in"], "no structure file nix.in"),
        (["RUN", "RUN", "-o", "out"], "is given twice"),
        (["RUN", "--scheduler", "tcp://127.0.0.1:9"], "no dask scheduler"),
    ],
)
def test_every_mistake_is_one_line(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    line: str,
) -> None:
    monkeypatch.setattr("gkflux.parallel.TIMEOUT", 0.5)
    monkeypatch.chdir(tmp_path)
    assert main(["flux", *(str(run) if word == "RUN" else word for word in words)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("Error: ")
    assert line in err
    assert list(tmp_path.iterdir()) == []


def test_frames_too_far_apart_need_force(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = copied(run, tmp_path / "coarse.son", keep=slice(None, None, 100))
    out = tmp_path / "flux.son"
    assert main(["flux", str(coarse), "-o", str(out)]) == 1
    text = said(capsys)
    assert "frames are 800 fs apart" in text
    assert "it needs a frame every 2" in text
    with pytest.warns(UserWarning, match="800 fs apart"):
        assert main(["flux", str(coarse), "-o", str(out), "--force"]) == 0


def drawn(*results: Recomputed, width: int = 100) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, theme=Theme(dict(PALETTE)))
    console.print(report(results, following="stepson gk flux"))
    return stream.getvalue()


def done(**changes: object) -> Recomputed:
    values: dict[str, object] = {
        "source": "md.son",
        "target": "flux.son",
        "frames": 2_500_001,
        "computed": 1_000_000,
        "seconds": 3725.0,
        "spacing": 8.0,
        "formulation": "semilocal",
        "gauge": "none",
        "convective": True,
        "model": "model.torch",
        "finished": True,
    }
    return Recomputed(**{**values, **changes})  # type: ignore[arg-type]


def test_the_report() -> None:
    text = drawn(done())
    assert (
        "flux.son: 1 000 000 frames of md.son in 1:02 h (268 frames/s), 2 500 001" in text
    )
    assert "model.torch, semilocal, no gauge, convective, a frame every 8" in text
    assert text.endswith("next: stepson gk flux\n")
    assert "atom 7 left its site at step 4 000" in drawn(
        done(hop={"step": 4000, "atom": 7})
    )
    stopped = drawn(done(finished=False))
    assert stopped.endswith("stopped; the same command goes on from here\n")
    assert "next" not in stopped
