"""Threads, a cluster, and one thread give the same bits."""

import time
from pathlib import Path

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.parallel import in_order, pool
from tests.gkflux.dask_processes import Dask


def sleepy(item: int) -> int:
    time.sleep(0.02 * (3 - item % 4))
    return item * item


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers: int) -> None:
    with pool(threads=workers) as where:
        assert list(in_order(sleepy, range(12), where)) == [n * n for n in range(12)]


def test_few_items_are_in_flight() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        return item

    with pool(threads=2) as where:
        for done in in_order(work, range(40), where):
            assert max(started) <= done + 4


def test_no_scheduler_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkflux.parallel.TIMEOUT", 0.5)
    with (
        pytest.raises(gkflux.FluxError, match=r"no dask scheduler at tcp://127\.0\.0\.1:9"),
        pool(scheduler="tcp://127.0.0.1:9"),
    ):
        pass


def test_processes_give_the_same_bits(tmp_path: Path) -> None:
    _write(tmp_path / "md.son", 0)
    expected = gkflux.GreenKubo.from_trajectories(tmp_path, threads=1)
    found = gkflux.GreenKubo.from_trajectories(tmp_path, workers=1)
    _same(found, expected)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_the_same_result(tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"{number}.son", number) for number in range(6)]
    expected = gkflux.GreenKubo.from_trajectories(paths)
    dask = Dask(tmp_path)
    try:
        _, victim = dask.workers(2)
        seen: list[int] = []

        def progress(_: str, done: int, __: int) -> None:
            seen.append(done)
            if len(seen) == 2:
                victim.kill()

        for address in (dask.address, str(dask.file)):
            found = gkflux.GreenKubo.from_trajectories(
                paths, scheduler=address, progress=progress
            )
            _same(found, expected)
    finally:
        dask.end()
    assert seen == [1, 2, 3, 4, 5, 6] * 4


def _same(found: gkflux.GreenKubo, expected: gkflux.GreenKubo) -> None:
    assert found.kappa == expected.kappa
    for name, curve in expected.curves.items():
        np.testing.assert_array_equal(found.curves[name], curve, err_msg=name)


def _write(path: Path, seed: int) -> Path:
    noise = np.random.default_rng(seed).normal(size=(30_008, 3))
    flux = np.stack(
        [np.convolve(column, np.ones(9), "valid") for column in noise.T], axis=1
    )
    fields = [
        stepson.Field("heat_flux", "float64", (3,), "eV Å/fs"),
        stepson.Field("temperature", "float64", (), "K"),
    ]
    with stepson.create(
        path,
        fields=fields,
        numbers=[18],
        cell=np.eye(3) * 10,
        timestep=2.0,
        metadata={"ensemble": "nve", "temperature": 300.0},
    ) as out:
        out.extend(
            steps=np.arange(len(flux)),
            heat_flux=flux,
            temperature=np.full(len(flux), 300.0),
        )
    return path
