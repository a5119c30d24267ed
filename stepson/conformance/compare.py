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
        answer: what was read, or ``{"refused": why}``, or ``{"failed": how}``.
    """
    return min((_differences(each, answer) for each in expectations), key=len)


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
    if _lost(expected) != _lost(answer):
        found.append(_line("unreadable", _lost(expected), _lost(answer)))
    return found


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
        return [_line("fields", list(expected), got and list(got))]
    return [
        _line(f"field {name} {key}", each[key], got[name].get(key))
        for name, each in expected.items()
        for key in FIELD_KEYS
        if not _same(each[key], got[name].get(key))
    ]


def _checkpoints(expected: Sequence[Mapping[str, Any]], got: Any) -> list[str]:
    """What is known of a checkpoint that cannot be read does not count."""
    found = got if isinstance(got, list) else None
    sound, right = (
        [each for each in points or () if each.get("tree") is not None]
        for points in (found, expected)
    )
    same = found is not None and _same(sound, right)
    return [] if same else [_line("checkpoints", expected, got)]


def _lost(answer: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """What is unreadable, sorted; ranges that follow one another are one."""
    keys, joined = ("field", "first_step", "last_step"), list[tuple[str, int, int]]()
    for each in sorted(answer.get("unreadable") or [], key=lambda e: [e[k] for k in keys]):
        name, first, last = (each[key] for key in keys)
        if joined and joined[-1][0] == name and joined[-1][2] + 1 == first:
            joined[-1] = (name, joined[-1][1], last)
        else:
            joined.append((name, first, last))
    return joined
