"""What an implementation printed against what is right."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["judge"]

KEYS = ("uuid", "digest", "parent", "sealed", "torn_bytes", "frames", "n_atoms", "metadata")
FIELD_KEYS = ("dtype", "shape", "unit", "every", "offset", "samples", "steps", "sha256")


def judge(
    expectations: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]
) -> list[str]:
    """What is wrong with an answer, by the expectation that it is nearest to; empty: right.

    Args:
        expectations: any of them is right.
        answer: what was read, or ``{"refused": why}``, or ``{"failed": how}``; any JSON.
    """
    try:
        return min((_differences(each, answer) for each in expectations), key=len)
    except RecursionError:
        return ["the answer is nested too deeply"]


def _differences(expected: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    verdict = expected["verdict"]
    if "failed" in answer:
        return [str(answer["failed"])]
    if "refused" in answer:
        return [] if verdict != "reads" else [f"refused: {answer['refused']}"]
    if verdict == "refused":
        return [f"read, must be refused ({expected.get('because', 'malformed')})"]
    found = [
        _line(key, expected[key], answer.get(key))
        for key in KEYS
        if not _same(expected[key], answer.get(key))
        and not (key == "digest" and expected[key] is None)
    ]
    if "append" in answer and not _same(expected["append"], answer["append"]):
        found.append(_line("append", expected["append"], answer["append"]))
    found += _fields(expected["fields"], answer.get("fields"))
    found += _checkpoints(expected["checkpoints"], answer.get("checkpoints"))
    return found + _unreadable(expected.get("unreadable"), answer.get("unreadable"))


def _line(what: str, expected: object, got: object) -> str:
    return f"{what}: {_short(got)} instead of {_short(expected)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 100 else text[:60] + " ... " + text[-30:]


def _same(a: object, b: object) -> bool:
    """Equality of JSON; 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _fields(expected: Mapping[str, Any], got: Any) -> list[str]:
    if not isinstance(got, dict) or got.keys() != expected.keys():
        names = list(got) if isinstance(got, dict) else got
        return [_line("fields", list(expected), names)]
    found = []
    for name, each in expected.items():
        if isinstance(got[name], dict):
            found += [
                _line(f"field {name} {key}", each[key], got[name].get(key))
                for key in FIELD_KEYS
                if not _same(each[key], got[name].get(key))
            ]
        else:
            found.append(_line(f"field {name}", "a map", got[name]))
    return found


def _checkpoints(expected: Sequence[Mapping[str, Any]], got: Any) -> list[str]:
    """What is known of a checkpoint that cannot be read does not count."""
    listed = isinstance(got, list) and all(
        isinstance(each, dict) and each.keys() >= {"step", "tree"} for each in got
    )
    if not listed:
        return [_line("checkpoints", expected, got)]
    sound, right = (
        [each for each in points if each["tree"] is not None] for points in (got, expected)
    )
    return [] if _same(sound, right) else [_line("checkpoints", expected, got)]


def _unreadable(expected: Any, got: Any) -> list[str]:
    """Items are in any order; none at all is an empty list."""
    right = _joined(expected or [])
    items = [] if got is None else got
    if not isinstance(items, list) or not all(map(_is_range, items)):
        return [_line("unreadable", right, got)]
    lost = _joined(items)
    return [] if lost == right else [_line("unreadable", right, lost)]


def _is_range(item: object) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("field"), str)
        and all(type(item.get(key)) is int for key in ("first_step", "last_step"))
    )


def _joined(items: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """Field, first and last step, sorted; ranges that follow one another are one."""
    joined: list[tuple[str, int, int]] = []
    keys = ("field", "first_step", "last_step")
    for name, first, last in sorted(tuple(each[key] for key in keys) for each in items):
        if joined and joined[-1][0] == name and joined[-1][2] + 1 == first:
            joined[-1] = (name, joined[-1][1], last)
        else:
            joined.append((name, first, last))
    return joined
