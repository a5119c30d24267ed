"""What an estimator returns."""

from math import nan

import numpy as np
import pytest

from gkflux.estimators.estimate import Estimate


def test_intervals_widen_with_few_degrees_of_freedom() -> None:
    normal, few = Estimate("a", 1.0, 0.1), Estimate("b", 1.0, 0.1, dof=3)
    assert normal.interval(0.95)[1] == pytest.approx(1.195996, abs=1e-6)
    assert few.half_width() == pytest.approx(0.318245, abs=1e-6)
    assert np.isnan(Estimate("c", 1.0, nan).half_width())
