"""Asking an implementation, as a process with limits of time and memory."""

import json
import os
import resource
import select
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Batch", "Limits", "ask_once"]

Answer = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """Of one case."""

    seconds: float = 20.0
    memory: int = 2**30
    """Bytes of data: heap and private memory."""

    def in_child(self) -> Callable[[], None]:
        """What the child calls before it starts."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (self.memory, self.memory))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        return limit


def ask_once(command: Sequence[str], path: Path, limits: Limits) -> Answer:
    """Run the command on a file."""
    try:
        done = subprocess.run(
            [*command, str(path)],
            capture_output=True,
            timeout=limits.seconds,
            preexec_fn=limits.in_child(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {limits.seconds:g} s"}
    except OSError as error:
        return {"failed": f"{command[0]} cannot be run: {error.strerror}"}
    message = _last_line(done.stderr)
    if done.returncode == 0:
        return _parse(done.stdout)
    if done.returncode == 1 and "Traceback" not in done.stderr.decode(errors="replace"):
        return {"refused": message}
    return {"failed": f"ended with status {done.returncode}: {message}"}


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _parse(text: bytes) -> Answer:
    try:
        found = json.loads(text)
    except ValueError:
        return {"failed": f"printed no JSON: {text[:60]!r}"}
    return found if isinstance(found, dict) else {"failed": "printed no JSON object"}


class Batch:
    """One process for many files: names on its stdin, a line of JSON for each on stdout.

    A process that ends, or does not answer in time, fails that case and is started anew.
    """

    def __init__(self, command: Sequence[str], limits: Limits) -> None:
        self._command = [*command, "--batch"]
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__

    def ask(self, path: Path) -> Answer:
        """What the process says of a file."""
        try:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(os.fsencode(path) + b"\n")
            process.stdin.flush()
        except OSError as error:
            self._stop()
            return {"failed": f"{self._command[0]} does not run: {error.strerror}"}
        line = self._line(process)
        if line.endswith(b"\n"):
            return _parse(line)
        return {"failed": self._how_it_ended(process)}

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                preexec_fn=self._limits.in_child(),
            )
        return self._process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        """A line, or less where none comes in time."""
        assert process.stdout is not None
        found = b""
        while not found.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], self._limits.seconds)
            piece = os.read(process.stdout.fileno(), 2**16) if ready else b""
            if not piece:
                return b""
            found += piece
        return found

    def _how_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        ended = process.poll() is not None or self._ends_soon(process)
        status = process.returncode
        self._stop()
        if not ended:
            return f"no answer within {self._limits.seconds:g} s"
        self._errors.seek(0)
        return f"ended with status {status}: {_last_line(self._errors.read())}"

    @staticmethod
    def _ends_soon(process: subprocess.Popen[bytes]) -> bool:
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        return process.returncode is not None

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        process.kill()
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        self._errors.close()
