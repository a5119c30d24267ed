"""Leaves: the same bits whoever reads them; what was read before is not read again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux.leaves
from gkflux.conductivity import reduce_runs
from gkflux.correlate import Float
from gkflux.green_kubo import GreenKubo
from gkflux.plan import Settings
from gkflux.runs import Chunk, Part, Run

LEAF = 1 << 12


@pytest.fixture(autouse=True)
def _small_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("leaves", "survey", "sums"):
        monkeypatch.setattr(f"gkflux.{module}.LEAF", LEAF)


@dataclass
class Source:
    """A flux that counts how often it is read."""

    flux: Float
    read: list[int] = field(default_factory=list)

    def __call__(self, start: int, stop: int) -> Iterator[Chunk]:
        self.read.append(stop - start)
        middle = start + (stop - start) // 3
        for a, b in ((start, middle), (middle, stop)):
            steps = np.arange(a, b, dtype=np.int64)
            even = steps[steps % 2 == 0]
            temperature = (even, 300 + np.sin(even / 7.0))
            yield Chunk(steps, self.flux[a:b], {"temperature": temperature})


def series(count: int, seed: int = 0) -> Float:
    noise = np.random.default_rng(seed).normal(size=(count + 8, 3))
    return np.asarray(sum(noise[k : k + count] for k in range(8)))


def run_of(source: Source, count: int, name: str = "a") -> Run:
    return Run(
        name,
        count,
        1,
        2.0,
        source,
        volume=1000.0,
        parts=(Part(name, count),),
        facts={"degrees_of_freedom": 300},
    )


def reduced(*runs: Run, **options: Any) -> GreenKubo:
    return reduce_runs(runs, Settings(), **options)


def same(first: GreenKubo, second: GreenKubo, rtol: float = 0.0) -> None:
    for name, curve in first.curves.items():
        np.testing.assert_allclose(second.curves[name], curve, rtol=rtol, err_msg=name)
    assert second.kappa == pytest.approx(first.kappa, rel=rtol, abs=0)
    assert second.kappa_std == pytest.approx(first.kappa_std, rel=rtol, abs=0)


@pytest.mark.parametrize("holes", [[], [5000], [4095, 4096, 30_001]])
def test_leaves_are_one_shot(holes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    flux = series(50_000)
    flux[holes] = np.nan
    parts = reduced(run_of(Source(flux), 50_000))
    for module in ("leaves", "survey", "sums"):
        monkeypatch.setattr(f"gkflux.{module}.LEAF", 1 << 20)
    whole = reduced(run_of(Source(flux), 50_000))
    assert parts.tau == pytest.approx(whole.tau, rel=1e-9)
    np.testing.assert_allclose(parts.kappa, whole.kappa, rtol=1e-12)
    for name, curve in whole.curves.items():
        scale = np.nanmax(np.abs(curve))
        np.testing.assert_allclose(
            parts.curves[name], curve, atol=1e-12 * scale, err_msg=name
        )


def test_threads_give_the_same_bits() -> None:
    flux = series(60_000)
    same(
        reduced(run_of(Source(flux), 60_000)),
        reduced(run_of(Source(flux), 60_000), threads=3),
    )


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    flux = series(60_000)
    first, again = Source(flux), Source(flux)
    before = reduced(run_of(first, 60_000), states=tmp_path)
    same(before, reduced(run_of(again, 60_000), states=tmp_path))
    assert sum(first.read) == 2 * 60_000
    assert sum(again.read) <= 2 * LEAF  # what is no whole leaf, in both passes


def test_a_trajectory_that_has_grown(tmp_path: Path) -> None:
    flux = series(400_000)
    reduced(run_of(Source(flux), 300_000), states=tmp_path)
    grown = Source(flux)
    found = reduced(run_of(grown, 400_000), states=tmp_path)
    same(reduced(run_of(Source(flux), 400_000)), found, rtol=1e-11)
    assert sum(grown.read) <= 2 * (100_000 + 2 * LEAF)


def test_a_reduction_that_was_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gkflux.leaves, "KEEP_SECONDS", 0.0)
    flux = series(60_000)

    class Killed(Exception):
        pass

    def progress(words: str, done: int, total: int) -> None:
        if "reduced" in words and done > total // 2:
            raise Killed

    with pytest.raises(Killed):
        reduced(run_of(Source(flux), 60_000), states=tmp_path, progress=progress)
    rest = Source(flux)
    found = reduced(run_of(rest, 60_000), states=tmp_path)
    same(reduced(run_of(Source(flux), 60_000)), found)
    assert sum(rest.read) <= LEAF + 60_000 // 2 + 2 * LEAF


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "text"])
def test_states_that_do_not_verify_are_made_anew(tmp_path: Path, harm: str) -> None:
    flux = series(60_000)
    before = reduced(run_of(Source(flux), 60_000), states=tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 2
    for path in kept:
        data = bytearray(path.read_bytes())
        if harm == "flip":
            data[len(data) // 2] ^= 1
        damaged = {"cut": data[:-100], "flip": data, "empty": b"", "text": b"nothing"}
        path.write_bytes(bytes(damaged[harm]))
    again = Source(flux)
    same(before, reduced(run_of(again, 60_000), states=tmp_path))
    assert sum(again.read) == 2 * 60_000


def test_another_trajectory_is_not_believed(tmp_path: Path) -> None:
    reduced(run_of(Source(series(60_000)), 60_000), states=tmp_path)
    shorter = Source(series(60_000, seed=1))
    run = run_of(shorter, 40_000)
    same(reduced(run_of(Source(shorter.flux), 40_000)), reduced(run, states=tmp_path))


def test_other_files_behind_the_first_are_not_believed(tmp_path: Path) -> None:
    """The same number of samples, but the first file has fewer of them than it had."""
    one, other = Source(series(60_000)), Source(series(60_000, seed=1))
    before = replace(run_of(one, 60_000), parts=(Part("a", 30_000), Part("b", 30_000)))
    now = replace(run_of(other, 60_000), parts=(Part("a", 20_000), Part("b", 40_000)))
    reduced(before, states=tmp_path)
    same(reduced(run_of(Source(other.flux), 60_000)), reduced(now, states=tmp_path))
    assert sum(other.read) == 2 * 60_000


def test_runs_are_told_apart(tmp_path: Path) -> None:
    sources = [Source(series(20_000, seed)) for seed in range(3)]
    runs = [run_of(s, 20_000, f"run {n}") for n, s in enumerate(sources)]
    same(reduced(*runs, states=tmp_path), reduced(*runs, states=tmp_path))
    assert len(list(tmp_path.glob("*.npz"))) == 6
    assert all(re.fullmatch(r"[0-9a-f]{24}\.npz", p.name) for p in tmp_path.iterdir())
