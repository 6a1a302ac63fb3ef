"""Which processes are alive, locks between processes, and files that are never half-written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mmace.errors import UserError


def process_start(pid: int) -> str | None:
    """When the process began, as text that tells it from a later process with the same id; None if it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return _process_start_from_ps(pid)
    except (ProcessLookupError, PermissionError):
        return None
    # the second field is the command in brackets and may hold spaces, so count from its closing bracket
    fields = stat.rpartition(")")[2].split()
    # ended, but its parent has not looked yet; while threads of it still end, it holds its files and ports
    if fields[0] in ("Z", "X") and int(fields[17]) <= 1:
        return None
    return fields[19]


def _process_start_from_ps(pid: int) -> str | None:
    """The same where there is no /proc."""
    result = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "-".join(result.stdout.split()) or None


@dataclass(frozen=True)
class ProcessName:
    """A process of some machine: ``host:pid:start``."""

    host: str
    pid: int
    start: str

    @classmethod
    def this(cls) -> ProcessName:
        """The process that asks."""
        return cls(socket.gethostname(), os.getpid(), process_start(os.getpid()) or "0")

    @classmethod
    def parse(cls, text: str) -> ProcessName | None:
        """From ``host:pid:start``; None if ``text`` is something else."""
        host, _, rest = text.partition(":")
        pid, _, start = rest.partition(":")
        return cls(host, int(pid), start) if host and pid.isdigit() and start else None

    def alive(self) -> bool:
        """Whether it still runs. Only meaningful on its own host."""
        return process_start(self.pid) == self.start

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.start}"


class FileLock:
    """An advisory lock that the kernel gives back when its holder dies, whatever it dies of.

    The file holds the process id of the holder, for messages. Not re-entrant.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self, timeout: float = 60.0) -> bool:
        """Take the lock; False if another process holds it for longer than ``timeout`` seconds."""
        make_folder(self.path.parent)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    os.close(file)
                    return False
                time.sleep(0.05)
            else:
                self._file = file
                with contextlib.suppress(OSError):  # the disk may be full: the lock holds, only its holder is unknown
                    os.ftruncate(file, 0)
                    os.pwrite(file, str(os.getpid()).encode(), 0)
                return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def holder(self) -> str:
        """Process id of the holder as text, or ``unknown``."""
        try:
            return self.path.read_text().strip() or "unknown"
        except OSError:
            return "unknown"

    def __enter__(self) -> FileLock:
        if not self.acquire():
            raise UserError(f"{self.path}: locked for a minute by process {self.holder()}; end it and try again")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None):
        self.release()


def make_folder(path: Path, mend: str = "choose another with --data-dir") -> Path:
    """Make the folder and its parents. Raises UserError, with ``mend``, where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot make this folder ({error.strerror}); {mend}") from error
    return path


def write_file(path: Path, text: str, mode: int = 0o644) -> None:
    """As `write_bytes`, for text."""
    write_bytes(path, text.encode(), mode)


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write the whole file or nothing: to a temporary name in the same folder, then rename.

    ``mode`` holds from the first byte on. Raises UserError when the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: no space left on the disk; free some and run the same command again") from error
        raise UserError(f"{path}: cannot be written ({error.strerror}); check the folder's permissions") from error
