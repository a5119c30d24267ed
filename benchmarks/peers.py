"""The same frames in our format and in those of the field, in one run.

    python benchmarks/peers.py [--megabytes 128] [--quick] [--run CONFIG.toml]
                               [--only NAME] [--frames DIR] [--json FILE] [--figure FILE]

Frames: liquid argon, crystalline silicon, and with ``--run`` system and potential of a run
configuration (`datasets`): positions at every step and at every tenth; and positions,
velocities and forces at every step. They are kept in ``--frames``, since they take longer
to make than to measure. Formats: `formats.ALL`. Each format has a process of its own for
each of these, on one core (ours "2 cores": on two), one thread wherever that can be asked
for. A peer that cannot be imported or fails is in the result with the reason.

- ``ratio``: of the raw float32 to the file;
- ``write``, ``scan``: MB of raw float32 a second, of wall time and of CPU time; the best of
  three; written in batches of 128 frames, every frame handed over as an array. Ours is
  checksummed, verified and synced at every commit, the others never sync;
- ``open_ms`` until the number of frames is known; ``frame_ms`` a random frame of an open
  file, median of 50 from different parts of it; ``atom_ms`` one atom in all frames;
- ``*_peak_MiB``: memory that came on top of the frames and the libraries;
- ``error``: the largest of a few frames, Å.

``cut``: how many of 1100 frames of argon can be read one by one when a closed file has lost
its last 700 bytes; when the process that wrote and flushed them was killed; and both.
"""

import argparse
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from datasets import FIELDS, Frames, prepare, prepare_run
from formats import ALL, lost
from numpy.typing import NDArray
from storing import BATCH, Format, Reader, Writer

CUT, CUT_FRAMES = 700, 1100
FRAMES_READ = 50
KINDS = (("cut", False, True), ("killed", True, False), ("killed, cut", True, True))
CORES: list[int] = sorted(os.sched_getaffinity(0))
Array = NDArray[Any]


def erase(path: Path) -> None:
    """A file or a folder, where there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(each.stat().st_size for each in files)


def write(form: Format, path: Path, data: dict[str, Array], system: Any) -> Writer:
    """Write everything in batches; the caller closes."""
    frames = len(data["positions"])
    writer = form.writer(path, data, frames, system)
    for start in range(0, frames, BATCH):
        writer.add({name: each[start : start + BATCH] for name, each in data.items()})
    return writer


def best(work: Callable[[], Any], repeat: int) -> measuring.Watch:
    """The quickest of a few calls."""
    watches = []
    for _ in range(repeat):
        with measuring.Watch() as watch:
            work()
        watches.append(watch)
    return min(watches, key=lambda watch: watch.wall)


def rates(name: str, raw: int, watch: measuring.Watch) -> dict[str, float]:
    """MB/s of wall and of CPU time."""
    return {
        f"{name}_MB_s": raw / watch.wall / 1e6,
        f"{name}_MB_cpu_s": raw / max(watch.cpu, 1e-6) / 1e6,
        f"{name}_cpu_s": watch.cpu,
    }


def measure(number: int, frames: Frames, cores: list[int], repeat: int) -> dict[str, Any]:
    """One format, one set of frames; in a process of its own."""
    form = ALL[number]
    os.sched_setaffinity(0, cores[: form.cores])
    data, system = frames.load(form.most), frames.system
    raw = sum(each.nbytes for each in data.values())
    repeat = 1 if form.most else repeat
    with tempfile.TemporaryDirectory(dir=frames.folder.parent) as name, form.ready():
        path = Path(name) / f"frames{form.suffix}"
        few = {field: each[:2] for field, each in data.items()}
        write(form, path, few, system).close()  # so that everything is imported

        def again() -> None:
            erase(path)
            write(form, path, data, system).close()

        before = measuring.forget_peak()
        result = {
            "frames": len(data["positions"]),
            **rates("write", raw, best(again, repeat)),
        }
        result["write_peak_MiB"] = max(0.0, measuring.memory_MiB() - before)
        result["ratio"] = raw / size_of(path)
        return result | read(form, path, data, repeat)


def read(form: Format, path: Path, data: dict[str, Array], repeat: int) -> dict[str, Any]:
    """Scan, open, single frames, one atom."""
    names = tuple(data)
    raw, count = sum(each.nbytes for each in data.values()), len(data["positions"])

    def scan() -> None:
        reader = form.reader(path, names)
        seen = reader.scan_all()
        reader.close()
        assert seen == reader.frames == count, f"{seen} of {count} frames"

    before = measuring.forget_peak()
    result = rates("scan", raw, best(scan, repeat))
    result["scan_peak_MiB"] = max(0.0, measuring.memory_MiB() - before)
    if form.cores > 1:  # CPU and memory are those of other processes
        result = {"scan_MB_s": result["scan_MB_s"]}
    opened = lambda: form.reader(path, names).close()
    result["open_ms"] = measuring.median_ms(opened, 3 if form.most else 11)
    reader = form.reader(path, names)
    result |= single(reader, data["positions"], 5 if form.most else FRAMES_READ)
    reader.close()
    # peers keep their bounds up to the rounding of float32, or of their text
    allowed = (form.bound or 0) * (1.0 if form.package == "stepson" else 1.01)
    assert result["error"] <= (allowed or 1e-8 * (form.most is not None)), result["error"]
    return result


def single(reader: Reader, wanted: Array, draws: int) -> dict[str, float]:
    """Frames from different parts of the file, in random order; one atom."""
    rng = np.random.default_rng(0)
    edges = np.linspace(0, len(wanted), draws + 1)[:-1]
    picks = (edges + rng.uniform(0, len(wanted) / draws, draws)).astype(int)
    times, error = [], 0.0
    for k in rng.permutation(picks).tolist():
        start = time.perf_counter()
        found = reader.frame(k)
        times.append(time.perf_counter() - start)
        error = max(error, float(np.abs(found - wanted[k].astype("f8")).max()))
    start = time.perf_counter()
    atom = reader.atom(wanted.shape[1] // 2)
    took = time.perf_counter() - start
    assert atom.shape == (len(wanted), 3)
    frame_ms = 1e3 * statistics.median(times)
    return {"frame_ms": frame_ms, "atom_ms": 1e3 * took, "error": error}


def compare(frames: Frames, repeat: int, chosen: list[int]) -> dict[str, Any]:
    """All formats on one set of frames."""
    count, atoms, _ = frames.shape
    table: dict[str, Any] = {}
    for number in chosen:
        form = ALL[number]
        if form.only_positions and len(frames.fields) > 1:
            continue
        try:
            table[form.name] = measuring.fresh(measure, number, frames, CORES, repeat)
        except Exception as error:  # of a peer: part of the result
            table[form.name] = {"failed": str(error)[:200]}
        row = table[form.name]
        measuring.tell(f"  {form.name}: {measuring.rounded(row)}")
    raw = count * atoms * 12 * len(frames.fields)
    return {"atoms": atoms, "frames": count, "raw_MB": raw / 1e6, "formats": table}


def _store(number: int, frames: Frames, path: Path, die: bool) -> None:
    data = frames.load(min(CUT_FRAMES, ALL[number].most or CUT_FRAMES))
    writer = write(ALL[number], path, data, frames.system)
    if die:
        writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    writer.close()


def _count(number: int, frames: Frames, path: Path) -> dict[str, Any]:
    wanted = frames.load(min(CUT_FRAMES, ALL[number].most or CUT_FRAMES))["positions"]
    try:
        reader = ALL[number].reader(path, ("positions",))
    except Exception as error:  # whatever a library raises
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        return {"frames": len(wanted), "readable": 0, "error": reason}
    bound = (ALL[number].bound or 0) + 1e-5
    return {"frames": len(wanted), **lost(reader, wanted, bound)}


def survive(
    number: int, frames: Frames, folder: Path, die: bool, cut: bool
) -> dict[str, Any]:
    """What is left when the writer was killed, when the file is cut."""
    path = folder / f"cut{ALL[number].suffix}"
    erase(path)
    try:
        measuring.fresh(_store, number, frames, path, die)
    except BrokenProcessPool:
        assert die
    except Exception as error:  # of a peer that is not there
        return {"failed": str(error)[:200]}
    if cut:
        files = [path, *(p for p in path.rglob("*") if p.name != "zarr.json")]
        files = [each for each in files if each.is_file()]
        newest = max(files, key=lambda each: each.stat().st_mtime_ns)
        with newest.open("r+b") as file:
            file.truncate(newest.stat().st_size - CUT)
    try:
        found: dict[str, Any] = measuring.fresh(_count, number, frames, path)
    except BrokenProcessPool:
        found = {"readable": 0, "error": "the reader crashes"}
    return found


def ratio(result: dict[str, Any], data: str, ours: str, theirs: str | None = None) -> float:
    """Of sizes: raw, or another format, to ours."""
    table = result["datasets"][data]["formats"]
    none = {"ratio": float("nan")}
    other = table.get(theirs, none).get("ratio", float("nan")) if theirs else 1.0
    return float(table.get(ours, none).get("ratio", float("nan")) / other)


LOSSLESS, AT_XTC, FINE = "stepson lossless", "stepson 5e-3 Å", "stepson 1e-4 Å"
GOALS = {
    "argon": (5.0, 5.0, 14.0),
    "silicon": (2.5, 4.5, None),
    "network": (2.1, None, 9.0),
}


def targets(
    result: dict[str, Any], names: list[str], network: str | None
) -> list[dict[str, Any]]:
    """What is to be reached, and what is."""
    rows: list[tuple[str, float, float | None]] = []
    for name in names:
        lossless, xtc, text = GOALS["network" if name == network else name]
        fine, coarse = f"{name}, every step", f"{name}, every 10th step"
        record = f"{name}, with velocities and forces"
        rows += [
            (f"{fine}: lossless to raw", ratio(result, fine, LOSSLESS), lossless),
            (f"{coarse}: lossless to raw", ratio(result, coarse, LOSSLESS), None),
            (f"{fine}: XTC to ours", ratio(result, fine, AT_XTC, "XTC (mdtraj)"), xtc),
            (
                f"{record}: text to lossless",
                ratio(result, record, LOSSLESS, "text .son"),
                text,
            ),
            (f"{record}: text to bounded", ratio(result, record, FINE, "text .son"), None),
        ]
        one, two = (
            result["datasets"][fine]["formats"][AT_XTC + x] for x in ("", ", 2 cores")
        )
        rows += [
            (f"{fine}: write, bounded, MB/s", one["write_MB_cpu_s"], 350),
            (f"{fine}: scan, MB/s", one["scan_MB_cpu_s"], 500),
            (f"{fine}: scan on 2 cores", two["scan_MB_s"] / one["scan_MB_s"], 1.8),
        ]
    return [
        {"what": what, "measured": value, "at_least": goal}
        | ({} if goal is None else {"met": value >= goal})
        for what, value, goal in rows
        if value == value  # a peer was not there
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=128.0, help="raw, of positions")
    parser.add_argument("--quick", action="store_true", help="few atoms and frames, once")
    parser.add_argument("--run", type=Path, help="also system and potential from here")
    parser.add_argument("--only", default="", help="formats whose name holds this")
    usual = Path(tempfile.gettempdir()) / "stepson-benchmarks"
    parser.add_argument("--frames", type=Path, default=usual, help="kept here")
    parser.add_argument("--json", type=Path, help="also write the result here")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    measuring.one_thread()
    options.frames.mkdir(parents=True, exist_ok=True)
    size, repeats = (0.2, 2) if options.quick else (options.megabytes, 0)
    names = ("argon",) if options.quick else ("argon", "silicon")
    sets = [prepare(name, options.frames, size, repeats=repeats) for name in names]
    if options.run:
        sets.append(prepare_run(options.run, options.frames, size))
    os.sched_setaffinity(0, CORES[:1])
    numbers = [i for i, form in enumerate(ALL) if options.only in form.name]
    result = run(sets, 1 if options.quick else 3, numbers)
    network = sets[-1].name if options.run else None
    result["targets"] = targets(result, [each.name for each in sets], network)
    measuring.report(measuring.rounded(result), options.json)
    if options.figure:
        from peers_figure import draw

        draw(result["datasets"]["argon, every step"], options.figure)


def run(sets: list[Frames], repeat: int, numbers: list[int]) -> dict[str, Any]:
    """Formats of these numbers on all sets of frames."""
    began = time.perf_counter()
    packages = {form.package for form in ALL} | {"numpy", "blosc2"}
    result: dict[str, Any] = {"machine": measuring.machine(*sorted(packages))}
    result["datasets"] = tables = {}
    for frames in sets:
        for label, which in (
            ("every step", frames),
            ("every 10th step", frames.every(10)),
            ("with velocities and forces", frames.of(*FIELDS)),
        ):
            measuring.tell(f"{frames.name}, {label}")
            tables[f"{frames.name}, {label}"] = compare(which, repeat, numbers)
    result["cut"] = {}
    with tempfile.TemporaryDirectory() as name:
        for number in (n for n in numbers if ALL[n].cores == 1):
            result["cut"][ALL[number].name] = {
                kind: survive(number, sets[0], Path(name), die, cut)
                for kind, die, cut in KINDS
            }
    return {**result, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
