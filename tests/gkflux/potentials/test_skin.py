"""Verlet lists: rebuilt exactly when an atom may have crossed the skin."""

import numpy as np
import pytest

from gkflux.errors import FluxError
from gkflux.potentials.skin import LARGEST, SkinLists
from gkflux.system import System


def lists(skin: float | None, n: int = 8) -> tuple[SkinLists, np.ndarray]:
    x = np.random.default_rng(0).uniform(0, 5, (n, 3))
    system = System(positions=x, numbers=[18] * n, cell=np.eye(3) * 5)
    return SkinLists([system], 3.0, skin), x[None].copy()


def test_two_atoms_share_the_skin() -> None:
    found, x = lists(0.5)
    assert found.update(x) == [0]
    assert found.update(x) == []
    near = x.copy()
    near[0, 0, 0] += 0.49  # one atom alone may use all of it
    assert found.update(near) == []
    near[0, 1, 1] += 0.02  # 0.49 + 0.02 > 0.5
    assert found.update(near) == [0]
    assert found.rebuilds == 2


def test_no_skin_rebuilds_whenever_something_moved() -> None:
    found, x = lists(0.0)
    found.update(x)
    assert found.update(x) == []
    assert found.update(x + 1e-13) == [0]


def test_unwrapped_positions_are_not_a_jump() -> None:
    found, x = lists(0.5)
    found.update(x)
    assert found.update(x + 0.1) == []
    # a wrapped atom is far from where it was, and the list is new: never wrong, only slow
    x[0, 0, 0] += 5.0
    assert found.update(x) == [0]


def test_the_skin_grows_while_lists_cost_much() -> None:
    found, x = lists(None)
    start = found.skin
    for _ in range(12):
        x += 1.0 * np.arange(8)[None, :, None]
        found.update(x)
    assert start < found.skin <= LARGEST


def test_nan_and_nonsense_are_refused() -> None:
    found, x = lists(0.5)
    found.update(x)
    with pytest.raises(FluxError, match="not finite"):
        found.update(np.full_like(x, np.nan))
    alone, y = lists(0.5, 1)
    alone.update(y)
    assert alone.update(y + 9.0) == []
    with pytest.raises(FluxError, match="not finite"):
        alone.update(np.full_like(y, np.nan))
    with pytest.raises(FluxError, match="skin -1"):
        lists(-1.0)
