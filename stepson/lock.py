"""One writer a file: ``flock`` on the `.son` itself, and how a new file gets its name.

The kernel frees a flock at the death of its owner, so a lock can never be left over. The
file ``NAME.lock`` beside it (host, pid, time) only names the owner for the message, and
whoever gets the flock replaces it. Where the file system has no flock, the lock file is the
lock: one of this host counts while its process lives, one of another host until
``break_lock``.

A new file is written under a hidden name and linked to its own one when its first COMMIT is
on the disk, so a half-born file is never seen, and an existing one is never replaced.
Left-over hidden files whose flock can be had, or that are the file itself under its first
name, are deleted by the next create or open for append in the folder.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from stepson.errors import WriterError
from stepson.source import LocalSink

__all__ = ["Newborn", "forget_dead", "lock", "lock_path", "sweep", "unlock"]

HIDDEN = ".{}.born"
NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def lock_path(path: Path) -> Path:
    """The file that names the owner."""
    return path.with_name(path.name + ".lock")


def lock(descriptor: int, path: Path, *, break_lock: bool = False) -> None:
    """Become the one writer of `path`, which `descriptor` has open.

    Raises:
        WriterError: another process is.
    """
    if not _flock(descriptor, path) and not break_lock:
        _check_owner(path)
    host, pid = _me()
    owner = {
        "host": host,
        "pid": pid,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(OSError):
        lock_path(path).write_text(json.dumps(owner))


def unlock(path: Path) -> None:
    """Take the owner's name away; the flock goes when the descriptor is closed."""
    with contextlib.suppress(OSError):
        lock_path(path).unlink()


def forget_dead(path: Path) -> None:
    """Delete the name of an owner that died between its last write and its end."""
    if not lock_path(path).exists():
        return
    with contextlib.suppress(OSError, WriterError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not _flock(descriptor, path):
                _check_owner(path)
            unlock(path)
        finally:
            os.close(descriptor)


def _flock(descriptor: int, path: Path) -> bool:
    """Take the flock; False where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner, advice = _owner_text(path), "wait until it ends, or stop it"
        if (_owner(path).get("host"), _owner(path).get("pid")) == _me():
            owner, advice = "this process itself", "close that writer first"
        raise WriterError(f"{path} is being written by {owner}; {advice}") from None
    except OSError as error:
        if error.errno in NO_FLOCK:
            return False
        raise WriterError(
            f"{path} cannot be locked: {error.strerror}; append to a copy on a local disk"
        ) from error
    return True


def _me() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _owner(path: Path) -> dict[str, object]:
    try:
        found = json.loads(lock_path(path).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _owner_text(path: Path) -> str:
    told = [_owner(path).get(key) for key in ("pid", "host", "time")]
    if None in told:
        return "another process"
    return "process {} on {} since {}".format(*told)


def _check_owner(path: Path) -> None:
    """Without flock: believe the lock file."""
    owner = _owner(path)
    if not owner:
        return
    here = owner.get("host") == socket.gethostname()
    if here and not _alive(owner.get("pid")):
        return
    raise WriterError(
        f"{path} is locked by {_owner_text(path)}, and this file system cannot tell "
        f"whether that still runs; if it does not, delete {lock_path(path).name} (or open "
        "with break_lock=True)"
    )


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Newborn:
    """A file that has no name yet.

    Args:
        path: the name it will get.

    Raises:
        WriterError: the name is taken, or the folder is missing or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._published = False
        if os.path.lexists(path):
            raise _taken(path)
        sweep(path.parent)
        try:
            self.hidden, descriptor = _open_hidden(path.parent)
        except OSError as error:
            raise WriterError(f"{path} cannot be created: {error.strerror}") from error
        self.sink = LocalSink(descriptor)

    def publish(self) -> None:
        """Give it its name, in one step that fails where the name exists.

        Raises:
            WriterError: somebody else was faster.
        """
        try:
            self._link()
        except FileExistsError:
            self.discard()
            raise _taken(self.path) from None
        except OSError as error:
            self.discard()
            raise WriterError(f"{self.path} cannot be created: {error.strerror}") from error
        _sync_folder(self.path.parent)
        lock(self.sink.descriptor, self.path)
        self._published = True

    def release(self) -> None:
        """Take the owner's name away, where it is ours: `unlock`."""
        if self._published:
            unlock(self.path)

    def _link(self) -> None:
        try:
            os.link(self.hidden, self.path)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o666))
            os.replace(self.hidden, self.path)
        else:
            os.unlink(self.hidden)

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            os.unlink(self.hidden)
        self.sink.close()


def _taken(path: Path) -> WriterError:
    return WriterError(
        f"{path} exists and is never overwritten; open it with mode 'a' to go on, or "
        "choose another name"
    )


def _open_hidden(folder: Path) -> tuple[Path, int]:
    """A new hidden file with its flock taken before a sweep could take it."""
    while True:
        hidden = folder / HIDDEN.format(uuid4().hex)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(hidden, flags, 0o666)
        with contextlib.suppress(BlockingIOError):
            if not _quiet_flock(descriptor) or _same(hidden, descriptor):
                return hidden, descriptor
        os.close(descriptor)


def _quiet_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_FLOCK:
            return False
        raise
    return True


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def sweep(folder: Path, own: int | None = None) -> None:
    """Delete hidden files that died before they got a name, or just after.

    Args:
        folder: where to look.
        own: descriptor of a file there whose lock is held.
    """
    for left in folder.glob(HIDDEN.format("*")):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDWR | os.O_CLOEXEC)
            try:
                if (own is not None and _same(left, own)) or _quiet_flock(descriptor):
                    os.unlink(left)
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
