"""Measure how long `stepson --help` takes, beside the time of an empty interpreter.

The claim: below 0.3 s. Prints JSON; exits 1 when the claim fails.

    python benchmarks/startup.py [--json FILE]
"""

import subprocess
import sys

import measuring

LIMIT = 0.3
REPEATS = 9


def seconds(*arguments: str) -> float:
    """Median wall time of a fresh interpreter with these arguments."""
    command = [sys.executable, *arguments]
    call = lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return measuring.median_ms(call, REPEATS) / 1e3


def main() -> int:
    """Time the help of the group and of each command."""
    options = measuring.parser(__doc__).parse_args()
    commands = ("run", "gk", "info", "verify", "demo")
    result = {"empty interpreter": seconds("-c", "pass")}
    for arguments in ((), *((command,) for command in commands)):
        name = " ".join(("stepson", *arguments, "--help"))
        result[name] = seconds("-m", "stepson_cli.main", *arguments, "--help")
    measuring.report({"limit": LIMIT, "seconds": result}, options.json)
    return int(max(result.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
