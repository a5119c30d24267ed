"""The report: complete, offline, accessible."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gkflux
from gkflux.rounding import rounded


class Page(HTMLParser):
    """Collects tags, attributes and text; complains about what is not closed."""

    VOID = frozenset({"meta", "br", "link", "path", "use", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def result() -> gkflux.GreenKubo:
    runs = np.random.default_rng(0).normal(size=(4, 6000, 3)).cumsum(axis=1)
    runs = runs[:, 20:] - runs[:, :-20]  # block sums: a short, smooth correlation
    return gkflux.kappa(runs, timestep=2.0, volume=1000.0, temperature=300.0)


@pytest.fixture(scope="module")
def source(result: gkflux.GreenKubo, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = result.report(tmp_path_factory.mktemp("report") / "deep" / "report.html")
    return str(path.read_text(encoding="utf-8"))


def test_page_is_well_formed_and_says_it_all(result: gkflux.GreenKubo, source: str) -> None:
    page = Page()
    page.feed(source)
    assert page.open == []
    assert result.verdict in " ".join(page.text.split())
    assert rounded(result.kappa, result.kappa_std) in page.text
    for check in result.checks:
        assert check.message in page.text
    for name in result.methods:
        assert name.replace("_", " ") in page.text
    assert "Prefactor" in page.text
    assert "numpy" in page.text


def test_page_needs_no_network(source: str) -> None:
    page = Page()
    page.feed(source)
    for _, attributes in page.tags:
        for key in ("src", "href", "xlink:href"):
            target = attributes.get(key)
            assert target is None or target.startswith("#")
    assert "@import" not in source
    assert "url(http" not in source


def test_every_figure_speaks_and_no_name_is_used_twice(source: str) -> None:
    page = Page()
    page.feed(source)
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(figures) == 6
    assert all(f["role"] == "img" and len(f["aria-label"] or "") > 40 for f in figures)
    names = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(names) == len(set(names))
    links = {a["xlink:href"] for _, a in page.tags if a.get("xlink:href")}
    assert links <= {f"#{name}" for name in names}


def test_colours_follow_the_page(source: str) -> None:
    assert "#0102" not in source
    assert "var(--one)" in source
    assert "prefers-color-scheme: dark" in source


def test_a_result_without_error_bar_is_still_a_report(tmp_path: Path) -> None:
    short = gkflux.kappa(
        np.random.default_rng(3).normal(size=(30, 3)).cumsum(axis=0),
        timestep=1.0,
        volume=1.0,
        temperature=1.0,
    )
    text = short.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert short.verdict.split(":")[0] in text
