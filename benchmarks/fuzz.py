"""Files that lie behind right checksums: refused in one line, or read, in bounded memory.

    python benchmarks/fuzz.py [--minutes M] [--seed S] [--save DIR]

Each number is a file: one of the seeds (written by this library with all kinds of fields
and commits, and the vectors of the specification) with one to three changes: in a map
(wrong types, huge and negative numbers, nested, missing, extra and repeated keys), in a
COMMIT, in a prefix, in a compressed chunk, in the order of the records; checksums are
repaired. Each is opened, printed, read in every way, verified, followed, appended to and
recovered, within 20 s and 1 GiB. What is found is printed with its number and can be saved;
``tests/stepson/fuzz/found`` keeps what was found once.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.stepson.fuzz.attack import attack, bounded, example


def origin(error: BaseException) -> str:
    """Kind of an error, and the line of the library that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if Path(each.filename).parent.name == "stepson"]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, {last.name}"


def main() -> int:
    """Attack until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="number of the first file")
    parser.add_argument("--save", type=Path, help="folder for what is found")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    found: Counter[str] = Counter()
    number = options.seed
    while number == options.seed or time.monotonic() < end:
        data = example(number)
        try:
            with bounded():
                attack(data)
        except KeyboardInterrupt:
            break
        except BaseException as error:
            where = origin(error)
            if not found[where]:
                print(f"{number}: {where}: {str(error)[:200]}", flush=True)
                if options.save is not None:
                    (options.save / f"{number}.son").write_bytes(data)
            found[where] += 1
        number += 1
    count = number - options.seed
    print(f"{count} files, {sum(found.values())} findings of {len(found)} kinds")
    for where, count in found.most_common():
        print(f"{count:7} {where}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
