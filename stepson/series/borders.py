"""Finding gaps and overlaps between files that continue one another.

A step is missing where one of the two schemas has a field that is due there. Which of the
two held at a step between the files is not always told: the earlier one did at least up to
the step that the later one names as its parent's last, and may have done further. A gap is
only reported where no such border explains it. Irregular fields are never missing. Gaps
inside a file are the business of whoever wrote it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from stepson.schema import Schema
from stepson.seams import Gap, Overlap
from stepson.series.reader import Series

__all__ = ["find_gaps", "find_overlaps", "mention"]


def find_gaps(series: Series) -> Iterator[Gap]:
    """What is missing between the files."""
    before: int | None = None
    for number, *_ in series.parts():
        if before is not None:
            gap = _gap(series, before, number)
            if gap is not None:
                yield gap
        before = number


def _gap(series: Series, before: int, behind: int) -> Gap | None:
    mine, theirs = series.members[before], series.members[behind]
    last, first = _last(series, before), theirs.first or 0
    told = series.told(behind)
    missing = _due_after(mine.schema, last)
    if missing is None or missing >= first:
        return None
    border = min(-1 if told is None else told, first - 1)
    ends = (_due_before(theirs.schema, first), _due_before(mine.schema, border + 1))
    end = max(each for each in (-1, *ends) if each is not None)
    if end < missing:
        return None
    return Gap((mine.label, theirs.label), missing, end)


def _last(series: Series, number: int) -> int:
    """The step of the last frame of a file that counts."""
    member = series.members[number]
    if not series.cut(number):
        return member.last or 0
    place = np.array([series.frames_of(number) - 1])
    return int(series.reader(number).steps_of(None, place)[0])


def _due_after(schema: Schema, step: int) -> int | None:
    """The first step behind `step` at which a field is due."""
    regular = [c for c in schema.cadences if c.every is not None]
    return min(
        (step + 1 + (c.offset - step - 1) % c.every for c in regular if c.every),
        default=None,
    )


def _due_before(schema: Schema, step: int) -> int | None:
    """The last step in front of `step` at which a field is due."""
    found = (step - 1 - (step - 1 - c.offset) % c.every for c in schema.cadences if c.every)
    return max(found, default=None)


def find_overlaps(series: Series) -> Iterator[Overlap]:
    """Frames that do not count."""
    for number, member in enumerate(series.members):
        if not series.cut(number):
            continue
        kept = series.frames_of(number)
        first = series.reader(number).steps_of(None, np.array([kept]))[0]
        label = series.members[_taker(series, number)].label
        yield Overlap((member.label, label), int(first), member.last or 0)


def _taker(series: Series, number: int) -> int:
    """The file that takes over where another one stops counting."""
    starts = [series.start(i) for i in range(number + 1, len(series.members))]
    return number + 1 + starts.index(series.limits[number])


def mention(seams: Sequence[Gap | Overlap]) -> Iterator[str]:
    """One line for each."""
    for each in seams:
        steps = (
            f"step {each.first}"
            if each.first == each.last
            else f"steps {each.first} to {each.last}"
        )
        a, b = each.files
        if isinstance(each, Gap):
            yield f"{steps} missing between {a} and {b}"
        else:
            yield f"{steps} of {a} do not count, {b} starts before them"
