"""The output folder of a training run: its log, and the hold of one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mmace.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def append_line(path: Path, line: str) -> None:
    """Appends one line. Raises `UserError` for a full disk or a protected file."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise UserError(disk_message(path, error)) from error


def disk_message(path: Path, error: OSError) -> str:
    """One line for a file that cannot be written, in the words of `mmace.checkpoint.write_atomically`."""
    return f"{path}: cannot be written ({error.strerror or type(error).__name__}); what was written before is untouched"


@contextlib.contextmanager
def locked(
    folder: Path, busy: str = "another process is training here; wait for it or choose another output folder"
) -> Iterator[None]:
    """Holds ``folder`` for this process; the hold ends with the process, however it ends.

    Raises `UserError` if another process holds it, which ``busy`` says, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(disk_message(folder, error)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: {busy}") from None
        yield
    finally:
        os.close(handle)
