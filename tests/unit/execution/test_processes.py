"""Process names, locks that die with their holder, whole files or none."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmace.errors import UserError
from mmace_flows.execution.processes import FileLock, ProcessName, make_folder, process_start, write_file


def test_a_process_is_told_from_a_later_one_with_its_id() -> None:
    here = ProcessName.this()
    assert here.alive() and ProcessName.parse(str(here)) == here
    assert not ProcessName(here.host, here.pid, "1").alive()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    start = process_start(child.pid)
    assert start is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet collected: a zombie
    assert process_start(child.pid) is None
    child.wait()
    assert ProcessName.parse("keep") is None and ProcessName.parse("host:x:1") is None


def test_lock_is_given_back_by_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom mmace_flows.execution.processes import FileLock\n"
        "FileLock(Path(sys.argv[1])).acquire(); print('mine', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"mine\n"
    lock = FileLock(path)
    assert not lock.acquire(timeout=0.1)
    assert lock.holder() == str(child.pid)
    child.kill()
    child.wait()
    assert lock.acquire(timeout=1.0) and lock.holder() == str(os.getpid())
    lock.release()
    assert lock.holder() == "unknown"


def test_file_is_whole_or_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(path, "old", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left"):
        write_file(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--data-dir"):
        make_folder(tmp_path / "file" / "folder")
