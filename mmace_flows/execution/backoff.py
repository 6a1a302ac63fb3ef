"""Wait for a database that is gone, instead of failing: workers and runners do, commands that only ask do not.

A process becomes patient with `be_patient`. From then on reads of its stores wait until the server answers again, and
writes are first kept on disk (`spool`) and then wait. Everything that is written has a content key and replaces itself,
so that a write that had reached the server before the line broke is stored once.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pymongo
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from mmace.errors import UserError
from mmace_flows.execution.spool import Spool

if TYPE_CHECKING:
    from mmace_flows.execution.connection import Connection

T = TypeVar("T")

FIRST_PAUSE = 0.5  # seconds; doubled after each try
LONGEST_PAUSE = 30.0
ANSWER_SECONDS = 10.0
# a server that answers, but cannot work now: shutting down, stepping down, its disk full
BUSY_CODES = frozenset({91, 189, 10058, 10107, 11600, 11602, 13435, 13436, 14031})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def unreachable(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the database is gone for now."""
    return any(
        isinstance(one, ConnectionFailure) or (isinstance(one, OperationFailure) and one.code in BUSY_CODES)
        for one in _chain(error)
    )


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that this machine's disk is full."""
    return any(isinstance(one, OSError) and one.errno in FULL for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def pauses() -> Iterator[float]:
    """Seconds to wait before each try: twice as long each time, never more than half a minute, and not in step."""
    pause = FIRST_PAUSE
    while True:
        # many workers that lost the same server must not come back in the same instant
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, LONGEST_PAUSE)


@dataclass
class Patience:
    """How a process waits for its database, and what it says meanwhile."""

    connection: Connection
    say: Callable[[str], None]
    spool: Spool = field(init=False)

    def __post_init__(self) -> None:
        self.spool = Spool.of(self.connection)

    def wait(self, error: BaseException) -> None:
        """Until the server answers; starts the embedded one again. Says what happens, once and not at each try."""
        began = time.monotonic()
        self.say(f"{self.connection.where} does not answer ({type(error).__name__}); waiting for it")
        told = ""
        for pause in pauses():
            time.sleep(pause)
            try:
                revive(self.connection)
            except UserError as problem:  # why the embedded server cannot be started: disk full, for one
                if str(problem) != told:
                    self.say(str(problem))
                told = str(problem)
            except PyMongoError:
                continue
            else:
                break
        self.say(f"the database answers again after {time.monotonic() - began:.0f} s")


_patience: Patience | None = None


def be_patient(connection: Connection, say: Callable[[str], None]) -> Patience:
    """From now on this process waits for its database. For processes with work to lose."""
    global _patience
    _patience = Patience(connection, say)
    return _patience


def impatient() -> None:
    """Back to failing at once, as every process begins."""
    global _patience
    _patience = None


def patience() -> Patience | None:
    """How this process waits, or None if it does not."""
    return _patience


def revive(connection: Connection) -> None:
    """Ask the server for a sign of life, starting the embedded one if it is down. Raises UserError, PyMongoError."""
    if connection.embedded is not None:
        port = connection.embedded.join()["port"]
        if port != connection.arguments["port"]:
            raise UserError(f"another program took the database's port, it is on {port} now; stop and resume")
    with pymongo.timeout(ANSWER_SECONDS):
        connection.client.admin.command("ping")


def reading(operation: Callable[[], T]) -> T:
    """The operation's result; a patient process tries again and again."""
    while True:
        try:
            return operation()
        except PyMongoError as error:
            if _patience is None or not unreachable(error):
                raise
            _patience.wait(error)


def writing(operation: Callable[[], T], entry: Callable[[], dict[str, Any]]) -> T:
    """As `reading`, with what is to be written kept on disk as soon as the first try failed.

    ``entry`` gives what `delivery` needs to do the write should this process die while it waits.
    """
    try:
        return operation()
    except PyMongoError as error:
        if _patience is None or not unreachable(error):
            raise
        kept = _patience.spool.put(entry(), _patience.say)
        _patience.wait(error)
    result = reading(operation)
    if kept is not None:
        kept.unlink(missing_ok=True)
    return result


def streaming(start: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Documents of a query; waits for the first one, which is where nearly all the time of a query lies."""

    def begin() -> tuple[list[T], Iterator[T]]:
        documents = iter(start())
        return [first for first in [next(documents, None)] if first is not None], documents

    first, rest = reading(begin)
    yield from first
    yield from rest
