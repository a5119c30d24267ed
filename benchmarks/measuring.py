"""What the benchmarks share: the machine, memory, times, counted reads, fresh processes,
options and results.

Memory is the high-water mark of resident memory (``VmHWM``) and not ``ru_maxrss``: that one
survives ``exec``, so a child would show the memory of whoever started it.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stepson.source import Source

MEBI = 2**20
STATUS = Path("/proc/self/status")


def machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, Python, and the versions of some packages."""
    cpu = platform.processor() or platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "memory_GiB": round(memory / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: installed(name) for name in packages},
    }


def installed(package: str) -> str | None:
    """Its version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def memory_MiB(which: str = "VmHWM") -> float:
    """Of this process: ``VmHWM``, the most so far, or ``VmRSS``, now."""
    for line in _lines(STATUS):
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    return float("nan")


def forget_peak() -> float:
    """Let ``VmHWM`` start again from what is resident now, and return that, MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_MiB("VmRSS")


def forget_pages(path: Path) -> None:
    """Drop a file's pages from the cache, as after a reboot."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def fresh(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call something of a module in a process of its own, and return what it returns."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_silence) as pool:
        done, found = pool.submit(_call, work, *args, **kwargs).result()
    if not done:
        raise RuntimeError(found)
    return found


def _call(work: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[bool, Any]:
    """Errors as text: not every one can be sent to another process."""
    try:
        return True, work(*args, **kwargs)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"


def _silence() -> None:
    """Some C libraries print what they find."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def one_thread() -> None:
    """Ask every library for one thread, in processes that `fresh` starts from now on."""
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ["BLOSC_NTHREADS"] = "1"


class Watch:
    """Wall and CPU seconds of what stands in its ``with``; several add up."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> "Watch":
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


def median_ms(work: Callable[[], object], repeat: int) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def quickest(work: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Shortest CPU time of a few calls, s, and the last result."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return min(times), result


def speeds(raw: int, size: int, write: float, read: float) -> dict[str, float]:
    """Bytes raw and stored, seconds to write and to read: ratio and MB/s of raw."""
    return {
        "ratio": round(raw / size, 2),
        "write_MB_s": round(raw / write / 1e6),
        "read_MB_s": round(raw / read / 1e6),
    }


class Counting:
    """A source that counts reads and bytes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.reads = self.bytes = 0

    @property
    def size(self) -> int:
        """Bytes there are."""
        return self._source.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Read, and count."""
        data = self._source.read_at(offset, length)
        self.reads, self.bytes = self.reads + 1, self.bytes + len(data)
        return data

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()


def parser(about: str) -> argparse.ArgumentParser:
    """Options of a script: ``--json``; the first line of `about` is its help."""
    options = argparse.ArgumentParser(description=about.splitlines()[0])
    options.add_argument("--json", type=Path, help="also write the result here")
    return options


def report(result: Any, path: Path | None) -> None:
    """Print as JSON, and write it where asked."""
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")


def tell(line: str) -> None:
    """Progress, beside the result."""
    print(line, file=sys.stderr, flush=True)


def rounded(value: Any, digits: int = 3) -> Any:
    """Floats in nested results to a few significant digits."""
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
