"""What a listener is told: speed, drift, a glance at kappa, events."""

import threading
from pathlib import Path

import numpy as np
import pytest

from gkflux.dynamics.live_kappa import CAPACITY, LiveKappa
from gkflux.dynamics.progress import Progress
from gkflux.dynamics.reporting import Header, Reporter
from stepson.units import BOLTZMANN, CONDUCTIVITY
from tests.gkflux.dynamics.runs import TWO_STAGES, perform


def header(**changes: object) -> Header:
    values: dict[str, object] = {
        "stage": "s",
        "stage_index": 0,
        "stage_count": 1,
        "ensemble": "nve",
        "steps": 1000,
        "timestep": 2.0,
        "replicas": 2,
        "n_atoms": 3,
        "system": "Ar3",
        "potential": "p",
        "target": 300.0,
    }
    return Header(**{**values, **changes})  # type: ignore[arg-type]


def test_speed_and_time_left() -> None:
    sent: list[Progress] = []
    reporter = Reporter(header(), sent.append)
    nothing = np.full(2, np.nan)
    reporter.update(100.0, 0, nothing, nothing)
    assert np.isnan(sent[-1].steps_per_second)
    reporter.update(102.0, 500, nothing, nothing)
    assert sent[-1].steps_per_second == 250
    assert sent[-1].seconds_left == 2
    assert sent[-1].ns_per_day == pytest.approx(250 * 2e-6 * 86_400)
    assert sent[-1].time == 1.0


def test_updates_are_due_a_few_times_a_second() -> None:
    reporter = Reporter(header(), None)
    nothing = np.full(2, np.nan)
    assert reporter.due(5.0)
    reporter.update(5.0, 1, nothing, nothing)
    assert not reporter.due(5.1)
    assert reporter.due(5.3)


def test_kappa_of_a_known_process() -> None:
    """An AR(1) process has the spectrum sigma² dt / (1 - a)² at zero frequency."""
    rng, a, sigma, count = np.random.default_rng(1), 0.8, 2.0, 3 * CAPACITY
    noise = rng.normal(scale=sigma, size=(6, count, 3))
    flux = np.zeros_like(noise)
    for k in range(1, count):
        flux[:, k] = a * flux[:, k - 1] + noise[:, k]
    live = LiveKappa(replicas=6, timestep=4.0, volume=1000.0, temperature=300.0)
    assert np.isnan(live.estimate()).all()
    for k in range(count):
        live.add(flux[:, k])
    scale = CONDUCTIVITY / (2 * 1000.0 * BOLTZMANN * 300.0**2)
    exact = scale * 4.0 * sigma**2 / (1 - a) ** 2
    assert live.estimate().mean() == pytest.approx(exact, rel=4 / np.sqrt(6 * 3 * 8))
    assert live.estimate().std() > 0
    again = LiveKappa(replicas=6, timestep=4.0, volume=1000.0, temperature=300.0)
    again.begin(flux[:, : 2 * CAPACITY])
    assert again.estimate().mean() == pytest.approx(exact, rel=4 / np.sqrt(6 * 3 * 8))


def test_a_run_tells_its_stages_and_events(tmp_path: Path) -> None:
    sent: list[Progress] = []
    stop = threading.Event()

    def listen(progress: Progress) -> None:
        sent.append(progress)
        if progress.stage == "cold" and progress.phase == "running":
            stop.set()

    text = TWO_STAGES.replace("= 600", "= 60000")
    summary = perform(tmp_path, text, listener=listen, stop=stop)
    assert summary.interrupted
    phases = [(p.stage, p.phase) for p in sent]
    assert phases[0] == ("warm", "starting")
    assert ("warm", "finished") in phases
    assert phases[-1] == ("cold", "stopped")
    last = sent[-1]
    assert last.committed == last.step == summary.step
    assert last.bytes_written > 0
    assert last.system == "Ar4, 4 atoms"
    assert np.isfinite(sent[-2].temperature).all()
    stop.clear()
    again: list[Progress] = []
    perform(tmp_path, text, listener=again.append, stop=_after(again, stop))
    assert again[0].stage == "cold"
    assert {p.resumed_from for p in again if p.phase == "running"} == {summary.step}


def _after(sent: list[Progress], stop: threading.Event) -> threading.Event:
    """Return an event that is set once something was told while running."""

    class Soon(threading.Event):
        def is_set(self) -> bool:
            return any(p.phase == "running" for p in sent)

    return Soon()
