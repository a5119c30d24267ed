"""A real HTTP server on this machine that counts, and misbehaves when it is told to."""

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

PIECE = 2**16


class Asked(NamedTuple):
    """One request."""

    method: str
    span: str
    """The header Range."""
    status: int
    sent: int
    """Bytes of the body that were handed to the network."""


@dataclass
class Files:
    """What is served, how, and what was asked for; change it while it runs."""

    content: dict[str, bytes | Path] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """For the next requests, one each: "500", "reset", "silent", "garbled";
    "short": fewer bytes than announced; "less": than asked for, the first of them;
    "front": announced as less, but all are sent; "long": a byte more than announced;
    "shifted": from a byte too early on."""
    always: str = ""
    """A fault of every request."""
    ranges: bool = True
    suffixes: bool = True
    etag: bool = True
    size_told: bool = True
    latency: float = 0.0
    url: str = ""
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Count anew, when answers under way are done."""
        while self.at_once:
            time.sleep(0.001)
        self.asked.clear()
        self.most_at_once = 0

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return sum(each.sent for each in self.asked)


class Handler(BaseHTTPRequestHandler):
    """Range requests as RFC 9110 has them, and faults."""

    protocol_version = "HTTP/1.1"
    files: Files

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        files = self.files
        with files.lock:
            files.at_once += 1
            files.most_at_once = max(files.most_at_once, files.at_once)
            fault = files.faults.pop(0) if files.faults else files.always
        try:
            time.sleep(files.latency)
            status, sent = self.respond(fault)
        except (BrokenPipeError, ConnectionResetError):
            status, sent = 0, PIECE
        with files.lock:
            span = self.headers.get("Range", "")
            files.asked.append(Asked(self.command, span, status, sent))
            files.at_once -= 1

    def respond(self, fault: str) -> tuple[int, int]:
        content = self.files.content.get(self.path)
        if fault.isdecimal() or content is None:
            return self.plain(int(fault) if fault else 404)
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return 0, 0
        if fault == "silent":
            time.sleep(1.5)
            self.close_connection = True
            return 0, 0
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        start, stop, status = self.span(size)
        if status == 416:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return 416, 0
        if fault == "shifted" and start:
            start -= 1
        if fault in ("less", "front"):
            stop -= (stop - start) // 2
        self.send_response(status)
        if status == 206:
            whole = str(size) if self.files.size_told else "*"
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{whole}")
        if fault == "front" and status == 206:
            stop = min(stop + (stop - start), size)
        if fault == "long" and status == 206:
            stop = stop + 1 if stop < size else stop
        if self.files.etag:
            self.send_header("ETag", self.version(content, size))
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "HEAD":
            return status, 0
        return status, self.body(content, start, stop, fault)

    def version(self, content: bytes | Path, size: int) -> str:
        if isinstance(content, Path):
            return f'"{content.stat().st_mtime_ns:x}-{size:x}"'
        return f'"{hashlib.sha256(content[:4096]).hexdigest()[:16]}-{size:x}"'

    def plain(self, status: int) -> tuple[int, int]:
        self.send_response(status)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"sorry")
        return status, 5

    def span(self, size: int) -> tuple[int, int, int]:
        """First, end and status of what is asked for."""
        text = self.headers.get("Range", "").removeprefix("bytes=")
        first, _, last = text.partition("-")
        if not text or not self.files.ranges or not (first or self.files.suffixes):
            return 0, size, 200
        if not first:
            start, stop = max(0, size - int(last)), size
        else:
            start, stop = int(first), min(size, int(last) + 1 if last else size)
        return start, stop, 206 if start < stop else 416

    def body(self, content: bytes | Path, start: int, stop: int, fault: str) -> int:
        if fault == "short":
            stop -= (stop - start) // 2
        sent = 0
        while start < stop:
            length = min(PIECE, stop - start)
            piece = read(content, start, length)
            if fault == "garbled":
                piece = bytes(byte ^ 1 for byte in piece)
            self.wfile.write(piece)
            start += length
            sent += length
        if fault == "short":
            self.close_connection = True
        return sent


def read(content: bytes | Path, start: int, length: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + length]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(length)


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def http_server() -> Iterator[Files]:
    """Serve `Files`; its ``url`` ends with a slash."""
    files = Files()
    handler = type("Bound", (Handler,), {"files": files})
    with Quiet(("127.0.0.1", 0), handler) as server:
        files.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        thread.start()
        try:
            yield files
        finally:
            server.shutdown()
            thread.join()
