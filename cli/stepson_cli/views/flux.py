"""What `stepson flux` has computed."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from stepson_cli.quantities import count, duration, plain, plural

if TYPE_CHECKING:
    from gkflux.recompute import Recomputed

__all__ = ["facts", "report"]


def report(results: "Sequence[Recomputed]", *, following: str) -> Text:
    """Say of every file what was computed, and what can be done now.

    Args:
        results: in the order in which they were computed.
        following: the command that reduces them.
    """
    lines = [_line(each) for each in results]
    if all(each.finished for each in results):
        lines.append(Text.assemble("next: ", (following, "command")))
    else:
        lines.append(Text("stopped; the same command goes on from here", "warning"))
    return Text("\n").join(lines)  # one text: off a terminal no line of it is broken


def _line(done: "Recomputed") -> Text:
    text = Text.assemble((done.target, "title"), ": ")
    if done.finished and not done.computed:
        text.append("finished before, nothing left to do", "good")
        return text.append(f"; {plural(done.frames, 'frame')} of {done.source}")
    text.append(plural(done.computed, "frame"))
    text.append(f" of {done.source} in {duration(done.seconds)}")
    if done.seconds > 0:
        text.append(f" ({plain(done.computed / done.seconds)} frames/s)")
    if done.computed != done.frames:
        text.append(f", {count(done.frames)} in the file")
    text.append(f"\n  {done.model}, {done.formulation}, {_gauge(done)}")
    text.append(f", a frame every {plain(done.spacing)} fs", "quiet")
    if done.hop:
        what = (
            f"\n  atom {done.hop['atom']} left its site at step {count(done.hop['step'])}"
        )
        text.append(f"{what}: no heat flux in this gauge from there on", "bad")
    return text


def _gauge(done: "Recomputed") -> str:
    if done.gauge == "lattice":
        return "gauge of the lattice"
    return "no gauge" + (", convective" if done.convective else ", not convective")


def facts(done: "Recomputed") -> dict[str, Any]:
    """The same as numbers and strings."""
    return asdict(done)
