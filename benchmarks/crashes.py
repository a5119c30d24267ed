"""Ten thousand crashes: what was promised is there, what is read was written.

    python benchmarks/crashes.py [--cases N] [--kinds power,flip] [--seed S] [--json FILE]

A case is one fault, injected into one state of one file of random fields, frames and
commits, and fully checked: the file is opened and compared with a list of frames, appended
to, killed again, appended to, closed, verified and compared again. Kinds:

    short     the kernel writes less than it is given, then goes on or the disk is full
    enospc    the disk is full, at any call
    eio       input or output fails, at any call: write, sync, size, read back
    power     the power goes; any sectors since the last sync are missing or old
    double    the same, and again during each of four recoveries
    sigkill   real processes killed at random moments, three for each file
    cut       the file ends anywhere: each of its last 400 bytes, and random places
    flip      one bit, in records of every type: told or harmless, and nothing else is lost
    reader    a reader and a follower look at every moment of the writing

Exits 1 if there was any wrong data, lost commit, hang (60 s a case), peak memory above
512 MiB, or error of another kind than is documented. Each failure prints the command that
repeats it.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.stepson.crashes.pool import KINDS, Result, repeat, run_cases

COLUMNS = ("cases", "opened", "appended", "wrong data", "lost commit", "hang", "memory")
SHOWN = 5


def summary(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Counts, peak memory (MiB) and seconds, by kind."""
    table: dict[str, Counter[str]] = {}
    for each in results:
        row = table.setdefault(each.kind, Counter(dict.fromkeys((*COLUMNS, "error"), 0)))
        row["cases"] += 1
        row["opened"] += each.opened
        row["appended"] += each.appended
        if each.wrong:
            row[each.wrong] += 1
        row["peak_mib"] = max(row["peak_mib"], each.memory >> 20)
        row["milliseconds"] += round(1000 * each.seconds)
    return {kind: dict(row) for kind, row in table.items()}


def show(table: dict[str, dict[str, float]]) -> None:
    """Print it."""
    names = [*COLUMNS, "error", "peak_mib", "milliseconds"]
    heads = [*COLUMNS, "error", "peak MiB", "seconds"]
    print("kind".ljust(9), *(head.rjust(max(8, len(head))) for head in heads))
    rows = list(table.items())
    total = {name: sum(row[name] for row in table.values()) for name in names}
    total["peak_mib"] = max((row["peak_mib"] for row in table.values()), default=0)
    for kind, row in [*rows, ("total", total)]:
        cells = [row[name] for name in names[:-1]] + [row["milliseconds"] // 1000]
        print(
            kind.ljust(9),
            *(str(c).rjust(max(8, len(h))) for c, h in zip(cells, heads, strict=True)),
        )


def counts(kinds: list[str], cases: int | None, seed: int) -> list[tuple[str, int, int]]:
    """Kind, first seed and number of cases; `cases` are shared out as the default is."""
    defaults = {kind: KINDS[kind][1] for kind in kinds}
    if cases is None:
        return [(kind, seed, number) for kind, number in defaults.items()]
    whole = sum(defaults.values())
    return [(k, seed, max(1, n * cases // whole)) for k, n in defaults.items()]


def main() -> int:
    """Run them, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, help="in all; default: about 11 000")
    parser.add_argument("--kinds", default=",".join(KINDS), help="separated by commas")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first case of each kind"
    )
    parser.add_argument("--processes", type=int, default=2)
    default = Path(__file__).parent / "results" / "crashes.json"
    parser.add_argument("--json", type=Path, help=f"default for all cases: {default.name}")
    options = parser.parse_args()
    start, results, failures = time.perf_counter(), [], 0
    work = counts(options.kinds.split(","), options.cases, options.seed)
    for batch in run_cases(work, options.processes):
        if (len(results) + len(batch)) // 1000 > len(results) // 1000:
            print(f"{len(results) + len(batch)} cases", file=sys.stderr, flush=True)
        results += batch
        for each in batch:
            if each.wrong:
                failures += 1
                if failures <= SHOWN:
                    print(f"{each.wrong}: {repeat(each)}\n{each.told}", flush=True)
                else:
                    print(f"{each.wrong}: {repeat(each)}", flush=True)
    table = summary(results)
    table = {kind: table[kind] for kind in KINDS if kind in table}
    show(table)
    seconds = round(time.perf_counter() - start, 1)
    print(f"{len(results)} cases, {failures} failures, {seconds} s")
    everything = options.cases is None and options.kinds == ",".join(KINDS)
    target = options.json or (default if everything else None)
    if target is not None:
        content = {"cases": len(results), "failures": failures, "seconds": seconds}
        target.write_text(json.dumps({**content, "kinds": table}, indent=1) + "\n")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
