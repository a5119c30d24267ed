"""What a recovery saved and lost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stepson_cli.quantities import count, plural, size
from stepson_cli.views.damages import span
from stepson_cli.views.damages import table as damage_table

if TYPE_CHECKING:
    from stepson.recovery.result import Range, Recovery

__all__ = ["report"]

SHOWN = 6


def report(done: "Recovery") -> RenderableType:
    """Draw what `stepson.recovery.recover` returned."""
    parts: list[RenderableType] = [_head(done), "", _fields(done)]
    notes = [Text(each, style) for each, style in _notes(done)]
    if notes:
        parts += ["", *notes]
    if done.damages:
        parts += ["", Text("what did not verify:", "quiet"), damage_table(done.damages)]
    advice = Text("\nto check it: ")
    advice.append(f"stepson verify {done.target} --deep", "command")
    return Group(*parts, advice)


def _head(done: "Recovery") -> Text:
    text = Text.assemble((str(done.target), "title"), ": ")
    text.append(f"{plural(done.frames, 'frame')} of {done.source} ({size(done.size)}), ")
    if done.complete and not done.damages:
        return text.append("all of it is sound", "good")
    if done.complete:
        return text.append("nothing is lost: what is damaged had a copy", "good")
    return text.append("some of it is lost", "bad")


def _fields(done: "Recovery") -> Table:
    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="quiet")
    found.add_column("field", no_wrap=True)
    found.add_column("samples", no_wrap=True, justify="right")
    found.add_column("steps saved", overflow="fold")
    found.add_column("steps lost", overflow="fold")
    for name, samples in done.samples.items():
        lost = done.lost.get(name, ())
        found.add_row(
            Text(name, "name"),
            count(samples),
            _ranges(done.recovered.get(name, ())),
            Text(_ranges(lost), "bad" if lost else ""),
        )
    return found


def _ranges(ranges: "Sequence[Range]") -> str:
    if not ranges:
        return "–"
    words = [span(*each) for each in ranges[:SHOWN]]
    if len(ranges) > SHOWN:
        words.append(f"{plural(len(ranges) - SHOWN, 'range')} more")
    return ", ".join(words)


def _notes(done: "Recovery") -> list[tuple[str, str]]:
    notes = []
    if done.irregular:
        names = ", ".join(done.irregular)
        notes.append(
            (
                f"irregular now: {names}. At some steps others of the frame were saved and "
                "these were not; their own steps tell where they have samples",
                "warning",
            )
        )
    if done.checkpoints:
        last = f"the last of step {count(done.checkpoints[-1])}"
        notes.append((f"{plural(len(done.checkpoints), 'checkpoint')} saved, {last}", ""))
    if done.checkpoints_lost:
        steps = ", ".join(map(count, done.checkpoints_lost))
        notes.append((f"checkpoints lost: step {steps}", "bad"))
    if done.unaccounted:
        frames = plural(done.unaccounted, "frame")
        what = f"{frames} that were committed: not saved, and nothing tells at which steps"
        notes.append((what, "bad"))
    if done.header_lost:
        notes.append(("lost: who wrote the file, and what it continued", "bad"))
    if done.metadata_lost:
        what = ", ".join(done.metadata_lost)
        hint = "; --like OTHER.son lends what a file of the same kind has"
        notes.append((f"metadata lost: {what}{hint}", "bad"))
    if done.borrowed:
        notes.append((f"taken from the other file: {', '.join(done.borrowed)}", "warning"))
    if done.torn_bytes:
        how = "whole blocks were taken" if done.torn_taken else "--torn takes whole blocks"
        notes.append(
            (f"{plural(done.torn_bytes, 'byte')} at the end, never committed: {how}", "")
        )
    return notes
