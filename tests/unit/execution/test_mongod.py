"""Starting mongod: what can go wrong is one line. Programs here are small scripts that fail like mongod does."""

import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from mmace.errors import UserError
from mmace_flows.execution import mongod
from mmace_flows.execution.embedded import EmbeddedDatabase
from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.settings import Settings


def program(folder: Path, script: str) -> Path:
    """An executable shell script."""
    path = folder / "mongod"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'error while loading shared libraries: libcurl.so.4: cannot open shared object file' >&2; exit 127",
         "library libcurl.so.4 is missing; .*apt-get install"),
        ("echo 'No space left on device'; exit 14", "no space left on the disk"),
        ("echo 'Unable to lock the lock file'; exit 100", "another mongod uses this folder"),
        ("exit 7", "ended with code 7"),
    ],
)  # fmt: skip
def test_start_fails_in_one_line(script: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        mongod.start_mongod(program(tmp_path, script), tmp_path / "mongo", None)
    assert "\n" not in str(caught.value)


def test_disk_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(UserError, match=r"0 MB free on this disk.*--data-dir"):
        mongod.start_mongod(program(tmp_path, "exit 0"), tmp_path / "mongo", None)


def test_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="is not a program"):
        mongod.find_mongod(tmp_path / "nothing")
    monkeypatch.setattr(mongod.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no mongod program found; pip install"):
        mongod.find_mongod()
    found = program(tmp_path, "exit 0")
    assert mongod.find_mongod() == found


def test_failed_start_leaves_no_lease(tmp_path: Path) -> None:
    database = EmbeddedDatabase(Settings(data_dir=tmp_path, mongod=program(tmp_path, "exit 7")))
    with pytest.raises(UserError, match="code 7"):
        database.join()
    status = database.status()
    assert not status.running and status.users == []


def test_stale_lock_file_of_a_dead_or_foreign_process(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for content in ("", "999999999\n", "1\n", "rubbish"):
        (data / "mongod.lock").write_text(content)
        assert mongod.running_mongod(tmp_path) is None


def test_folders_have_ports_of_their_own(tmp_path: Path) -> None:
    """A server that starts while another's is away for a moment must not stand where that one was."""
    first = {mongod._ports_of(tmp_path / str(number))[0] for number in range(20)}
    assert len(first) > 15
    for number in (0, 7):
        assert sorted(mongod._ports_of(tmp_path / str(number))) == list(mongod.PORTS)


def test_port_that_living_processes_know_is_waited_for(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        database = EmbeddedDatabase(Settings(data_dir=tmp_path, mongod=program(tmp_path, "exit 7")))
        (tmp_path / "mongo" / "leases").mkdir(parents=True)
        database._write_connection("secret", port)
        with pytest.raises(UserError, match="code 7"):  # nobody knows the port: another is tried
            database.join()
        (database.leases / str(ProcessName.this())).touch()
        with pytest.raises(UserError, match=f"port {port} is taken by another program; free it, or stop all"):
            database.join()
