"""When a process waits, for how long, and what it keeps on disk meanwhile; without a server."""

from __future__ import annotations

import errno
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    CursorNotFound,
    DuplicateKeyError,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from mmace_flows.execution import backoff
from mmace_flows.execution.spool import Spool


def chained(inner: BaseException) -> RuntimeError:
    try:
        try:
            raise inner
        except BaseException as error:
            raise RuntimeError("something went wrong") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (AutoReconnect("gone"), True),
        (ServerSelectionTimeoutError("gone"), True),
        (OperationFailure("shutting down", 91), True),
        (OperationFailure("28: No space left on device", 8), True),
        (OperationFailure("-31804: WT_PANIC: WiredTiger library panic", 8), True),
        (CursorNotFound("lost in a restart", 43), True),
        (BulkWriteError({"writeErrors": [{"code": 11600, "errmsg": "interrupted at shutdown"}]}), True),
        (BulkWriteError({"writeErrors": [{"code": 11000, "errmsg": "twice"}]}), False),
        (chained(AutoReconnect("gone")), True),
        (OperationFailure("not authorized", 13), False),
        (DuplicateKeyError("twice"), False),
        (ValueError("a mistake of the job"), False),
        (None, False),
    ],
    ids=repr,
)
def test_which_errors_mean_that_the_database_is_gone(error: BaseException | None, gone: bool) -> None:
    assert backoff.unreachable(error) is gone


def test_full_disk_is_told_from_other_faults() -> None:
    assert backoff.disk_full(OSError(errno.ENOSPC, "full")) and backoff.disk_full(
        chained(OSError(errno.EDQUOT, "full"))
    )
    assert not backoff.disk_full(OSError(errno.EACCES, "forbidden"))


def test_pauses_grow_and_end_somewhere() -> None:
    first = list(islice(backoff.pauses(), 12))
    assert 0.25 <= first[0] <= 0.5 and all(15.0 <= pause <= 30.0 for pause in first[8:])
    assert next(backoff.pauses(failed=50)) >= 15.0
    assert len(set(first[8:])) == 4, "workers do not come back in step"


def test_an_impatient_process_fails_at_once() -> None:
    def fails() -> None:
        raise AutoReconnect("gone")

    assert backoff.patience() is None
    with pytest.raises(AutoReconnect):
        backoff.reading(fails)
    with pytest.raises(AutoReconnect):
        backoff.writing(fails, lambda: {})


def spool(folder: Path) -> Spool:
    settings = SimpleNamespace(data_dir=folder)
    arguments = {"host": "db.example.org,other/../", "port": 27017}
    connection = SimpleNamespace(
        settings=settings, arguments=arguments, embedded=None, database=SimpleNamespace(name="magnets")
    )
    return Spool.of(connection)  # type: ignore[arg-type]


def test_results_come_back_whole_and_in_order(tmp_path: Path) -> None:
    lines: list[str] = []
    there = spool(tmp_path)
    assert there.folder.parent == tmp_path / "spool", "a host's name cannot lead elsewhere"
    assert there.waiting() == []
    for number in range(12):
        assert there.put({"kind": "documents", "documents": [{"n": number, "x": b"\x00\xff", "f": 0.1}]}, lines.append)
    entries = [there.read(path) for path in there.waiting()]
    assert [entry["documents"][0]["n"] for entry in entries if entry] == list(range(12))
    assert entries[0] and entries[0]["documents"][0] == {"n": 0, "x": b"\x00\xff", "f": 0.1}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in there.waiting())
    assert len(lines) == 12 and "is kept in" in lines[0]


def test_a_damaged_result_is_set_aside(tmp_path: Path) -> None:
    there = spool(tmp_path)
    path = there.put({"kind": "documents"}, print)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1])
    assert there.read(path) is None and there.waiting() == []
    assert path.with_suffix(".damaged").exists()


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "spool").write_text("a file where the folder should be")
    assert spool(tmp_path).put({"kind": "documents"}, lines.append) is None
    assert "only in this process's memory" in lines[0]
