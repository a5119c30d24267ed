"""The memory of a reader is bounded by a block column, whatever the size of the file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stepson
from stepson.ahead import LAST_WINDOW
from stepson.kept import KEPT_BYTES
from stepson.remote.file import KEPT
from tests.stepson.servers import http_server

ROOT = Path(__file__).parents[2]
ATOMS = 2000
BLOCK = 128 * ATOMS * 12
"""Bytes of the positions of a block."""
CODE = """
import sys
import stepson
count = 0
with stepson.open(sys.argv[1]) as traj:
    if sys.argv[2] == "stream":
        for batch in traj.stream("positions", frames=128):
            count += len(batch["positions"])
    elif sys.argv[2] == "frames":
        for frame in traj:
            count += frame.positions is not None
    else:
        traj["positions"][0]
with open("/proc/self/status") as status:  # ru_maxrss would know the parent, too
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(int(peak) * 1024, count)
"""


def write(path: Path, blocks: int) -> None:
    fields = [stepson.Field("positions", "float32", ("atom", 3), "Å", codec="raw")]
    noise = np.random.default_rng(1).normal(size=(128, ATOMS, 3)).astype("f4")
    with stepson.create(
        path, fields=fields, numbers=[18] * ATOMS, verify=False, commit="manual"
    ) as out:
        for block in range(blocks):
            steps = np.arange(128 * block, 128 * (block + 1))
            out.extend(steps=steps, positions=noise)
            if block % 10 == 9:
                out.commit()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """12 MB and 150 MB."""
    folder = tmp_path_factory.mktemp("memory")
    write(folder / "small.son", 4)
    write(folder / "large.son", 50)
    return folder / "small.son", folder / "large.son"


def peak(name: str | Path, how: str, frames: int) -> int:
    """Peak resident memory of a process that reads, bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(name), how],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    found, count = map(int, done.stdout.split())
    assert count == frames
    return found


@pytest.mark.parametrize("how", ["stream", "frames"])
def test_local(files: tuple[Path, Path], how: str) -> None:
    small, large = files
    least = peak(small, "nothing", 0)
    few, many = peak(small, how, 4 * 128), peak(large, how, 50 * 128)
    kept = KEPT_BYTES if how == "frames" else 0  # decoded columns stay for frames
    assert many - few <= kept + 2 * BLOCK
    assert many - least <= kept + 4 * BLOCK


def test_by_url(files: tuple[Path, Path]) -> None:
    """Beside that, 64 MiB of what was fetched, and what is under way."""
    _, large = files
    with http_server() as server:
        server.content["/large.son"] = large
        url = server.url + "large.son"
        least, most = peak(url, "nothing", 0), peak(url, "stream", 50 * 128)
    assert most - least <= KEPT + 2 * LAST_WINDOW + 4 * BLOCK
    assert large.stat().st_size > 150_000_000
