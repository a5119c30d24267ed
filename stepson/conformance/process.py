"""Asking an implementation, as a process with limits of time, memory and output."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from time import monotonic
from typing import Any

from stepson.closing import Closing

__all__ = ["Batch", "Limits", "ask_once"]

Answer = dict[str, Any]
STDERR_KEPT = 2**14
"""Bytes of the end of stderr that are kept: more than any last line."""


@dataclass(frozen=True)
class Limits:
    """Of one case."""

    seconds: float = 20.0
    memory: int = 2**30
    """Bytes of data: heap and private memory."""
    answer: int = 2**24
    """Bytes of stdout."""

    def in_child(self) -> Callable[[], None]:
        """What the child calls before it starts."""

        def limit() -> None:
            _, highest = resource.getrlimit(resource.RLIMIT_DATA)
            known = highest != resource.RLIM_INFINITY
            memory = min(self.memory, highest if known else 2**62)
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        return limit


class _Failure(Exception):
    """No answer came: too late, too long."""


class _Program(Closing):
    """A process in a session of its own, so that all it started can be ended with it.

    Both streams are read together: a program that fills one of them does not wait for us,
    and of stderr only the end is kept.
    """

    def __init__(self, command: Sequence[str], limits: Limits, stdin: int) -> None:
        self._limits = limits
        self._errors = b""
        self.process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            preexec_fn=limits.in_child(),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._stdout = self.process.stdout.fileno()
        self._open = {self._stdout, self.process.stderr.fileno()}
        self.restart_clock()

    def restart_clock(self) -> None:
        """The time for an answer begins."""
        self._deadline = monotonic() + self._limits.seconds

    def hear(self, *, line: bool) -> bytes:
        """Stdout to the end of a line, or, and where it ends before, to its end.

        Raises:
            _Failure: too late or too long.
        """
        found = bytearray()
        while self._open if not line else self._stdout in self._open:
            piece = self._some()
            found += piece
            if len(found) > self._limits.answer:
                raise _Failure(f"printed more than {self._limits.answer >> 20} MiB")
            if line and b"\n" in piece:
                break
        return bytes(found)

    def _some(self) -> bytes:
        """What comes next on stdout; nothing where that is not what came."""
        left = self._deadline - monotonic()
        ready = select(self._open, [], [], max(left, 0.0))[0]
        # a program that never stops to print is always ready: the clock counts all the same
        if not ready or left <= 0:
            raise _Failure(f"no answer within {self._limits.seconds:g} s")
        found = b""
        for stream in ready:
            piece = os.read(stream, 2**16)
            if not piece:
                self._open.remove(stream)
            elif stream == self._stdout:
                found = piece
            else:
                self._errors = (self._errors + piece)[-STDERR_KEPT:]
        return found

    def unasked(self) -> bool:
        """Whether something is on stdout already."""
        ready = self._stdout in self._open and select([self._stdout], [], [], 0)[0]
        return bool(ready and os.read(self._stdout, 1))

    def how_it_ended(self) -> tuple[int, str, bool]:
        """Status, last line of stderr, whether there is the traceback of an exception.

        Raises:
            _Failure: it does not end.
        """
        self.hear(line=False)
        try:
            status = self.process.wait(max(self._deadline - monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            raise _Failure(f"did not end within {self._limits.seconds:g} s") from None
        text = self._errors.decode(errors="replace")
        return status, "".join(text.strip().splitlines()[-1:]), "Traceback" in text

    def close(self) -> None:
        """End it, and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self.process.wait()


def ask_once(command: Sequence[str], path: Path, limits: Limits) -> Answer:
    """Run the command on a file."""
    try:
        program = _Program([*command, str(path)], limits, subprocess.DEVNULL)
    except OSError as error:
        return _cannot_be_run(command, error)
    with program:
        try:
            text = program.hear(line=False)
            status, message, raised = program.how_it_ended()
        except _Failure as failure:
            return {"failed": str(failure)}
    if status == 0:
        return _parse(text)
    if status == 1 and not raised:
        return {"refused": message}
    return {"failed": f"ended with status {status}: {message}"}


def _cannot_be_run(command: Sequence[str], error: OSError) -> Answer:
    return {"failed": f"{command[0]} cannot be run: {error.strerror}"}


def _parse(text: bytes) -> Answer:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {"failed": f"printed no JSON: {text[:60]!r}"}
    return found if isinstance(found, dict) else {"failed": "printed no JSON object"}


class Batch(Closing):
    """One process for many files: names on its stdin, a line of JSON for each on stdout.

    A process that ends, or does not answer in time, fails that case and is started anew.
    """

    def __init__(self, command: Sequence[str], limits: Limits) -> None:
        self._command = [*command, "--batch"]
        self._limits = limits
        self._program: _Program | None = None

    def ask(self, path: Path) -> Answer:
        """What the process says of a file."""
        try:
            program = self._running()
        except OSError as error:
            return _cannot_be_run(self._command, error)
        try:
            return _parse(self._line(program, os.fsencode(path) + b"\n"))
        except _Failure as failure:
            self.close()
            return {"failed": str(failure)}

    def _running(self) -> _Program:
        if self._program is None:
            self._program = _Program(self._command, self._limits, subprocess.PIPE)
        self._program.restart_clock()
        return self._program

    @staticmethod
    def _line(program: _Program, name: bytes) -> bytes:
        """The answer to a name.

        Raises:
            _Failure: there is none.
        """
        if program.unasked():
            raise _Failure("printed more than one line for the file before")
        assert program.process.stdin is not None
        stdin = program.process.stdin.fileno()
        os.set_blocking(stdin, False)  # one that never reads must not stop us
        with suppress(BrokenPipeError):  # it ended: how is told below
            try:
                os.write(stdin, name)
            except BlockingIOError:
                raise _Failure("does not read the names on its stdin") from None
        found = program.hear(line=True)
        answer, newline, rest = found.partition(b"\n")
        if rest:
            raise _Failure("printed more than one line")
        if newline:
            return answer
        status, message, _ = program.how_it_ended()
        raise _Failure(f"ended with status {status}: {message}")

    def close(self) -> None:
        """End the process; the next question starts another one."""
        program, self._program = self._program, None
        if program is not None:
            program.close()
