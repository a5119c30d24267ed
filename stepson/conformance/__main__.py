"""``python -m stepson.conformance``: what an implementation gets right and wrong."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stepson.conformance import reading
from stepson.conformance.compare import judge
from stepson.conformance.process import Batch, Limits, ask_once
from stepson.conformance.report import Report, Result
from stepson.conformance.vectors import Case, cases, default_folder
from stepson.errors import FormatError, StepsonError

EXAMPLES = """examples:
  python -m stepson.conformance python -m stepson.conformance --read
  python -m stepson.conformance --batch -k hostile my-reader --quiet

Files, JSON and verdicts: spec/vectors/README.md.
Exit status: 0 all right, 1 not, 2 usage, 130 interrupted."""

EQUAL_FAILURES = 20
"""So many in a row say that the program does not run at all."""

Ask = Callable[[Path], dict[str, Any]]


def main(arguments: list[str]) -> int:
    """Parse, run, print."""
    if arguments[:1] == ["--read"]:
        return reading.main(arguments[1:])
    options = _parser().parse_args(arguments)
    if not options.command:
        _parser().error("name the command of the implementation to test")
    try:
        chosen = list(cases(options.vectors, options.pattern))
        if not chosen:
            raise FormatError(f"no case has {options.pattern!r} in its name: see -k")
        report = Report(sys.stdout, sys.stderr, len(chosen), options.json)
        return _test(chosen, options, report)
    except BrokenPipeError:  # of `| head`; or the interpreter complains when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (StepsonError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


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
    add("--json", action="store_true", help="a list of all results; the count on stderr")
    add("--batch", action="store_true", help="one process: CMD --batch, names on stdin")
    add("--seconds", type=_positive, default=20.0, help="for one file; default 20")
    add("--memory", type=_mebibytes, default=1024, metavar="MIB", help="default 1024")
    add("--keep-going", action="store_true", help="though every case fails alike")
    add("command", nargs=argparse.REMAINDER, metavar="CMD", help="called as CMD FILE")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 10^6")
    return value


def _mebibytes(text: str) -> int:
    value = int(text)
    if not 0 < value < 2**40:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 2^40")
    return value


def _test(chosen: Sequence[Case], options: argparse.Namespace, report: Report) -> int:
    report.begin()
    try:
        why = _run(chosen, options, report)
    except KeyboardInterrupt:
        report.end("interrupted")
        return 130
    report.end(why)
    return 0 if report.all_right else 1


def _run(chosen: Sequence[Case], options: argparse.Namespace, report: Report) -> str:
    """Ask for every case; why it stopped before the last one, or nothing."""
    before, equal = "", 0
    for case, answer in _answers(chosen, options):
        differs = judge(case.expectations, answer)
        did = next((key for key in ("failed", "refused") if key in answer), "read")
        readable = case.expectations[0]["verdict"] != "refused"
        report.add(Result(case.name, not differs, did, differs), readable=readable)
        how = str(answer.get("failed", ""))
        equal = equal + 1 if how and how == before else int(bool(how))
        before = how
        if equal == EQUAL_FAILURES and not options.keep_going and report.done < len(chosen):
            return (
                f"stopped: {EQUAL_FAILURES} cases in a row failed alike; does the command "
                "run at all? (--keep-going: go on)"
            )
    return ""


def _answers(
    chosen: Sequence[Case], options: argparse.Namespace
) -> Iterator[tuple[Case, dict[str, Any]]]:
    limits = Limits(options.seconds, options.memory * 2**20)

    def once(path: Path) -> dict[str, Any]:
        return ask_once(options.command, path, limits)

    with (
        tempfile.TemporaryDirectory(prefix="son-", ignore_cleanup_errors=True) as scratch,
        Batch(options.command, limits) as batch,
    ):
        ask: Ask = batch.ask if options.batch else once
        # One name for all, so that equal failures have equal messages; a new folder for
        # each, since a program may leave anything beside the file.
        folder = Path(scratch) / "case"
        for case in chosen:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield case, ask(case.place(folder / "file.son"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
