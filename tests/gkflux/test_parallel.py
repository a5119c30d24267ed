"""Threads, a cluster, and one thread give the same bits."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gkflux
import stepson
from gkflux.parallel import in_order, pool


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


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_the_same_result(tmp_path: Path) -> None:
    from dask import distributed

    paths = [_write(tmp_path / f"{number}.son", number) for number in range(6)]
    expected = gkflux.GreenKubo.from_trajectories(paths)
    cluster: Any = distributed.LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
    )
    with cluster:
        seen: list[int] = []

        def progress(_: str, done: int, __: int) -> None:
            seen.append(done)
            if len(seen) == 2:
                next(iter(cluster.workers.values())).process.process.kill()

        found = gkflux.GreenKubo.from_trajectories(
            paths, scheduler=cluster.scheduler_address, progress=progress
        )
    assert found.kappa == expected.kappa
    np.testing.assert_array_equal(
        found.curves["autocorrelation"], expected.curves["autocorrelation"]
    )
    assert seen == [1, 2, 3, 4, 5, 6] * 2


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
