"""The compiled loops of the codecs: the bytes and the values of numpy, bit for bit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stepson.codecs import CODECS, Encoded, bounded, kernels, linear
from stepson.codecs.plan import choose_plan
from stepson.codecs.words import LAYOUTS

pytest.importorskip("numba")

Array = NDArray[Any]
CODER = {"coder": "zstd", "level": 1, "filter": "shuffle"}


@contextmanager
def loops(compiled: bool) -> Iterator[None]:
    """Leave no choice between numpy and the compiled loops."""
    module = kernels.load() if compiled else None
    assert compiled == (module is not None)
    with pytest.MonkeyPatch.context() as patch:
        for codec in (linear, bounded):
            patch.setattr(codec, "kernels", lambda values: module)
        yield


def through(
    name: str,
    values: Array,
    parameters: dict[str, Any],
    bound: float | None,
    compiled: bool,
) -> tuple[Encoded, Array]:
    """What is written, and read again."""
    codec = CODECS[name]
    with loops(compiled):
        encoded = codec.encode(values, parameters, precision=bound, verify=True)
        back = codec.decode(
            memoryview(encoded.data),
            {**parameters, **encoded.parameters},
            dtype=values.dtype,
            shape=values.shape,
        )
    return encoded, back


def alike(
    name: str, values: Array, parameters: dict[str, Any], bound: float | None = None
) -> Encoded:
    """Check that both ways write and read the same."""
    one, other = (through(name, values, parameters, bound, each) for each in (True, False))
    assert one[0] == other[0]
    assert one[1].tobytes() == other[1].tobytes()
    return one[0]


def motion(frames: int, columns: int, dtype: str, scale: float, seed: int) -> Array:
    """Vibrations about places of their own."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] * rng.uniform(0.01, 1.0, columns)
    values = rng.normal(size=columns) + 0.1 * np.sin(time) + 0.001 * time
    return (values * scale).astype(dtype)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 40),
    st.integers(1, 300),
    st.sampled_from(["f4", "f8"]),
    st.sampled_from([0.0, 1e-38, 1e-3, 1.0, 3e4, 1e25]),
    st.lists(st.integers(-(2**20), 2**20), max_size=12),
    st.sampled_from(LAYOUTS),
    st.integers(0, 2**32 - 1),
)
def test_linear(
    frames: int,
    columns: int,
    dtype: str,
    scale: float,
    taps: list[int],
    layout: str,
    seed: int,
) -> None:
    values = motion(frames, columns, dtype, scale, seed)
    alike("linear", values, {**CODER, "taps": taps, "layout": layout})


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 40),
    st.integers(1, 300),
    st.sampled_from(["f4", "f8"]),
    st.sampled_from([0.0, 1e-3, 1.0, 3e4]),
    st.sampled_from([1e-9, 1e-5, 5e-3, 10.0]),
    st.lists(st.integers(-(2**20), 2**20), max_size=12),
    st.sampled_from(LAYOUTS),
    st.integers(0, 2**32 - 1),
)
def test_bounded(
    frames: int,
    columns: int,
    dtype: str,
    scale: float,
    bound: float,
    taps: list[int],
    layout: str,
    seed: int,
) -> None:
    values = motion(frames, columns, dtype, scale, seed)
    encoded = alike("bounded", values, {**CODER, "taps": taps, "layout": layout}, bound)
    assert encoded.error is not None
    assert encoded.error <= bound


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("place", [(0, 0), (7, 140), (19, 199)])
def test_values_without_a_place_on_the_grid(odd: float, place: tuple[int, int]) -> None:
    values = motion(20, 200, "f4", 1.0, 1)
    values[place] = odd
    parameters = {**CODER, "taps": [131072, -65536], "layout": "frames"}
    encoded = alike("bounded", values, parameters, 1e-4)
    assert encoded.parameters["exceptions"] == 1


def test_the_sign_of_zero() -> None:
    values = np.where(np.arange(40 * 130).reshape(40, -1) % 3, -0.0, 0.0)
    for dtype in ("f4", "f8"):
        for tap in (65536, -65536, 3):
            parameters = {**CODER, "taps": [tap], "layout": "frames"}
            alike("linear", values.astype(dtype), parameters)


@pytest.mark.parametrize("name", ["linear", "bounded"])
def test_what_was_chosen_by_trial(name: str) -> None:
    values = motion(128, 900, "f4", 1.0, 3).reshape(128, 300, 3)
    bound = 1e-4 if name == "bounded" else None
    plan = choose_plan(values, precision=bound, codec=name)
    assert len(plan.params["taps"]) > 4
    alike(name, values, dict(plan.params), bound)


def test_other_dtypes_are_left_to_numpy() -> None:
    assert kernels.kernels(np.zeros(3, "f2")) is None
    assert kernels.kernels(np.zeros(3, "i4")) is None
    assert kernels.kernels(np.zeros(3, ">f4")) is None


def test_many_threads() -> None:
    values = motion(128, 4500, "f4", 1.0, 4)
    plan = choose_plan(values, precision=1e-4)
    parameters = dict(plan.params)
    wanted, _ = through("bounded", values, parameters, 1e-4, compiled=True)
    codec = CODECS["bounded"]
    with loops(compiled=True), ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(codec.encode, values, parameters, precision=1e-4, verify=True)
            for _ in range(16)
        ]
        assert all(job.result() == wanted for job in jobs)


WHEN = """
import sys, numpy as np
from stepson.codecs import kernels
values = np.zeros(1 << 20, "f4")
print(kernels.kernels(values) is None, "numba" in sys.modules)
kernels.PATIENCE = 1 << 20
print(kernels.kernels(values) is None, "numba" in sys.modules)
"""


def run(code: str, **environment: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


def test_numba_is_imported_only_when_it_pays() -> None:
    assert run(WHEN) == ["True", "False", "False", "True"]


@pytest.mark.parametrize("broken", ["import numba; raise OSError", "raise ImportError"])
def test_without_a_numba_that_works_numpy_does_it(broken: str) -> None:
    hidden = f"""
import sys, importlib.abc
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "stepson.codecs.compiled":
            {broken}
sys.meta_path.insert(0, Finder())
"""
    assert run(hidden + WHEN)[2] == "True"


def test_numba_that_interprets_is_not_used() -> None:
    assert run(WHEN, NUMBA_DISABLE_JIT="1")[2] == "True"
