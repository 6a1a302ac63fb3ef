"""Wait for a database that is gone, instead of failing: workers and runners do, commands that only ask do not.

A process becomes patient with `be_patient`. From then on reads of its stores wait until the server answers again.
Writes do not wait: they are kept on disk (`spool`), and so is the end of the job. A job that is complete but for the
database costs nothing if its process dies while it waits. Before the next read all that is delivered. Everything that
is written has a key and replaces itself: what had reached the server before the line broke is stored once.
"""

from __future__ import annotations

import errno
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pymongo
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from mmace.errors import UserError
from mmace_flows.execution.spool import Spool

if TYPE_CHECKING:
    from mmace_flows.execution.connection import Connection
    from mmace_flows.execution.stores import Stores

T = TypeVar("T")

FIRST_PAUSE = 0.5  # seconds; doubled after each try
LONGEST_PAUSE = 30.0
ANSWER_SECONDS = 10.0
# A server that answers, but cannot work now: shutting down, stepping down, disk full, its cursors lost in a restart.
# With 1 and 8 it says that something went wrong inside, as its storage does while it breaks down on a full disk; 18 to
# a process that was let in before: it cannot read its list of users, or somebody is restoring it.
BUSY_CODES = frozenset({1, 8, 18, 43, 91, 175, 189, 237, 262, 355, 10058, 10107, 11600, 11602, 13435, 13436, 14031})
ROOM_BYTES = 16 * 1024**2  # free space below which a run folder counts as full
NO_SPACE = "No space left on device"  # of the server's disk, with whatever code
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreAway(ConnectionFailure):
    """A store beside the database does not answer; to be met as a database that is gone."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__(f"{where} does not answer: {error}")
        self.where = where


def unreachable(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the database is gone for now."""
    return any(
        isinstance(one, ConnectionFailure)
        or (isinstance(one, OperationFailure) and (not BUSY_CODES.isdisjoint(_codes(one)) or NO_SPACE in str(one)))
        for one in _chain(error)
    )


def _codes(error: OperationFailure) -> set[int | None]:
    """Its code, and those of the single writes of many at once, where the whole has one that says nothing."""
    parts = (error.details or {}).get("writeErrors", []) if isinstance(error, BulkWriteError) else []
    return {error.code, *(part.get("code") for part in parts)}


def reason(error: BaseException) -> str:
    """What a database's error says, short: its kind, and the server's own words where there are any."""
    words = (error.details or {}).get("errmsg") if isinstance(error, OperationFailure) else None
    return f"{type(error).__name__}: {words.splitlines()[0][:200]}" if words else type(error).__name__


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that this machine's disk is full."""
    return any(isinstance(one, OSError) and one.errno in FULL for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def pauses(failed: int = 0) -> Iterator[float]:
    """Seconds to wait before each try: twice as long each time, never more than half a minute, and not in step.

    ``failed``: tries that were in vain before.
    """
    pause = min(FIRST_PAUSE * 2.0 ** min(failed, 10), LONGEST_PAUSE)
    while True:
        # many workers that lost the same server must not come back in the same instant
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, LONGEST_PAUSE)


@dataclass
class Patience:
    """How a process waits for its database, and what it says meanwhile."""

    stores: Stores
    say: Callable[[str], None]
    spool: Spool = field(init=False)
    pending: bool = False  # results of this process wait on disk
    _next_try: float = 0.0
    _back: float = -math.inf  # when the last waiting ended
    _again: int = 0

    def __post_init__(self) -> None:
        self.spool = Spool.of(self.stores.connection)

    def wait(self, error: BaseException | None) -> None:
        """Until the server answers and has what waited on disk. Says what happens, once and not at each try.

        ``error``: None if it has been told already that the server is away.
        """
        connection, began = self.stores.connection, time.monotonic()
        # a server that answers and fails again at once is asked less and less often, and told of once
        self._again = self._again + 1 if began - self._back < LONGEST_PAUSE else 0
        told = ""
        if error is not None and not self._again:
            self.say(f"{self._where(error)} does not answer ({reason(error)}); waiting for it")
        for pause in pauses(self._again):
            time.sleep(pause)
            try:
                revive(connection)
                self.flush()
            except UserError as problem:  # why the embedded server cannot be started: disk full, for one
                if str(problem) != told:
                    self.say(str(problem))
                told = str(problem)
            except PyMongoError as again:
                if not unreachable(again):
                    raise
            else:
                break
        self._back = time.monotonic()
        if not self._again:
            self.say(f"{self._where(error, 'the database')} answers again after {self._back - began:.0f} s")

    def keep(self, entry: dict[str, Any], error: BaseException | None = None) -> bool:
        """Put a write on disk, to be done later; False if that is not possible. ``error``: why it was not done."""
        if not self.pending:
            self.say(f"{self._where(error)} does not answer; results are kept on disk meanwhile")
        if self.spool.put(entry, self.say) is None:
            return False
        self.pending, self._next_try = True, time.monotonic() + ANSWER_SECONDS
        return True

    def flush(self) -> None:
        """Store what waits on disk. Raises pymongo's errors."""
        if self.pending:
            from mmace_flows.execution.delivery import deliver

            deliver(self.stores, self.say)
            self.pending = False

    def away(self) -> bool:
        """Whether results still have to wait on disk; asks the server now and then."""
        if self.pending and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + ANSWER_SECONDS
            try:
                with pymongo.timeout(ANSWER_SECONDS):
                    self.stores.connection.client.admin.command("ping")
                self.flush()
            except PyMongoError as error:
                if not unreachable(error):
                    raise
        return self.pending

    def _where(self, error: BaseException | None, otherwise: str = "") -> str:
        """What does not answer, in words."""
        away = [one.where for one in _chain(error) if isinstance(one, StoreAway)]
        return away[0] if away else otherwise or self.stores.connection.where


_patience: Patience | None = None


def be_patient(stores: Stores, say: Callable[[str], None]) -> Patience:
    """From now on this process waits for its database. For processes with work to lose."""
    global _patience
    _patience = Patience(stores, say)
    return _patience


def impatient() -> None:
    """Back to failing at once, as every process begins."""
    global _patience
    _patience = None


@contextmanager
def directly() -> Iterator[None]:
    """While the block runs nothing waits and nothing is kept on disk: for what delivers."""
    global _patience
    held, _patience = _patience, None
    try:
        yield
    finally:
        _patience = held


def patience() -> Patience | None:
    """How this process waits, or None if it does not."""
    return _patience


def revive(connection: Connection) -> None:
    """Ask the server for a sign of life, starting the embedded one if it is down. Raises UserError, PyMongoError."""
    if connection.embedded is not None:
        port = connection.embedded.join()["port"]
        if port != connection.arguments["port"]:
            raise UserError(f"the database was started on another port, {port}; stop and resume")
    with pymongo.timeout(ANSWER_SECONDS):
        connection.client.admin.command("ping")


def wait_for_room(patience: Patience) -> None:
    """Until the disk of the current folder has room again."""
    folder = Path.cwd()
    patience.say(f"no space left on the disk of {folder}; the job goes back into the queue, waiting for space")
    for pause in pauses():
        time.sleep(pause)
        if shutil.disk_usage(folder).free >= ROOM_BYTES:
            patience.say("there is space again")
            return


def reading(operation: Callable[[], T]) -> T:
    """The operation's result; a patient process tries again and again."""
    while True:
        try:
            if _patience is not None:
                _patience.flush()
            return operation()
        except PyMongoError as error:
            if _patience is None or not unreachable(error):
                raise
            _patience.wait(error)


def writing(operation: Callable[[], Any], entry: Callable[[], dict[str, Any]]) -> None:
    """Do a write now; or, in a patient process whose database is away, keep on disk what `delivery` needs to do it."""
    fault: BaseException | None = None
    if _patience is None or not _patience.away():
        try:
            operation()
            return
        except PyMongoError as error:
            if _patience is None or not unreachable(error):
                raise
            fault = error
    if not _patience.keep(entry(), fault):
        _patience.wait(fault)
        reading(operation)


def streaming(start: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Documents of a query; waits for the first one, which is where nearly all the time of a query lies."""

    def begin() -> tuple[list[T], Iterator[T]]:
        documents = iter(start())
        return [first for first in [next(documents, None)] if first is not None], documents

    first, rest = reading(begin)
    yield from first
    yield from rest
