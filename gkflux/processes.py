"""Workers of a dask cluster, as processes of this machine.

They are started in sessions of their own, so that Ctrl-C reaches only the one that asked
for them; it tells them to stop. If that one dies, its scheduler dies with it, and the
workers end what they do and themselves.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gkflux.errors import FluxError

__all__ = ["cores", "processes", "quiet"]

START = 60.0
"""Seconds that a worker process may take to start."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep dask from logging: that a worker died is said by us, where it matters."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def processes(count: int, *, device: str = "cpu") -> Iterator[str]:
    """Have a scheduler in this process, and workers beside it, for the time of a `with`.

    Args:
        count: of worker processes; they share the cores.
        device: ``cuda``: each has a GPU of its own, as far as there are any.

    Yields:
        the address of the scheduler, on loopback.

    Raises:
        FluxError: a process does not start.
    """
    from dask import distributed

    cluster: Any = distributed.LocalCluster  # untyped
    with (
        TemporaryDirectory(
            prefix="stepson-workers-", ignore_cleanup_errors=True
        ) as scratch,
        cluster(
            n_workers=0,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as here,
    ):
        children: list[subprocess.Popen[bytes]] = []
        try:
            # one by one: those that run are ended when the next cannot be started
            for number in range(count):
                child = _start(here.scheduler_address, Path(scratch), number, count, device)
                children.append(child)
            _wait_for_all(here, children, Path(scratch))
            yield str(here.scheduler_address)
        finally:
            _end(children)


def _start(
    address: str, scratch: Path, number: int, count: int, device: str
) -> "subprocess.Popen[bytes]":
    threads = max(1, cores() // count)
    call = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny"]
    call += ["--nthreads", str(threads), "--memory-limit", "0", "--no-dashboard"]
    call += ["--death-timeout", "30", "--local-directory", str(scratch)]
    with (scratch / f"{number}.log").open("wb") as log:
        return subprocess.Popen(
            call,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | _threads(threads) | _gpu(number, device),
            start_new_session=True,
        )


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _threads(count: int) -> dict[str, str]:
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {name: str(count) for name in (*names, "OPENBLAS_NUM_THREADS")}


def _gpu(number: int, device: str) -> dict[str, str]:
    """Give each worker a GPU of its own, as far as there are any."""
    if device != "cuda":
        return {}
    import torch

    known = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = list(map(str, range(torch.cuda.device_count())))
    names = known.split(",") if known else found
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]} if names else {}


def _wait_for_all(here: Any, children: "list[subprocess.Popen[bytes]]", logs: Path) -> None:
    deadline = time.monotonic() + START
    while len(here.scheduler.workers) < len(children):
        for number, child in enumerate(children):
            if child.poll() is not None:
                lines = (logs / f"{number}.log").read_text(errors="replace").split("\n")
                last = next((line for line in reversed(lines) if line.strip()), "no word")
                raise FluxError(f"a worker process ended when it should start: {last}")
        if time.monotonic() > deadline:
            raise FluxError(
                f"only {len(here.scheduler.workers)} of {len(children)} worker processes "
                f"have started in {START:.0f} s; ask for fewer with --workers"
            )
        time.sleep(0.05)


def _end(children: "list[subprocess.Popen[bytes]]") -> None:
    """Their batches are over: nothing is lost with them."""
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
