import io
import json
import math

import numpy as np
import pytest

from stepson_cli.terminal import Terminal


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def terminal(
    verbosity: int = 0, *, tty: bool = True
) -> tuple[Terminal, io.StringIO, io.StringIO]:
    out, err = (Screen(), Screen()) if tty else (io.StringIO(), io.StringIO())
    return Terminal(verbosity, out=out, err=err), out, err


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_results_and_messages_go_to_their_own_streams() -> None:
    term, out, err = terminal(tty=False)
    term.show("kappa")
    term.say("reading")
    assert (out.getvalue(), err.getvalue()) == ("kappa\n", "reading\n")


def test_quiet_keeps_results_and_warnings() -> None:
    term, out, err = terminal(-1, tty=False)
    term.show("kappa")
    term.say("reading")
    term.warn("drifts")
    assert (out.getvalue(), err.getvalue()) == ("kappa\n", "Warning: drifts\n")


def test_details_need_verbosity() -> None:
    for verbosity, text in ((0, ""), (1, "detail\n")):
        term, _, err = terminal(verbosity, tty=False)
        term.say("detail", verbosity=1)
        assert err.getvalue() == text


def test_no_control_codes_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    term, _, err = terminal(tty=False)
    term.warn("drifts")
    assert "\x1b" not in err.getvalue()
    assert not term.live


def test_colour_on_a_terminal_unless_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    term, _, err = terminal()
    term.warn("drifts")
    assert "\x1b[33m" in err.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    term, _, err = terminal()
    term.warn("drifts")
    assert "\x1b[33m" not in err.getvalue()


@pytest.mark.parametrize("name", ["dumb", "unknown", ""])
def test_dumb_terminals_get_plain_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", name)
    assert not terminal()[0].live


def test_off_a_terminal_a_message_is_one_line() -> None:
    term, out, err = terminal(tty=False)
    term.show("/long" * 60)
    term.say("many words " * 30)
    assert (out.getvalue().count("\n"), err.getvalue().count("\n")) == (1, 1)


def test_a_quiet_terminal_is_not_redrawn() -> None:
    assert terminal()[0].live
    assert not terminal(-1)[0].live


def test_json_is_valid_whatever_the_numbers() -> None:
    term, out, _ = terminal()
    result = {"kappa": np.float64(0.1), "std": math.nan, "t": np.eye(2), "n": (1, None)}
    term.show_json(result)
    assert json.loads(out.getvalue()) == {
        "kappa": 0.1,
        "std": None,
        "t": [[1, 0], [0, 1]],
        "n": [1, None],
    }


def test_a_latin_terminal_is_not_an_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1")
    term = Terminal(out=stream, err=stream)
    assert not term.unicode
    term.show("κ = 0.1 W/(m K) ± 0.01")
    stream.flush()
    assert raw.getvalue().decode("latin-1") == "? = 0.1 W/(m K) ± 0.01\n"
