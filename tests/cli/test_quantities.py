import math

import pytest

from stepson_cli import quantities


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_345, "12.3 kB"), (1.5e12, "1.50 TB")],
)
def test_sizes_have_three_digits(n_bytes: float, text: str) -> None:
    assert quantities.size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.4, "3 s"),
        (59.7, "1:00 min"),
        (65, "1:05 min"),
        (3700, "1:01 h"),
        (1e6, "11.6 days"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_durations_are_as_coarse_as_is_useful(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(
    ("femtoseconds", "text"),
    [(0, "0 fs"), (4, "4 fs"), (62_500, "62.5 ps"), (1e6, "1 ns"), (2.5e9, "2.50 µs")],
)
def test_simulated_time_picks_its_unit(femtoseconds: float, text: str) -> None:
    assert quantities.simulated(femtoseconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (2.2, "2.20"), (1234.5, "1234"), (1e-5, "1.00e-05"), (math.nan, "–")],
)
def test_plain_numbers_have_significant_digits(value: float, text: str) -> None:
    assert quantities.plain(value) == text


def test_counts_are_grouped_and_agree_with_their_noun() -> None:
    assert quantities.count(1_234_567) == "1 234 567"
    assert quantities.plural(1, "replica") == "1 replica"
    assert quantities.plural(2500, "entry", "entries") == "2 500 entries"


@pytest.mark.parametrize("width", range(5, 14))
def test_shortened_texts_keep_both_ends_and_fit(width: int) -> None:
    text = quantities.shorten("0123456789", width)
    assert len(text) == min(width, 10)
    assert (text[0], text[-1]) == ("0", "9")
