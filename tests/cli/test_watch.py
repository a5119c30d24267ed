"""`stepson watch`: a look at files that somebody else writes."""

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.theme import Theme

import stepson
from gkflux.history import History
from stepson_cli.commands import watch
from stepson_cli.main import main
from stepson_cli.terminal import PALETTE
from stepson_cli.views.watch import Watched, dashboard, status

FIELDS = (
    stepson.Field("temperature", "float64", (), "K"),
    stepson.Field("energy", "float64", (), "eV"),
    stepson.Field("energy_kinetic", "float64", (), "eV"),
    stepson.Field("heat_flux", "float64", (3,), "eV Å/fs"),
)


def begin(path: Path, *, stage: int = 0, steps: int = 20_000) -> stepson.Writer:
    path.parent.mkdir(parents=True, exist_ok=True)
    return stepson.create(
        path,
        fields=FIELDS,
        numbers=[18] * 4,
        cell=np.eye(3) * 10,
        timestep=2.0,
        metadata={
            "ensemble": "nve",
            "temperature": 300.0,
            "stage": {"name": "production", "index": stage, "steps": steps},
        },
    )


def write(out: stepson.Writer, start: int, stop: int) -> None:
    noise = np.random.default_rng(start).normal(size=(stop - start + 8, 3))
    flux = sum(noise[k : k + stop - start] for k in range(8))
    steps = np.arange(start, stop)
    out.extend(
        steps,
        temperature=300 + np.sin(steps / 50),
        energy=-5.0 + 1e-7 * np.cos(steps / 500),
        energy_kinetic=np.full(len(steps), 0.155),
        heat_flux=flux,
    )
    out.commit()


def test_one_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with begin(tmp_path / "run" / "md.son") as out:
        write(out, 0, 12_000)
        assert main(["watch", str(tmp_path / "run"), "--once"]) == 0
    text = capsys.readouterr().out
    assert "1 file" in text
    assert "step 11 999 of 20 000, 24.0 ps" in text
    assert "temperature, K" in text
    assert "neV/atom" in text
    assert "cumulative kappa" in text
    assert "\nkappa = " in text


def test_before_there_is_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with begin(tmp_path / "md.son") as out:
        out.commit()
        assert main(["watch", str(tmp_path / "md.son")]) == 0
    text = capsys.readouterr().out
    assert "no temperature and no energy recorded yet" in text
    assert "no kappa yet: " in text


def test_the_stage_that_was_begun_last(tmp_path: Path) -> None:
    for name, stage in (("melt", 0), ("production", 2), ("thermalise", 1)):
        with begin(tmp_path / name / "00" / "md.son", stage=stage) as out:
            write(out, 0, 10)
    found = watch._last_stage((str(tmp_path),))
    assert found == [tmp_path / "production" / "00" / "md.son"]


def test_it_ends_when_the_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "md.son"
    out = begin(path, steps=999)
    write(out, 0, 100)
    seen: list[int] = []
    look = watch._Watcher.look

    def looked(self: watch._Watcher) -> Watched:
        found = look(self)
        seen.append(found.history.steps[0])
        return found

    def finish() -> None:
        while len(seen) < 3:
            time.sleep(0.01)
        write(out, 100, 1000)
        out.close()

    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(watch._Watcher, "look", looked)
    monkeypatch.setattr(watch, "SETTLED", 0.2)
    monkeypatch.setattr("sys.stderr", stream)
    other = threading.Thread(target=finish)
    other.start()
    try:
        assert main(["watch", str(path), "--every", "0.1"]) == 0
    finally:
        other.join()
    assert seen[-1] == 999
    assert "step 99 of 999" in stream.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_it_fits(tmp_path: Path, width: int) -> None:
    with begin(tmp_path / "md.son") as out:
        write(out, 0, 3000)
    history = History.of([tmp_path / "md.son"])
    history.update()
    seen = Watched("argon", history, 12.0, None, "run longer")
    stream = io.StringIO()
    console = Console(file=stream, width=width, theme=Theme(dict(PALETTE)))
    console.print(dashboard(seen, width=width))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "last written 12 s ago" in status(seen).plain
    beside = [line for line in lines if "temperature" in line and "energy" in line]
    assert bool(beside) == (width >= 72)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.son"], "missing.son: no such file"),
        (["."], "no such file"),
        (["md.son", "--every", "0"], "0"),
        ([], "Missing argument"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", *arguments]) in (1, 2)
    assert words in capsys.readouterr().err
