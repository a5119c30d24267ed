"""A dask cluster as on many machines: every part of it a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gkflux.parallel import connect

__all__ = ["Dask", "until"]

ROOT = Path(__file__).resolve().parents[2]


class Dask:
    """A scheduler and workers, each a process of its own, as `dask` starts them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.children = folder, list["subprocess.Popen[bytes]"]()
        self.file = folder / "scheduler.json"
        words = ["dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1"]
        self._start([*words, "--scheduler-file", str(self.file)], {})
        until(self.file.exists)
        self.address = json.loads(self.file.read_text())["address"]

    def workers(self, count: int = 1, **extra: str) -> "list[subprocess.Popen[bytes]]":
        """Start some, wait until they have joined, and return them."""
        client = connect(self.address)
        before = len(client.nthreads())
        started = [self._worker(extra) for _ in range(count)]
        until(lambda: len(client.nthreads()) == before + count)
        client.close()
        return started

    def _worker(self, extra: dict[str, str]) -> "subprocess.Popen[bytes]":
        words = ["dask_worker", self.address, "--no-nanny", "--nthreads", "1"]
        words += ["--no-dashboard", "--local-directory", str(self.folder)]
        return self._start(words, extra)

    def _start(self, words: list[str], extra: dict[str, str]) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"{len(self.children)}.log").open("wb")
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        env = {"PYTHONPATH": paths, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with log:
            child = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{words[0]}", *words[1:]],
                stdout=log,
                stderr=log,
                env=os.environ | env | extra,
            )
        self.children.append(child)
        return child

    def end(self) -> None:
        for child in self.children:
            child.kill()
        for child in self.children:
            child.wait()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.01)
