"""What it costs to open a file of 1 TiB: finished, killed, and to go on writing.

    python benchmarks/open_time.py [--json FILE]

The file has 2000 commits with 16 frames of heat flux each, and in the middle a record of
1 TiB that was never written (a hole: the file system must know sparse files). Wall times,
medians of 21, the file in the page cache; bytes and reads are counted at the source.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measuring
import numpy as np

import stepson
from stepson.records import pack_head, padded
from stepson.source import LocalFile, LocalSink
from stepson.trajectory import Trajectory

HOLE = 2**40
PRIVATE = 0x8001
COMMITS, FRAMES = 2000, 16
TORN = 500


def make(path: Path) -> None:
    """Write commits, a hole, commits; and close the file."""
    flux = np.random.default_rng(0).normal(size=(FRAMES, 3))
    field = stepson.Field("heat_flux", "float64", (3,), "eV Å/fs")
    writer = stepson.create(
        path,
        fields=[field],
        numbers=[18] * 1500,
        masses=[39.95] * 1500,
        pbc=False,
        commit="manual",
        threaded=False,
    )
    for commit in range(COMMITS):
        if commit == COMMITS // 2:
            _add_hole(writer)
        first = commit * FRAMES
        writer.extend(steps=range(first, first + FRAMES), heat_flux=flux)
        writer.checkpoint({"positions": np.zeros((1500, 3)), "commit": commit})
        writer.commit()
    writer.close()


def _add_hole(writer: stepson.Writer) -> None:
    appender, sink = writer._appender, writer._appender.sink
    assert isinstance(sink, LocalSink)
    appender._open_transaction()
    head = pack_head(PRIVATE, b"", HOLE, appender._sequence)
    sink.write([head])
    appender.size += padded(len(head) + HOLE)
    os.truncate(sink.descriptor, appender.size)
    appender._sequence += 1
    writer.commit()


def milliseconds(work: Callable[[], object]) -> float:
    """Median wall time."""
    return round(measuring.median_ms(work, 21), 3)


def opened(path: Path) -> dict[str, float]:
    """Open; the last checkpoint; a frame on the other side of the hole."""
    source = measuring.Counting(LocalFile(path))
    trajectory = Trajectory(source)
    counts = {"reads": source.reads, "bytes": source.bytes}
    state = trajectory.checkpoint()
    assert state["commit"] >= COMMITS - 2
    trajectory.close()

    def frame() -> object:
        with stepson.open(path) as again:
            return again.at_step(100).heat_flux

    def checkpoint() -> object:
        with stepson.open(path) as again:
            return again.checkpoint()

    return {
        "open_ms": milliseconds(lambda: stepson.open(path).close()),
        "open_and_checkpoint_ms": milliseconds(checkpoint),
        "open_and_frame_ms": milliseconds(frame),
        **counts,
    }


def main() -> None:
    """Measure the file finished, then with its end cut off, then going on."""
    options = measuring.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "md.son"
        make(path)
        result: dict[str, object] = {"bytes": path.stat().st_size, "finished": opened(path)}
        os.truncate(path, path.stat().st_size - TORN)
        result["killed"] = opened(path)
        start = time.perf_counter()
        writer = stepson.open(path, "a")
        result["open_for_append_ms"] = round(1e3 * (time.perf_counter() - start), 2)
        writer.close()
    measuring.report(result, options.json)


if __name__ == "__main__":
    main()
