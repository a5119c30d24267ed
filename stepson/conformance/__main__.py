"""``python -m stepson.conformance``: the table of what an implementation gets right."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stepson.conformance import reading
from stepson.conformance.compare import judge
from stepson.conformance.process import Batch, Limits, ask_once
from stepson.conformance.vectors import Case, cases, default_folder
from stepson.errors import StepsonError

EXAMPLES = """examples:
  python -m stepson.conformance python -m stepson.conformance --read
  python -m stepson.conformance --batch -k hostile my-reader --quiet

Files, JSON and verdicts: spec/vectors/README.md.
Exit status: 0 all right, 1 not, 2 usage."""


class Result(NamedTuple):
    """Of one case."""

    case: str
    ok: bool
    answer: str
    """What the implementation did: read, refused or failed."""
    differs: list[str]


def main(arguments: list[str]) -> int:
    """Parse, run, print."""
    if arguments[:1] == ["--read"]:
        return reading.main(arguments[1:])
    options = _parser().parse_args(arguments)
    if not options.command:
        _parser().error("name the command of the implementation to test")
    try:
        results = list(_run(options))
    except StepsonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(_json(results) if options.json else _table(results))
    return 0 if results and all(each.ok for each in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stepson.conformance",
        description="Run an implementation of .son over the conformance vectors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--vectors", type=Path, default=default_folder(), help="default: of the source")
    add("-k", dest="pattern", default="", metavar="PATTERN", help="cases whose name has it")
    add("--json", action="store_true", help="a list of all results")
    add("--batch", action="store_true", help="one process: CMD --batch, names on stdin")
    add("--seconds", type=float, default=20.0, help="for one file; default 20")
    add("--memory", type=int, default=1024, metavar="MIB", help="default 1024")
    add("command", nargs=argparse.REMAINDER, metavar="CMD", help="called as CMD FILE")
    return parser


def _run(options: argparse.Namespace) -> Iterator[Result]:
    limits = Limits(options.seconds, options.memory * 2**20)
    with (
        tempfile.TemporaryDirectory(prefix="son-") as folder,
        Batch(options.command, limits) as batch,
    ):

        def once(path: Path) -> dict[str, Any]:
            return ask_once(options.command, path, limits)

        ask = batch.ask if options.batch else once
        for case in cases(options.vectors, options.pattern):
            yield _result(case, ask, Path(folder) / "file.son")


def _result(case: Case, ask: Callable[[Path], dict[str, Any]], scratch: Path) -> Result:
    answer = ask(case.place(scratch))
    differs = judge(case.expectations, answer)
    did = next((key for key in ("failed", "refused") if key in answer), "read")
    return Result(case.name, not differs, did, differs)


def _json(results: list[Result]) -> str:
    return json.dumps([each._asdict() for each in results], indent=1) + "\n"


def _table(results: list[Result]) -> str:
    width = max((len(each.case) for each in results), default=0)
    lines = []
    for each in results:
        state = each.answer if each.ok else "WRONG"
        lines.append(f"{each.case:{width}}  {state:8}  {'; '.join(each.differs)}".rstrip())
    right = sum(each.ok for each in results)
    return "\n".join([*lines, f"{right} of {len(results)} right", ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
