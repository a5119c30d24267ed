"""The choice of threads, with a clock of its own."""

import numba
import pytest

from gkflux.potentials import threads
from gkflux.potentials.threads import ThreadChoice


class Clock:
    """Time that passes only when told, at a price per number of threads."""

    def __init__(self) -> None:
        self.now = 0.0
        self.used: list[int] = []

    def __call__(self) -> float:
        return self.now

    def work(self, choice: ThreadChoice, price: dict[int, float], times: int) -> list[int]:
        before = len(self.used)
        for _ in range(times):
            with choice.timed():
                self.used.append(numba.get_num_threads())
                self.now += price[self.used[-1]]
        return self.used[before:]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    if numba.get_num_threads() < 2:
        pytest.skip("one thread is no choice")
    clock = Clock()
    monkeypatch.setattr(threads, "perf_counter", clock)
    return clock


def test_the_faster_choice_is_used(clock: Clock) -> None:
    most = numba.get_num_threads()
    for fast, price in ((most, {most: 1.0, 1: 2.0}), (1, {most: 50.0, 1: 1.0})):
        used = clock.work(ThreadChoice(), price, 60)
        assert used.count(fast) >= 57
    assert numba.get_num_threads() == most


def test_the_choice_follows_the_machine(clock: Clock) -> None:
    most = numba.get_num_threads()
    choice = ThreadChoice()
    clock.work(choice, {most: 3.0, 1: 2.0}, 50)
    used = clock.work(choice, {most: 1.0, 1: 2.0}, 3000)
    assert used[-100:].count(most) > 95
