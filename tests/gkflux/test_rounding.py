"""Numbers with errors, as they are written."""

from math import inf, nan

import pytest

from gkflux.rounding import rounded, rounded_interval


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (2.2050987, 0.2152, "2.21 ± 0.22"),
        (0.49831, 0.02802, "0.498 ± 0.028"),
        (1234.6, 56.7, "1235 ± 57"),
        (12345.6, 678.0, "12350 ± 680"),
        (2.0, 0.0996, "2.00 ± 0.10"),
        (2.0, 0.00994, "2.0000 ± 0.0099"),
        (2.20514, nan, "2.21"),
        (nan, 0.1, "not converged"),
        (0.0, 0.0, "0.00"),
        (123456.0, 1234.0, "123500 ± 1200"),
        (-0.004, 0.02, "-0.004 ± 0.020"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (1.0444e-36, 5.0e-38, "(1.044 ± 0.050)e-36"),
        (-2.5e9, nan, "-2.50e+09"),
    ],
)
def test_value_and_error_are_rounded_together(
    value: float, error: float, expected: str
) -> None:
    assert rounded(value, error) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.956, 3.84, "1.96 to 3.84"),
        (0.9447, 4.867, "0.94 to 4.87"),
        (120.3, 480.9, "120 to 481"),
        (nan, 1.0, "none"),
        (-inf, inf, "none"),
    ],
)
def test_both_ends_of_an_interval_have_the_same_decimals(
    low: float, high: float, expected: str
) -> None:
    assert rounded_interval(low, high) == expected
