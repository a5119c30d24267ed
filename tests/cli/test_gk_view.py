"""The Green-Kubo result in the terminal, from real reductions of processes made here."""

import io
from functools import cache

import numpy as np
import pytest
from rich.console import Console, RenderableType
from rich.theme import Theme

import gkflux
from gkflux.conductivity import GreenKubo
from gkflux.rounding import rounded
from stepson_cli.terminal import PALETTE
from stepson_cli.views import gk


@cache
def reduced(samples: int = 4000, runs: int = 3) -> GreenKubo:
    """Reduce first-order autoregressive fluxes, correlated over ten samples."""
    noise = np.random.default_rng(1).normal(size=(runs, samples, 3)) * 1e-3
    flux = np.zeros_like(noise)
    for i in range(1, samples):
        flux[:, i] = np.exp(-0.1) * flux[:, i - 1] + noise[:, i]
    result: GreenKubo = gkflux.kappa(
        list(flux), timestep=10.0, volume=5000.0, temperature=90.0
    )
    return result


def rendered(view: RenderableType, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, theme=Theme(dict(PALETTE))).print(view)
    return stream.getvalue()


def test_the_headline_is_the_number_with_its_error_and_its_worth() -> None:
    result = reduced()
    first, second, third = rendered(gk.headline(result), 200).splitlines()
    assert first.startswith(f"kappa = {rounded(result.kappa, result.kappa_std)} W/(m K)")
    assert "95 % interval" in first
    assert (second, third) == (result.verdict, result.reason)


def test_without_an_error_bar_the_value_stands_alone() -> None:
    result = reduced(samples=32, runs=1)
    assert result.status == "no error bar"
    first = rendered(gk.headline(result), 200).splitlines()[0]
    assert "±" not in first
    assert "interval" not in first


def test_every_method_is_listed_and_one_is_of_record() -> None:
    result = reduced()
    lines = rendered(gk.methods(result), 160).splitlines()[1:]
    assert len(lines) == len(result.methods)
    assert [line.startswith("*") for line in lines].count(True) == 1
    for line, estimate in zip(lines, result.methods.values(), strict=True):
        assert rounded(estimate.kappa, estimate.std) in line


def test_the_tensor_has_an_error_for_each_component() -> None:
    assert rendered(gk.tensor(reduced())).count("±") == 9


def test_all_checks_are_shown_and_the_words_of_those_that_did_not_pass() -> None:
    result = reduced()
    text = " ".join(rendered(gk.checks(result.checks)).split())
    assert {check.status for check in result.checks} > {"pass"}
    for check in result.checks:
        assert check.name in text
        assert (" ".join(check.message.split()) in text) == (check.status != "pass")


def test_details_show_the_words_of_every_check() -> None:
    result = reduced()
    text = " ".join(rendered(gk.checks(result.checks, details=True)).split())
    assert all(" ".join(check.message.split()) in text for check in result.checks)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("unicode", [True, False])
def test_the_whole_fits_the_terminal_and_ends_with_the_answer(
    width: int, unicode: bool
) -> None:
    result = reduced()
    view = gk.conductivity(result, width=width, unicode=unicode)
    lines = rendered(view, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("kappa = ") for line in lines[-6:])


def test_the_plot_ends_near_the_value() -> None:
    result = reduced()
    text = str(gk.cumulative(result, unicode=False))
    top = float(text.splitlines()[1].split()[0])
    assert result.kappa < top < 2.5 * result.kappa
