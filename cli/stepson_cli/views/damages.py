"""A table of what does not verify."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from stepson_cli.quantities import count

if TYPE_CHECKING:
    from stepson.damage import Damage

__all__ = ["span", "table"]

SHOWN = 40


def table(damages: "Sequence[Damage]") -> Table:
    """Where, how much, whose samples, what; the first 40."""
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="quiet")
    found.add_column("at byte", no_wrap=True, justify="right")
    found.add_column("bytes", no_wrap=True, justify="right")
    found.add_column("field", no_wrap=True)
    found.add_column("steps", overflow="fold")
    found.add_column("what", overflow="fold")
    for each in damages[:SHOWN]:
        file = "" if each.file is None else f"{each.file}: "
        found.add_row(
            "–" if each.offset is None else count(each.offset),
            count(each.bytes) if each.bytes else "–",
            Text(each.field or "–", "name"),
            span(each.first_step, each.last_step),
            Text(file + each.what, "bad"),
        )
    if len(damages) > SHOWN:
        more = f"and {count(len(damages) - SHOWN)} more: --json lists them"
        found.add_row("…", "", "", "", more)
    return found


def span(first: int | None, last: int | None) -> str:
    """First and last step, as one of one."""
    if first is None or last is None:
        return "–"
    return count(first) if first == last else f"{count(first)} to {count(last)}"
