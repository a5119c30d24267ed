"""Measure how long `stepson --help` takes, beside the time of an empty interpreter.

The claim: below 0.3 s. Prints JSON; exits 1 when the claim fails.

    python benchmarks/startup.py
"""

import json
import statistics
import subprocess
import sys
import time

LIMIT = 0.3
REPEATS = 9


def seconds(*arguments: str) -> float:
    """Median wall time of a fresh interpreter with these arguments."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    """Time the help of the group and of each command."""
    commands = ("run", "gk", "info", "verify", "demo")
    result = {"empty interpreter": seconds("-c", "pass")}
    for arguments in ((), *((command,) for command in commands)):
        name = " ".join(("stepson", *arguments, "--help"))
        result[name] = seconds("-m", "stepson_cli.main", *arguments, "--help")
    print(json.dumps({"limit": LIMIT, "seconds": result}, indent=2))
    return int(max(result.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
