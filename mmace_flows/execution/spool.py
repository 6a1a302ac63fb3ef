"""Results on disk that the database could not take: one file per write, whole or not there, in the data folder."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bson

from mmace.errors import UserError
from mmace_flows.execution.processes import FileLock, make_folder, write_bytes

if TYPE_CHECKING:
    from mmace_flows.execution.connection import Connection

SUFFIX = ".result"
DAMAGED = ".damaged"
_numbers = count()


@dataclass(frozen=True)
class Spool:
    """The folder for one database. Files are delivered in the order in which they were made."""

    folder: Path

    @classmethod
    def of(cls, connection: Connection) -> Spool:
        """Of a connection: results for another database wait in another folder."""
        arguments = connection.arguments
        name = f"{arguments['host']}-{arguments['port']}-{connection.database.name}"
        if connection.embedded is not None:
            name = "embedded"  # its port may change
        return cls(connection.settings.data_dir / "spool" / re.sub(r"[^\w.,-]", "_", name))

    def put(self, entry: dict[str, Any], say: Callable[[str], None]) -> Path | None:
        """Keep what `delivery.deliver` will need; None, and a line, if that is not possible: the disk may be full."""
        content = bson.encode(entry)
        digest = hashlib.sha256(content).hexdigest().encode()
        path = self.folder / f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}{SUFFIX}"
        try:
            make_folder(self.folder)
            write_bytes(path, digest + b"\n" + content, mode=0o600)
        except UserError as error:
            say(f"a result is only in this process's memory: {error}")
            return None
        say(f"a result ({entry['kind']}, {len(content)} bytes) is kept in {path}")
        return path

    def waiting(self) -> list[Path]:
        """Files that wait to be delivered, oldest first."""
        return sorted(self.folder.glob(f"*{SUFFIX}")) if self.folder.exists() else []

    @staticmethod
    def read(path: Path) -> dict[str, Any] | None:
        """What `put` was given; None for a damaged file, which is set aside under another name."""
        digest, _, content = path.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() == digest:
            return bson.decode(content)
        path.rename(path.with_suffix(DAMAGED))
        return None

    def lock(self) -> FileLock:
        """Held while delivering, by one process at a time."""
        return FileLock(self.folder / "lock")
