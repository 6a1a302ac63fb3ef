"""Text files, plain or gzip-compressed, line by line: line numbers, progress, and refusals that name the file."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from mmace.data.source import ReadProgress
from mmace.errors import UserError

PROGRESS_LINES = 2000  # lines between two calls of the progress function


class LineReader:
    """Lines of a text file. Used in a ``with`` block; ``number`` is that of the last line given, counted from 1.

    Raises `UserError` for files that cannot be read, are not text, or are damaged archives.
    """

    def __init__(self, path: Path, what: str, progress: ReadProgress | None = None) -> None:
        """Parameters: ``what`` the file should be, for messages ("an extended-XYZ file")."""
        self.path, self.what, self.progress, self.number = path, what, progress, 0
        self._pushed: list[str] = []
        self._due = PROGRESS_LINES

    def __enter__(self) -> LineReader:
        try:
            self._size = self.path.stat().st_size
            self._raw: BinaryIO = open(self.path, "rb")
        except FileNotFoundError:
            raise UserError(f"{self.path}: no such file; give the path of {self.what}") from None
        except OSError as error:
            raise unreadable(self.path, error, self.what) from None
        compressed = self._raw.peek(2)[:2] == b"\x1f\x8b"  # type: ignore[attr-defined]
        stream = gzip.GzipFile(fileobj=self._raw) if compressed else self._raw
        self._text = io.TextIOWrapper(cast(Any, stream), encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._text.close()
        self._raw.close()

    def line(self) -> str | None:
        """The next line, without its end; None after the last one."""
        lines = self.take(1)
        return lines[0] if lines else None

    def take(self, count: int) -> list[str]:
        """The next ``count`` lines, fewer at the end of the file."""
        lines = [self._pushed.pop() for _ in range(min(count, len(self._pushed)))]
        with self._refusals():
            lines += [line.rstrip("\r\n") for line in itertools.islice(self._text, count - len(lines))]
        self.number += len(lines)
        if self.number >= self._due or len(lines) < count:
            self._due = self.number + PROGRESS_LINES
            self._tell()
        return lines

    def characters(self, count: int) -> str:
        """The next ``count`` characters, fewer at the end of the file; not to be mixed with lines."""
        with self._refusals():
            text = self._text.read(count)
        self.number += text.count("\n")
        self._tell()
        return text

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self._raw.tell(), self._size)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise UserError(f"{self.path}: not a text file; give {self.what}") from None
        except EOFError:
            raise UserError(
                f"{self.path}: the compressed file ends too early, after line {self.number}; copy it again"
            ) from None
        except (gzip.BadGzipFile, zlib.error):
            raise UserError(f"{self.path}: the compressed file is damaged; copy it again") from None
        except OSError as error:
            raise unreadable(self.path, error, self.what) from None

    def push_back(self, line: str) -> None:
        """Gives ``line``, the last one given, again."""
        self._pushed.append(line)
        self.number -= 1

    def skip_blank(self) -> bool:
        """Passes over blank lines. Returns False at the end of the file."""
        while (line := self.line()) is not None:
            if line.strip():
                self.push_back(line)
                return True
        return False


def unreadable(path: Path, error: OSError, what: str) -> UserError:
    """The refusal of a path that the system does not let us read."""
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return UserError(f"{path}: is a folder; give the path of {what}")
    return UserError(f"{path}: cannot be read ({error.strerror}); give a readable file")


def number(text: str, where: str, what: str) -> float:
    """``text`` as a number. Raises `UserError` naming place and quantity."""
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{where}: {what} is '{text[:40]}', not a number; correct it") from None


def plain_value(text: str) -> int | float | bool | str:
    """What a value without a type is most likely to mean."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"T": True, "True": True, "F": False, "False": False}.get(text, text)
