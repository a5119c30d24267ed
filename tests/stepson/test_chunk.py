"""Chunks: what is written comes back, and nothing wrong ever does."""

import subprocess
import sys
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stepson.chunk import MAX_RAW, Plan, choose_plan, decode, encode
from stepson.codecs.plan import SMALL
from stepson.errors import (
    DamagedError,
    FormatError,
    SchemaError,
    StepsonError,
    UnknownCodecError,
    WriterError,
)

Array = NDArray[Any]


def motion(frames: int = 128, atoms: int = 60, dtype: str = "f4") -> Array:
    """Vibrating atoms with a little noise, (frames, atoms, 3)."""
    rng = np.random.default_rng(1)
    t = np.arange(frames)[:, None, None]
    sites, phases = rng.uniform(0, 20, (2, atoms, 3))
    rate = rng.uniform(0.1, 0.5, (atoms, 3))
    return np.asarray(sites + 0.1 * np.sin(rate * t + phases), dtype)


def back(values: Array, plan: Plan, precision: float | None = None) -> Array:
    data, info = encode(values, plan, precision=precision)
    info = msgpack.unpackb(msgpack.packb(info))
    return decode(data, info, dtype=values.dtype, shape=values.shape)


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1e-45, 6e-8, 65504.0, 3.4e38]


DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (0,), (9, 3), (0, 5), (5, 0, 3), (40, 30, 3)])
def test_identity(dtype: str, shape: tuple[int, ...]) -> None:
    with np.errstate(all="ignore"):
        values = np.resize(np.array(SPECIAL), shape).astype(dtype)
    for first in (values, np.zeros((50, *shape[1:]), dtype)):
        plan = Plan.from_map(
            msgpack.unpackb(msgpack.packb(choose_plan(first, precision=None).to_map()))
        )
        found = back(values, plan)
        assert found.tobytes() == values.tobytes()
        assert found.shape == values.shape
        assert found.dtype == values.dtype


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 100), st.integers(1, 40), st.sampled_from(["f4", "f8"]), st.booleans()
)
def test_identity_of_motion(frames: int, atoms: int, dtype: str, tiled: bool) -> None:
    values = motion(frames, atoms + 1, dtype)
    plan = choose_plan(values, precision=None)
    values = values[:, 1:] if tiled else values
    assert back(values, plan).tobytes() == np.ascontiguousarray(values).tobytes()


@pytest.mark.parametrize("codec", ["raw", "blosc2", "delta", "linear", "auto"])
def test_a_codec_by_name(codec: str) -> None:
    values = motion(64)
    plan = choose_plan(values, precision=None, codec=codec)
    assert plan.codec == codec or codec == "auto"
    assert back(values, plan).tobytes() == values.tobytes()


def test_big_endian_and_strided_input() -> None:
    values = motion(20)[::2, ::3]
    plan = choose_plan(values, precision=None)
    data, info = encode(values.astype(">f4"), plan)
    assert np.array_equal(decode(data, info, dtype=">f4", shape=values.shape), values)


def test_plan_of_motion_predicts_it() -> None:
    values = motion()
    plan = choose_plan(values, precision=None)
    assert plan.codec == "linear"
    assert plan == choose_plan(values, precision=None)
    assert plan.frames == len(values)
    plain = choose_plan(values, precision=None, codec="blosc2")
    assert len(encode(values, plan).data) * 2 < len(encode(values, plain).data)


def test_plan_of_noise_is_cheap() -> None:
    noise = np.frombuffer(np.random.default_rng(2).bytes(128 * 300 * 4), "<u4")
    assert choose_plan(noise.reshape(128, 300), precision=None).codec == "blosc2"


def test_plan_of_small_fields_needs_no_trial() -> None:
    values = np.zeros((1000, SMALL // 8))
    assert choose_plan(values, precision=None) == choose_plan(values[:1], precision=None)


def test_linear_gives_way_to_delta_where_a_value_is_not_finite() -> None:
    values = motion()
    plan = choose_plan(values, precision=None)
    values[70, 3, 1] = np.nan
    data, info = encode(values, plan)
    assert info["codec"] == "delta"
    assert info["nan"] == 1
    assert decode(data, info, dtype="f4", shape=values.shape).tobytes() == values.tobytes()


def test_error_bound_is_kept_and_told() -> None:
    values = motion()
    plan = choose_plan(values, precision=1e-4)
    assert plan.codec == "bounded"
    _, info = encode(values, plan, precision=1e-4)
    found = back(values, plan, 1e-4)
    error = np.abs(found.astype("f8") - values).max()
    assert 0 < error <= info["error"] <= 1e-4


def test_summary() -> None:
    values = np.array([[3.0, -1.0], [np.nan, 2.0]])
    _, info = encode(values, Plan("raw"))
    assert (info["min"], info["max"], info["nan"]) == (-1.0, 3.0, 1)
    _, info = encode(np.full((2, 2), np.nan), Plan("raw"))
    assert "min" not in info
    assert info["nan"] == 4
    assert info["raw"] == info["size"] == 32


@pytest.mark.parametrize("codec", ["raw", "blosc2", "delta", "linear"])
def test_every_flipped_byte_is_found(codec: str) -> None:
    values = motion(12, 4)
    data, info = encode(values, choose_plan(values, precision=None, codec=codec))
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 0x10
        with pytest.raises(DamagedError) as caught:
            decode(
                bytes(bad),
                info,
                dtype="f4",
                shape=values.shape,
                offset=640,
                field="positions",
                steps=(0, 11),
            )
        assert caught.value.offset == 640
        assert caught.value.field == "positions"
        assert caught.value.steps == (0, 11)
        assert caught.value.expected == info["crc32c"] != caught.value.actual


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_info_is_an_error_or_values(data: st.DataObject) -> None:
    values = motion(20, 3)
    good = encode(values, choose_plan(values, precision=None, codec="linear"))
    junk = st.one_of(
        st.none(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=3),
        st.just([]),
        st.just({}),
    )
    info = dict(good.info)
    for key in data.draw(st.lists(st.sampled_from(sorted(info)), min_size=1, max_size=3)):
        info[key] = data.draw(junk)
    if data.draw(st.booleans()):
        info.pop(data.draw(st.sampled_from(sorted(info))))
    try:
        found = decode(good.data, info, dtype="f4", shape=values.shape)
    except StepsonError:
        return
    assert found.tobytes() == values.tobytes()


def test_lengths_are_checked_before_anything_is_made() -> None:
    values = motion(4, 2)
    data, info = encode(values, Plan("raw"))
    for shape in ((2**40,), (5, 2, 3), (4, 2, 2**60)):
        raw = 4 * int(np.prod([int(side) for side in shape], dtype=object))
        with pytest.raises(FormatError):
            decode(data, info, dtype="f4", shape=shape)
        with pytest.raises(FormatError):
            decode(data, {**info, "raw": raw}, dtype="f4", shape=shape)
    assert MAX_RAW < 2**31
    huge = np.lib.stride_tricks.as_strided(np.zeros(1), (MAX_RAW // 8 + 1,), (0,))
    with pytest.raises(SchemaError, match="too many"):
        encode(huge, Plan("raw"))


def test_wrong_use_is_named() -> None:
    with pytest.raises(UnknownCodecError):
        choose_plan(motion(), precision=None, codec="gzip")
    with pytest.raises(SchemaError, match="precision"):
        choose_plan(motion(), precision=None, codec="bounded")
    with pytest.raises(SchemaError, match="precision"):
        encode(
            np.arange(6).reshape(2, 3),
            choose_plan(motion(), precision=1e-3),
            precision=1e-3,
        )


def test_verification_notices_a_wrong_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import blosc2

    values = motion()
    plan = choose_plan(values, precision=None)
    honest = blosc2.compress2

    def faulty(words: Array, **options: Any) -> bytes:
        changed = words.copy()
        changed.reshape(-1)[5] ^= 1
        result: bytes = honest(changed, **options)
        return result

    monkeypatch.setattr(blosc2, "compress2", faulty)
    with pytest.raises(WriterError, match="decompress"):
        encode(values, plan)
    encode(values, plan, verify=False)


def test_blosc2_is_imported_at_first_use_only() -> None:
    code = "import sys, stepson.chunk; print('blosc2' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"
