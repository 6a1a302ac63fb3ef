"""Files that hold a secret: read only if nobody else can."""

from __future__ import annotations

from pathlib import Path

from mmace.errors import UserError

OTHERS = 0o077


def check_mode(path: Path) -> None:
    """Raises UserError unless only the owner may read and write the file."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it should hold the secret alone") from error
    if mode & OTHERS:
        raise UserError(f"{path}: others may read it (mode {mode:04o}); chmod 600 {path}")


def read_secret(path: Path) -> str:
    """The file's text without its last line break. Raises UserError if it is empty, or if others may read it."""
    check_mode(path)
    text = path.read_text(encoding="utf-8").rstrip("\n")
    if not text:
        raise UserError(f"{path}: is empty; it should hold the secret alone")
    return text
