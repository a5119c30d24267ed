"""Cut at any byte: a valid prefix to go on from. Flip any byte: an error or the truth."""

from pathlib import Path

import numpy as np
import pytest

from stepson import FormatError, StepsonError
from stepson.records import RecordType
from stepson.scan import find_tail
from stepson.source import Bytes
from stepson.trajectory import Trajectory
from stepson.writing import resume
from tests.stepson.files import (
    Memory,
    check_content,
    flipped,
    frame,
    records,
    steps_of,
    write,
)

BLOCKS = [range(20), range(20, 40), range(40, 62)]
HERE = Path("memory.son")
pytestmark = pytest.mark.filterwarnings("ignore::stepson.DamageWarning")


@pytest.fixture(scope="module", params=["sealed", "open"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three commits of about ten frames."""
    path = tmp_path_factory.mktemp("cuts") / "md.son"
    write(path, BLOCKS, seal=request.param == "sealed")
    return path.read_bytes()


def commits(data: bytes) -> list[int]:
    """Where each COMMIT ends."""
    return [r.end for r in records(data) if r.prefix.type == RecordType.COMMIT]


def visible(data: bytes, cut: int) -> list[int]:
    """Steps that must be there when a file is cut."""
    done = sum(end <= cut for end in commits(data)) - 1
    return steps_of(BLOCKS[: min(done, len(BLOCKS))])


def test_every_cut_shows_what_was_committed(data: bytes) -> None:
    first = commits(data)[0]
    ends = [*commits(data), *sealed_at(data)]
    for cut in range(first, len(data) + 1):
        traj = Trajectory(Bytes(data[:cut]))
        assert len(traj) == len(visible(data, cut)), cut
        assert traj.torn_bytes == cut - max(end for end in ends if end <= cut)


def sealed_at(data: bytes) -> list[int]:
    """Where the FOOTER ends."""
    return [r.end for r in records(data) if r.prefix.type == RecordType.FOOTER]


def cuts(data: bytes) -> list[int]:
    """Cuts that differ in kind: around every boundary, and some in between."""
    edges = [place for r in records(data) for place in (r.offset, r.payload, r.end)]
    near = {edge + d for edge in edges for d in (-1, 0, 1)} | set(range(0, len(data), 97))
    return sorted(cut for cut in near if commits(data)[0] <= cut <= len(data))


def go_on(start: bytes, steps: list[int]) -> bytes:
    """Open for append, write two frames, seal; returns the file."""
    sink = Memory(start)
    with resume(sink, HERE, threaded=False) as writer:
        for step in (100, 102):
            writer.append(step, **frame(step))
        sink_data = sink
    check_content(Trajectory(Bytes(sink_data.data)), [*steps, 100, 102])
    assert sink_data.data.startswith(start)
    return sink_data.data


def test_every_kind_of_cut_can_be_gone_on_with(data: bytes) -> None:
    for cut in cuts(data):
        check_content(Trajectory(Bytes(data[:cut])), visible(data, cut))
        again = go_on(data[:cut], visible(data, cut))
        assert Trajectory(Bytes(again)).verify(deep=True).ok


@pytest.mark.slow
def test_every_cut_can_be_gone_on_with(data: bytes) -> None:
    for cut in range(commits(data)[0], len(data)):
        check_content(Trajectory(Bytes(data[:cut])), visible(data, cut))
        go_on(data[:cut], visible(data, cut))


def test_before_the_first_commit_there_is_no_file(data: bytes) -> None:
    for cut in range(commits(data)[0]):
        for attempt in (lambda d: Trajectory(Bytes(d)), lambda d: resume(Memory(d), HERE)):
            with pytest.raises(FormatError):
                attempt(data[:cut])


def kills_while_opening(data: bytes, steps: list[int]) -> None:
    """Cut the result of going on again and again, at places of the short transactions."""
    random = np.random.default_rng(len(data))
    for _ in range(6):
        longer = go_on(data, steps)
        extra = len(longer) - len(data)
        data = longer[: len(data) + int(random.integers(1, min(extra, 700)))]
        check_content(Trajectory(Bytes(data)), steps)
    assert Trajectory(Bytes(go_on(data, steps))).verify(deep=True).ok


def test_killed_again_and_again_while_opening(data: bytes) -> None:
    for cut in (len(data), commits(data)[2] + 100, commits(data)[1]):
        kills_while_opening(data[:cut], visible(data, cut))


def test_a_commit_whose_data_never_arrived(data: bytes) -> None:
    """Power may fail while the last transaction is written out of order."""
    second, third = commits(data)[2:4]
    for place in range(second, third - 256, 61):
        for hole in (flipped(data[:third], place), zeroed(data[:third], place, 64)):
            if hole == data[:third]:
                continue
            traj = Trajectory(Bytes(hole))
            if len(traj) != len(steps_of(BLOCKS)):
                assert traj.torn_bytes == third - second
                check_content(traj, steps_of(BLOCKS[:2]))
                go_on(hole, steps_of(BLOCKS[:2]))
            else:
                check_content(traj, steps_of(BLOCKS))


def zeroed(data: bytes, place: int, length: int) -> bytes:
    length = min(length, len(data) - place)
    return data[:place] + bytes(length) + data[place + length :]


def test_the_chain_counts_not_what_is_met_by_searching(data: bytes) -> None:
    """A torn transaction that holds a whole COMMIT is bridged, not believed."""
    second, third = commits(data)[2:4]
    hole = zeroed(data[:third], second, 64)
    again = go_on(hole, steps_of(BLOCKS[:2]))
    traj = Trajectory(Bytes(again))
    check_content(traj, [*steps_of(BLOCKS[:2]), 100, 102])
    tail = find_tail(Bytes(again), bytes.fromhex(traj.uuid), len(again))
    assert tail.sealed
    assert tail.commit.commits > 4
    assert traj.verify(deep=True).ok


def flip_is_error_or_truth(data: bytes, place: int) -> None:
    expected = steps_of(BLOCKS)
    try:
        traj = Trajectory(Bytes(flipped(data, place)))
        prefix = expected[: len(traj)]
        assert len(traj) in {len(steps_of(BLOCKS[:n])) for n in range(4)}
        check_content(traj, prefix)
        for step in traj.checkpoint_steps:
            state = traj.checkpoint(step)
            assert state["state"].tolist() == [step + i for i in range(4)]
        assert traj.metadata["numbers"].tolist() == [18] * 3
    except StepsonError:
        return


def test_some_flips(data: bytes) -> None:
    for place in range(0, len(data), 23):
        flip_is_error_or_truth(data, place)


@pytest.mark.slow
def test_every_flip(data: bytes) -> None:
    for place in range(len(data)):
        flip_is_error_or_truth(data, place)


def test_verify_names_what_a_flip_has_damaged(data: bytes) -> None:
    """Every flip in a record of a committed transaction is found, and found where it is."""
    end = commits(data)[2]
    for record in records(data):
        if record.end > end or record.prefix.type == RecordType.COMMIT:
            continue
        used = record.prefix.head_length + record.prefix.payload_length
        for place in range(record.offset, record.offset + used, 41):
            try:
                result = Trajectory(Bytes(flipped(data, place))).verify()
            except StepsonError:
                continue
            assert not result.ok
            found = [getattr(each, "offset", None) for each in result.damages]
            inside = [at is not None and record.offset <= at <= place for at in found]
            assert all(inside), (place, found)


def test_verify_of_a_damaged_commit(data: bytes) -> None:
    place = commits(data)[2] - 100
    result = Trajectory(Bytes(flipped(data, place))).verify()
    assert not result.ok
    assert result.commits == len(commits(data)) - 1  # those behind are checked as well
    assert "damaged" in str(result)
