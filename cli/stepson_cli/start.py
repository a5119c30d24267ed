"""The entry point: what happens before the command line is known.

Importing takes longer than a quick finger on Ctrl-C, and an import that is broken off in
its middle fails in ways of its own. So the first thing that is done, before anything that
takes time, is to make Ctrl-C end the process with one line; `hand_over` makes it an
exception again, when the command that was asked for is imported.
"""

import os
import signal
import sys
from types import FrameType

__all__ = ["hand_over", "main"]

INTERRUPTED = 130


def main() -> int:
    """Run the command line of this process and return its exit status."""
    # One that the caller ignores stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from stepson_cli.main import main as command_line

    return command_line()


def hand_over() -> None:
    """From now on whoever runs has something to clean up, or to save, at Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_: int, __: FrameType | None) -> None:
    """End at once: nothing was opened yet."""
    os.write(2, b"stopped\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
