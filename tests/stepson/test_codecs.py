"""Codecs: identity for every bit pattern, the error bound, hostile bytes and parameters."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from stepson.chunk import decode, encode
from stepson.codecs import CODECS, bounded, codec_named, linear
from stepson.codecs.coder import compress, decompress
from stepson.codecs.integers import accumulate, difference, order, unzigzag, zigzag
from stepson.codecs.linear import MAX_SCALE
from stepson.codecs.plan import choose_plan
from stepson.codecs.predict import (
    SCALE,
    fit_taps,
    is_exact,
    polynomial,
    predictions,
    taps_of_row,
    weight,
    whole_predictions,
)
from stepson.codecs.quantise import grid_step
from stepson.codecs.words import GROUP, LAYOUTS, Words
from stepson.errors import FormatError, SchemaError, StepsonError, UnknownCodecError

Array = NDArray[Any]
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
FLOATS = ["f2", "f4", "f8"]
CODER = {"coder": "zstd", "level": 1, "filter": "shuffle"}


@pytest.fixture(autouse=True, scope="module")
def numpy_only() -> Iterator[None]:
    """The codecs as they are without numba; `test_compiled` compares the two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "kernels", lambda values: None)
        patch.setattr(bounded, "kernels", lambda values: None)
        yield


def from_bytes(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """Values of any bit pattern: NaN payloads, subnormals, signed zeros, infinities."""
    flat = np.frombuffer(data, np.uint8).copy()
    if dtype == "?":
        return (flat & 1).view(bool).reshape(shape)
    return flat.view(dtype).reshape(shape)


@st.composite
def any_values(draw: st.DrawFn, dtypes: list[str] = DTYPES) -> Array:
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40))
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    seed = draw(st.integers(0, 2**32 - 1))
    values = from_bytes(np.random.default_rng(seed).bytes(count), dtype, shape)
    special = draw(st.lists(st.binary(min_size=8, max_size=8), max_size=4))
    flat = values.reshape(-1)
    for i, word in enumerate(special):
        flat[i % flat.size] = from_bytes(word[: values.itemsize], dtype, (1,))[0]
    return values


@st.composite
def smooth(draw: st.DrawFn, dtypes: list[str] = FLOATS) -> Array:
    """Something like a trajectory, with the odd value that is not."""
    dtype = draw(st.sampled_from(dtypes))
    frames, columns = draw(st.integers(1, 70)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    time = np.arange(frames)[:, None] * rng.uniform(0.01, 1.0, columns)
    scale = draw(st.sampled_from([1e-3, 1.0, 50.0, 3e4]))
    values = (rng.normal(size=columns) + 0.1 * np.sin(time) + 0.001 * time) * scale
    odd = draw(st.lists(st.floats(width=16), max_size=3))
    for value in odd:
        values[rng.integers(frames), rng.integers(columns)] = value
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def through(
    name: str, values: Array, parameters: dict[str, Any], bound: Any = None
) -> Array:
    codec = CODECS[name]
    encoded = codec.encode(values, parameters, precision=bound, verify=True)
    shape, dtype = values.shape, values.dtype
    return codec.decode(
        memoryview(encoded.data), encoded.parameters, dtype=dtype, shape=shape
    )


@settings(deadline=None, max_examples=60)
@given(any_values(), st.integers(0, 5), st.sampled_from(LAYOUTS))
def test_delta_keeps_every_bit(values: Array, k: int, layout: str) -> None:
    assert same_bits(values, through("delta", values, {**CODER, "k": k, "layout": layout}))


@settings(deadline=None, max_examples=40)
@given(any_values(), st.sampled_from(["lz4", "zstd"]), st.sampled_from(["shuffle", "none"]))
def test_blosc2_and_raw_keep_every_bit(values: Array, coder: str, name: str) -> None:
    parameters = {"coder": coder, "filter": name, "level": 3}
    assert same_bits(values, through("blosc2", values, parameters))
    assert same_bits(values, through("raw", values, {}))


@settings(deadline=None, max_examples=60)
@given(
    smooth(["f4", "f8"]),
    st.lists(st.integers(-(2**20), 2**20), max_size=12),
    st.sampled_from(LAYOUTS),
)
def test_linear_keeps_every_bit_whatever_the_taps(
    values: Array, taps: list[int], layout: str
) -> None:
    values = np.nan_to_num(values, posinf=2.0, neginf=-2.0)
    assert same_bits(
        values, through("linear", values, {**CODER, "taps": taps, "layout": layout})
    )


@pytest.mark.parametrize("columns", [1, 2, 40])
@pytest.mark.parametrize("tap", [1 << 16, -(1 << 16), 3])
def test_linear_keeps_the_sign_of_zero(columns: int, tap: int) -> None:
    # a matrix product of one number may be -0, one of several starts from +0
    values = np.where(np.arange(40 * columns).reshape(40, -1) % 3, -0.0, 0.0)
    back = through("linear", values, {**CODER, "taps": [tap], "layout": "frames"})
    assert same_bits(values, back)


def test_linear_crosses_groups_bands_and_zero() -> None:
    rng = np.random.default_rng(5)
    time = np.arange(3 * GROUP + 5)[:, None]
    values = np.sin(0.3 * time + rng.uniform(0, 6, 9000)).astype("f4")
    taps = list(fit_taps(values[:, :50].astype("f8"), [4])[0])
    assert len(taps) == 4
    for layout in LAYOUTS:
        back = through("linear", values, {**CODER, "taps": taps, "layout": layout})
        assert same_bits(values, back)


def test_linear_does_not_need_subnormal_numbers() -> None:
    """A program that flushes them to zero writes what any other reads."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    values = np.cumsum(rng.normal(size=(60, 200)), axis=0).astype("f4")
    for scale in (2.0**-30, 2.0**-80, 2.0**-120):
        scaled = (values * scale).astype("f4")
        plan = choose_plan(scaled, precision=None, codec="linear")
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot flush subnormal numbers")
        try:
            data, info = encode(scaled, plan)
        finally:
            torch.set_flush_denormal(False)
        assert same_bits(decode(data, info, dtype="f4", shape=scaled.shape), scaled)


def test_linear_refuses_what_it_cannot_predict() -> None:
    parameters = {**CODER, "taps": [SCALE], "layout": "frames"}
    large, half = np.array([1.0, -1.3e30]), np.ones(3, "f2")
    for bad in (
        np.array([1.0, np.nan]),
        np.array([np.inf, 1.0]),
        np.arange(3),
        large,
        half,
    ):
        with pytest.raises(SchemaError):
            through("linear", bad, parameters)
    for small in (
        np.array([1.0, 1e-30]),
        np.array([0.0, -1e-310]),
        np.array([1e-300, -0.0]),
    ):
        assert same_bits(small, through("linear", small, parameters))


def within(values: Array, back: Array, bound: float) -> bool:
    """The bound holds in exact arithmetic, and everything else came back as it was."""
    with np.errstate(all="ignore"):
        near = np.abs(back.astype(np.longdouble) - values.astype(np.longdouble)) <= bound
    bits = f"u{values.itemsize}"
    return bool(np.all(near | (values.view(bits) == back.view(bits))))


bounds = st.sampled_from([1e-12, 1e-6, 1e-4, 5e-3, 0.1, 1e3])


@settings(deadline=None, max_examples=80)
@given(st.one_of(smooth(), any_values(FLOATS)), bounds, st.sampled_from(LAYOUTS), st.data())
def test_bound_holds_for_any_float(
    values: Array, bound: float, layout: str, data: st.DataObject
) -> None:
    taps = data.draw(
        st.sampled_from([(), polynomial(1), polynomial(3), (SCALE * 2, -SCALE)])
    )
    back = through(
        "bounded", values, {**CODER, "taps": list(taps), "layout": layout}, bound
    )
    assert within(values, back, bound)


@settings(deadline=None, max_examples=60)
@given(st.one_of(smooth(), any_values(FLOATS)), bounds, st.integers(1, 30))
def test_decoded_values_do_not_depend_on_block_or_plan(
    values: Array, bound: float, cut: int
) -> None:
    plans = [
        {**CODER, "taps": list(polynomial(2)), "layout": "columns"},
        {**CODER, "taps": [3 * SCALE, 7, -SCALE, -SCALE], "layout": "frames"},
    ]
    whole = through("bounded", values, plans[0], bound)
    pieces = [values[first : first + cut] for first in range(0, len(values), cut)]
    joined = np.concatenate(
        [through("bounded", piece, plans[1], bound) for piece in pieces]
    )
    assert same_bits(whole, joined)


def test_decoded_value_is_the_documented_function() -> None:
    bound = 1e-4
    values = np.random.default_rng(3).uniform(-60, 60, (20, 30)).astype("f4")
    step = 2 * bound * 31 / 32
    q = np.rint(values.astype("f8") * (1 / step))
    expected = (q * step).astype("f4")
    near = np.abs(expected.astype("f8") - values.astype("f8")) <= bound
    back = through(
        "bounded", values, {**CODER, "taps": list(polynomial(1)), "layout": "frames"}, bound
    )
    assert near.mean() > 0.99
    assert np.array_equal(back, np.where(near, expected, values))


def test_achieved_error_is_reported() -> None:
    values = np.random.default_rng(4).normal(size=(50, 60)).astype("f4")
    codec = CODECS["bounded"]
    parameters = {**CODER, "taps": list(polynomial(1)), "layout": "frames"}
    encoded = codec.encode(values, parameters, precision=1e-3, verify=True)
    back = through("bounded", values, parameters, 1e-3)
    true = np.abs(back.astype("f8") - values.astype("f8")).max()
    assert encoded.error is not None
    assert true <= encoded.error <= 1e-3
    assert encoded.error == pytest.approx(true, rel=1e-5)


def test_bound_needs_room_for_rounding() -> None:
    """A step of two bounds would miss: the 32nd that is left out is needed and enough."""
    bound = 1e-4
    values = np.random.default_rng(6).uniform(10, 30, 100_000).astype("f4")
    for step, misses in ((2 * bound, True), (grid_step(bound), False)):
        back = (np.rint(values.astype("f8") / step) * step).astype("f4")
        assert bool(np.any(np.abs(back.astype("f8") - values) > bound)) == misses


@settings(deadline=None, max_examples=40)
@given(any_values(["f2", "f4", "f8"]))
def test_order_is_an_involution_that_sorts(values: Array) -> None:
    bits = values.copy().view(f"u{values.itemsize}").reshape(len(values), -1)
    once = order(bits.copy(), "f")
    assert np.array_equal(order(once.copy(), "f"), bits)
    finite = np.sort(values[np.isfinite(values) & (values != 0)].ravel())
    mapped = order(finite.copy().view(f"u{values.itemsize}"), "f").view(
        f"i{values.itemsize}"
    )
    assert np.all(mapped[1:] >= mapped[:-1])


@settings(deadline=None, max_examples=40)
@given(any_values(["u1", "u2", "u4", "u8"]), st.integers(0, 5))
def test_difference_and_zigzag_have_inverses(values: Array, k: int) -> None:
    words = values.reshape(len(values), -1)
    coded = zigzag(difference(words.copy(), k))
    states: list[Array | None] = [None] * k
    groups = []
    for first in range(0, len(coded), 7):
        group = unzigzag(coded[first : first + 7].copy())
        accumulate(group, k, states, first)
        groups.append(group)
    assert np.array_equal(np.concatenate(groups), words)


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(np.int64, (20, 5), elements=st.integers(-(2**30), 2**30)),
    st.lists(st.integers(-(2**18), 2**18), max_size=8),
)
def test_float_prediction_equals_the_integer_one(q: Array, taps: list[int]) -> None:
    assert is_exact(2**30, taps)
    whole = whole_predictions(q, taps)
    quick = predictions(q.astype("f8"), taps)
    assert np.array_equal(whole, np.rint(quick).astype(np.int64))
    for t in range(len(q)):
        use = taps_of_row(t, taps)
        for i in range(5):
            total = sum(c * int(q[t - 1 - j, i]) for j, c in enumerate(use))
            assert quick[t, i] * SCALE == total
            assert whole[t, i] == round(Fraction(total, SCALE))  # ties to even


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["f4", "f8"]), st.integers(-90, 90))
def test_linear_is_what_integers_predict(seed: int, dtype: str, power: int) -> None:
    """An oracle in exact arithmetic: no sum of floats has a say in what is decoded."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(20, 3)).cumsum(axis=0) * 2.0**power).astype(dtype)
    values.reshape(-1)[rng.integers(60, size=3)] = (0.0, -0.0, np.finfo(dtype).tiny / 4)
    taps = rng.integers(-(2**18), 2**18, rng.integers(0, 9)).tolist()
    plan = {"taps": taps, "layout": "frames", **CODER}
    encoded = CODECS["linear"].encode(values, plan, precision=None, verify=True)
    scale = encoded.parameters["scale"]
    largest = np.abs(values).max() * 2.0**scale
    assert largest * weight(taps) < 2**52
    assert scale == MAX_SCALE or largest * weight(taps) * 4 >= 2**52
    word = np.dtype(f"<u{values.itemsize}")
    words = decompress(memoryview(encoded.data), values.size, word).reshape(20, 3)
    bits, size = values.view(word), 8 * values.itemsize
    whole = [[round(Fraction(float(x)) * Fraction(2) ** scale) for x in r] for r in values]
    for t in range(20):
        use = taps_of_row(t, taps)
        for i in range(3):
            total = sum(c * whole[t - 1 - j][i] for j, c in enumerate(use))
            guess = np.array([total / SCALE * 2.0**-scale]).astype(dtype).view(word)
            left = int(words[t, i]) >> 1 ^ -(int(words[t, i]) & 1)
            assert (int(guess[0]) + left) % 2**size == int(bits[t, i])


def test_fitted_taps_predict_an_oscillation() -> None:
    rng = np.random.default_rng(8)
    t = np.arange(128)[:, None]
    rows = (
        5
        + 0.1 * np.sin(0.4 * t + rng.uniform(0, 6, 40))
        + 1e-5 * rng.normal(size=(128, 40))
    )
    (two, taps) = fit_taps(rows, [2, 3])
    assert sum(two) == sum(taps) == SCALE
    assert (len(two), len(taps)) == (2, 3)
    left = (rows - predictions(rows, taps))[3:].std()
    assert left < 0.02 * np.diff(rows, 3, axis=0).std()


def test_no_taps_where_motion_does_not_determine_them() -> None:
    assert fit_taps(np.zeros((5, [3])[0]), [4]) == []
    assert all(sum(taps) == SCALE for taps in fit_taps(np.ones((60, [3])[0]), [2, 4]))


@settings(deadline=None, max_examples=30)
@given(any_values(["u2", "u4", "u8"]), st.sampled_from(LAYOUTS))
def test_words_keep_their_places(values: Array, layout: str) -> None:
    rows = values.reshape(len(values), -1)
    words = Words.empty(rows.shape, rows.dtype, layout)
    half = rows.shape[1] // 2
    for span in (slice(0, half), slice(half, rows.shape[1])):
        words.store(span, rows[:, span])
    everything = slice(0, rows.shape[1])
    groups = [words.group(first, everything) for first in range(0, len(rows), GROUP)]
    assert np.array_equal(np.concatenate(groups), rows)
    small = Words(rows % 200, "frames").narrowed()
    assert small.width == 1


@pytest.mark.parametrize("name", sorted(CODECS))
def test_decoding_noise_is_an_error_or_values_never_a_crash(name: str) -> None:
    rng = np.random.default_rng(11)
    values = np.cumsum(rng.normal(size=(30, 20)), axis=0).astype("f4")
    plan = choose_plan(values, precision=1e-3 if name == "bounded" else None, codec=name)
    encoded = CODECS[name].encode(values, plan.params, precision=1e-3, verify=True)
    refused = 0
    for _ in range(300):
        data = bytearray(encoded.data[: rng.integers(len(encoded.data) + 1)])
        for _ in range(rng.integers(0, 4)):
            if data:
                data[rng.integers(min(len(data), 64))] = rng.integers(256)
        try:
            CODECS[name].decode(
                memoryview(bytes(data)),
                encoded.parameters,
                dtype=values.dtype,
                shape=values.shape,
            )
        except StepsonError:
            refused += 1
    assert refused > 100


PARAMETER_VALUES: list[Any] = [
    None,
    -1,
    99,
    2**70,
    1.5,
    float("nan"),
    "x",
    b"x",
    [],
    [1.5],
    [2**40],
    {},
]


@pytest.mark.parametrize("name", ["delta", "linear", "bounded"])
def test_hostile_parameters_are_format_errors(name: str) -> None:
    values = np.cumsum(np.ones((30, 20), "f4"), axis=0)
    plan = choose_plan(values, precision=1e-3 if name == "bounded" else None, codec=name)
    encoded = CODECS[name].encode(values, plan.params, precision=1e-3, verify=True)
    for key in encoded.parameters:
        for value in PARAMETER_VALUES:
            parameters = {**encoded.parameters, key: value}
            try:
                CODECS[name].decode(
                    memoryview(encoded.data),
                    parameters,
                    dtype=values.dtype,
                    shape=values.shape,
                )
            except FormatError:
                continue
            assert type(value) is type(encoded.parameters[key])


@pytest.mark.parametrize("places", [[2, 0], [1, 1], [0, 3]])
def test_exceptions_out_of_order_or_place_are_refused(places: list[int]) -> None:
    """The last one of a place would win, or the first, as the reader happens to go."""
    values = np.array([[1.0, np.nan, np.inf]], "f4")
    encoded = codec_named("bounded").encode(
        values,
        {**CODER, "taps": [], "layout": "frames"},
        precision=1e-3,
        verify=True,
    )
    assert encoded.parameters["exceptions"] == 2
    data = bytearray(encoded.data)
    data[-24:-8] = np.array(places, "<u8").tobytes()
    with pytest.raises(FormatError, match="exception"):
        codec_named("bounded").decode(
            memoryview(data), encoded.parameters, dtype=values.dtype, shape=values.shape
        )


def test_header_is_checked_before_the_library_sees_it() -> None:
    words = np.arange(1000, dtype="<u4")
    good = compress(words, coder="zstd", filter_name="shuffle", level=1, verify=True)
    assert np.array_equal(decompress(memoryview(good), 1000, words.dtype), words)
    hostile = {
        2: 5 << 5,  # another coder
        4: 0xFF,  # more raw bytes than expected
        12: 0,  # fewer bytes than there are
        0x10: 34,  # a filter from a plugin
        0x16: 163,  # a coder from a plugin
        0x1F: 0x08,  # lazy: names a file
        0x1E: 1,
    }
    for place, byte in hostile.items():
        bad = bytearray(good)
        bad[place] = byte
        with pytest.raises(FormatError, match="header"):
            decompress(memoryview(bytes(bad)), 1000, words.dtype)
    uninitialised = bytearray(good)
    uninitialised[0x1F] = 4 << 4
    with pytest.raises(FormatError, match="header"):
        decompress(memoryview(bytes(uninitialised)), 1000, words.dtype)
    with pytest.raises(FormatError, match="shorter"):
        decompress(memoryview(good[:10]), 1000, words.dtype)


def test_unknown_codec_is_named() -> None:
    with pytest.raises(UnknownCodecError, match="zfp"):
        codec_named("zfp")
