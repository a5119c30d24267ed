"""Numbers with errors, as they are written."""

from math import nan

import numpy as np
import pytest

from gkflux.estimators.estimate import Estimate, rounded


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
        (1.0444e-36, 5.0e-38, "(1.044 ± 0.050)e-36"),
        (-2.5e9, nan, "-2.50e+09"),
    ],
)
def test_value_and_error_are_rounded_together(
    value: float, error: float, expected: str
) -> None:
    assert rounded(value, error) == expected


def test_intervals_widen_with_few_degrees_of_freedom() -> None:
    normal, few = Estimate("a", 1.0, 0.1), Estimate("b", 1.0, 0.1, dof=3)
    assert normal.interval(0.95)[1] == pytest.approx(1.195996, abs=1e-6)
    assert few.half_width() == pytest.approx(0.318245, abs=1e-6)
    assert np.isnan(Estimate("c", 1.0, nan).half_width())
