"""Vector instructions against numpy, for every width that padding can make."""

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from gkflux.potentials.schnet_vector import (
    BLOCK,
    LANES,
    add_message,
    dot_message,
    multiply_add,
)

Matrix = NDArray[np.float32]
BASIS = tuple(np.array([0.3, -0.1, 0.7, 0.2], np.float32))


@njit(nogil=True)
def multiply(x: Matrix, k: int, w: Matrix, out: Matrix, j: int) -> None:
    """Call the instruction from compiled code, the only place for it."""
    multiply_add(x, k, w, out, j)


@njit(nogil=True)
def add(out: Matrix, k: int, y: Matrix, o: int, table: Matrix, i: int) -> None:
    """One edge of a convolution."""
    add_message(out, k, y, o, table, i, BASIS[0], BASIS[1], BASIS[2], BASIS[3])


@njit(nogil=True)
def dot(x: Matrix, k: int, y: Matrix, o: int, table: Matrix, i: int) -> np.float32:
    """One edge of a gradient."""
    value: np.float32 = dot_message(
        x, k, y, o, table, i, BASIS[0], BASIS[1], BASIS[2], BASIS[3]
    )
    return value


def draw(*shape: int) -> Matrix:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("depth", [LANES, 3 * LANES])
@pytest.mark.parametrize("width", [LANES, 2 * LANES, 3 * LANES, 8 * LANES])
def test_product_of_a_block(depth: int, width: int) -> None:
    x, w, out = draw(3 * BLOCK, depth), draw(depth, width), draw(2 * BLOCK, width)
    expected = out.astype(float)
    expected[BLOCK:] += x[BLOCK : 2 * BLOCK].astype(float) @ w
    multiply(x, BLOCK, w, out, BLOCK)
    assert out == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(out[:BLOCK], expected[:BLOCK].astype(np.float32))


@pytest.mark.parametrize("width", [LANES, 5 * LANES])
def test_messages_of_an_edge(width: int) -> None:
    table, x, y = draw(9, 2, width), draw(4, width), draw(6, width)
    nodes = table[5:7].reshape(4, width).astype(float)
    w = sum(float(b) * node for b, node in zip(BASIS, nodes, strict=True))
    out = x.copy()
    add(out, 2, y, 3, table, 5)
    expected = x.astype(float)
    expected[2] += y[3] * w
    assert out == pytest.approx(expected, abs=1e-5)
    assert dot(x, 1, y, 4, table, 5) == pytest.approx(
        float((x[1].astype(float) * y[4] * w).sum()), abs=1e-4
    )
