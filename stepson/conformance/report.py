"""What the runner tells: what is wrong as it goes, and at the end a count."""

import json
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

__all__ = ["Report", "Result"]

CLEAR = "\r\x1b[K"
LONGEST = 400


class Result(NamedTuple):
    """Of one case."""

    case: str
    ok: bool
    answer: str
    """What the implementation did: read, refused or failed."""
    differs: list[str]


@dataclass
class Report:
    """Results as they come.

    On `out` the cases that are wrong and the count; or, as JSON, a list of all results,
    which is whole however early it ends, and the count on `err`. If `err` is a terminal it
    shows how far it is.
    """

    out: TextIO
    err: TextIO
    total: int
    as_json: bool = False
    done: int = 0
    readable: int = 0
    """Cases so far that a complete reader reads."""
    right: dict[str, int] = field(default_factory=lambda: {"read": 0, "refused": 0})

    def begin(self) -> None:
        """Before the first result."""
        if self.as_json:
            self.out.write("[")

    def add(self, result: Result, *, readable: bool) -> None:
        """Tell of a case."""
        if self.as_json:
            row = json.dumps(result._asdict())
            self.out.write(("," if self.done else "") + "\n" + row)
        elif not result.ok:
            self._clear()
            self.out.write(f"WRONG  {result.case}  {_printable(result.differs)}\n")
            self.out.flush()
        self.done += 1
        self.readable += readable
        if result.ok:
            self.right[result.answer] += 1
        if self.err.isatty():
            wrong = self.done - sum(self.right.values())
            self.err.write(f"{CLEAR}{self.done} of {self.total}, {wrong} wrong")
            self.err.flush()

    def end(self, why: str = "") -> None:
        """After the last result; `why` it is the last though there are more."""
        self._clear()
        if self.as_json:
            self.out.write("\n]\n")
            self.out.flush()
        told = self.err if self.as_json else self.out
        told.write((f"{why}\n" if why else "") + self.count() + "\n")
        told.flush()

    def count(self) -> str:
        """How many are right, and how: refusing is easy."""
        right, read = sum(self.right.values()), self.right["read"]
        lines = [
            f"{right} of {self.done} right: {read} by reading, {right - read} by refusing",
            f"a complete reader reads {self.readable} of them and refuses "
            f"{self.done - self.readable}",
        ]
        if self.done < self.total:
            lines.append(f"{self.total - self.done} more were not tested")
        return "\n".join(lines)

    @property
    def all_right(self) -> bool:
        """Whether every case was tested and right."""
        return sum(self.right.values()) == self.total

    def _clear(self) -> None:
        if self.err.isatty():
            self.err.write(CLEAR)
            self.err.flush()


def _printable(differs: list[str]) -> str:
    """One line, without what a program may have put there to steer a terminal."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in "; ".join(differs))
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."
