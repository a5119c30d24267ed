"""Numbers as people read them: values with errors, counts, sizes, durations.

Pure functions from numbers to short strings. Digits are grouped by a space, as in 250 000.
"""

from math import floor, isfinite, log10
from pathlib import Path

__all__ = [
    "count",
    "duration",
    "nearby",
    "plain",
    "plural",
    "shorten",
    "simulated",
    "size",
]


def plain(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, without exponent if it is short."""
    if not isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 10**6:
        return f"{value:.{digits - 1}e}"
    decimals = digits if value == 0 else max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:.{min(decimals, 4)}f}"


def count(number: int) -> str:
    """Group the digits of a whole number: 250 000."""
    return f"{number:,}".replace(",", " ")


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Count things: 1 replica, 4 replicas."""
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"


def size(n_bytes: float) -> str:
    """Bytes in powers of 1000, three digits: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{_three(n_bytes)} {unit}"
        n_bytes /= 1000
    return f"{_three(n_bytes)} PB"


def duration(seconds: float) -> str:
    """Wall time, as coarse as it is useful: 42 s, 3:05 min, 2:10 h, 3.4 days."""
    if not isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 48 * 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole / 86400:.1f} days"


def simulated(femtoseconds: float) -> str:
    """Simulated time in the unit in which it is a short number: 62.0 ps."""
    for unit, scale in (("fs", 1.0), ("ps", 1e3), ("ns", 1e6)):
        if abs(femtoseconds) < 999.5 * scale:
            return f"{_three(femtoseconds / scale)} {unit}"
    return f"{_three(femtoseconds / 1e9)} µs"


def nearby(path: Path) -> str:
    """Write a path as one would type it here: relative where it is below this folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def shorten(text: str, width: int) -> str:
    """Cut a text in its middle, where paths and hashes carry least."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _three(value: float) -> str:
    if value == round(value) and abs(value) < 1000:
        return f"{value:.0f}"
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"
