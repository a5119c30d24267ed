import math

import numpy as np
import pytest

from stepson_cli.plot import Band, plot

X = np.linspace(0.0, 10.0, 200)


def rows(text: object, height: int) -> list[str]:
    return str(text).splitlines()[:height]


@pytest.mark.parametrize("width", [24, 40, 80, 120])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_asked(width: int, unicode: bool) -> None:
    drawing = plot(X, np.sin(X), width=width, x_label="ps", unicode=unicode)
    assert max(map(len, str(drawing).splitlines())) <= width


def test_a_rising_line_goes_from_the_bottom_left_to_the_top_right() -> None:
    lines = rows(plot(X, X, width=40, height=8, unicode=False), 8)
    assert lines[0].rstrip().endswith("*")
    assert lines[-1].split("|")[1].startswith("*")
    firsts = [line.split("|")[1].find("*") for line in lines]
    assert firsts == sorted(firsts, reverse=True)


def test_every_column_holds_the_curve_even_where_it_jumps() -> None:
    jump = np.where(X < 5, 0.0, 1.0)
    lines = rows(plot(X, jump, width=40, height=6, unicode=False), 6)
    bodies = [line.split("|")[1].ljust(40) for line in lines]
    columns = range(max(len(body.rstrip()) for body in bodies))
    assert all(any(body[column] == "*" for body in bodies) for column in columns)


def test_braille_dots_are_where_the_standard_puts_them() -> None:
    lines = rows(plot([0.0, 1.0], [1.0, 1.0], width=24, height=1), 1)
    body = lines[0].split("┤")[1]
    assert body == "⠤" * len(body)  # a level line: dots 3 and 6 in every cell


def test_the_curve_is_never_hidden_by_its_band() -> None:
    ends = [0.0, 10.0]
    bare = str(plot(ends, ends, unicode=False))
    banded = str(plot(ends, ends, band=Band([0.0, 0.0], [10.0, 10.0]), unicode=False))
    assert banded.count(".") > 100
    assert banded.count("*") == bare.count("*")


def test_labels_are_the_values_at_the_edges() -> None:
    lines = rows(plot(X, 0.1 + 0.01 * X, width=40, height=5, unicode=False), 5)
    assert lines[0].split()[0] == "0.20"
    assert lines[-1].split()[0] == "0.10"


def test_zero_is_shown_when_it_is_near() -> None:
    lines = rows(plot(X, 0.1 + X, width=40, height=5, unicode=False), 5)
    assert float(lines[-1].split()[0]) == 0.0


def test_marks_outside_the_range_are_left_out() -> None:
    assert str(plot(X, X, mark=20.0)) == str(plot(X, X))
    assert str(plot(X, X, mark=5.0)) != str(plot(X, X))


def test_points_that_are_not_finite_are_left_out() -> None:
    y = X.copy()
    y[-1] = math.nan
    assert str(plot(X, y)) == str(plot(X[:-1], X[:-1]))
    assert "fewer than two points" in str(plot(X, np.full_like(X, math.nan)))


def test_constant_series_are_drawn() -> None:
    lines = rows(plot(X, np.zeros_like(X), width=40, height=5, unicode=False), 5)
    assert lines[2].count("*") > 30
