"""Surroundings that fail: network, disks, clocks, half-written files, a job that two workers run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from execution_tools import Machine, kill, read_until, wait_for
from fault_tools import CAMPAIGN, Network, Server, assert_complete, began, can_mount, submit, worker

pytestmark = [pytest.mark.engine, pytest.mark.faults]


def test_network_slow_cut_and_deaf(machine: Machine, server: Server, stores) -> None:
    network = Network(server.port)
    machine.environment |= server.describe(machine.folder / "server.yaml", network.port)
    run = machine.start(*machine.run("jobs=10", "seconds=0.5"))
    lines = read_until(run, "add: 0: done")
    network.delay = 0.05
    time.sleep(2.0)
    network.delay = 0.0
    network.cut(closed=True)  # lines break, new ones are refused
    lines += read_until(run, "does not answer")  # however long a busy machine takes to notice
    time.sleep(2.0)
    network.closed = False
    lines += read_until(run, "done in")
    network.deaf = True  # lines stay, nothing comes through
    time.sleep(8.0)
    network.deaf = False
    output = "".join(lines) + run.communicate(timeout=240)[0]
    network.stop()
    assert run.returncode == 0, output
    assert output.count("the database answers again after") >= 1
    machine.environment |= server.describe(machine.folder / "server.yaml", server.port)
    assert_complete(stores(), 10)
    assert set(began(machine).values()) == {1}, "a job was repeated only because the network was away"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own at ``folder``; skips where this user may not mount one."""
    folder.mkdir(parents=True)
    if (
        not can_mount()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]).returncode
    ):
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk up to ``leave`` bytes; returns the file that does."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        while (free := shutil.disk_usage(folder).free) > leave:
            with suppress(OSError):  # others write there too
                os.posix_fallocate(stream.fileno(), os.fstat(stream.fileno()).st_size, free - leave)
    return ballast


def test_disk_of_the_run_folders_full(machine: Machine, server: Server, stores) -> None:
    with small_disk(machine.data, 64):
        opened = stores()
        submit(opened, machine, "jobs=2", "megabytes=8")
        ballast = fill(machine.data, 4 * 1024**2)
        one = worker(machine)
        assert one.stdout is not None
        log = ""
        while "no space left on the disk" not in log:
            line = one.stdout.readline()
            assert line, log
            log += line
        assert wait_for(lambda: opened.launchpad.fireworks.count_documents({"state": "RUNNING"}) == 0, 60)
        assert opened.launchpad.fireworks.count_documents({"state": "FIZZLED"}) == 0, "it is not the job's fault"
        ballast.unlink()
        rest, _ = one.communicate(timeout=120)
        assert one.returncode == 0 and "there is space again" in rest, log + rest
        assert_complete(opened, 2)


def test_disk_of_the_database_full(machine: Machine, stores) -> None:
    with small_disk(machine.data / "mongo", 900):
        code, output = machine.mmace("db", "start")
        assert code == 0, output
        run = machine.start(*machine.run("jobs=30", "seconds=0.5"))
        lines = read_until(run, "add: 0: done")
        ballast = fill(machine.data / "mongo", 0)
        # mongod notices when it next writes a file in earnest, at the latest when it is started again
        pid = machine.mongod()
        assert pid is not None
        kill(pid)
        lines += read_until(run, "MB free on this disk, the database needs")
        ballast.unlink()
        output = "".join(lines) + run.communicate(timeout=240)[0]
        assert run.returncode == 0, output
        assert "the database answers again" in output
        assert_complete(stores(), 30)
        assert set(began(machine).values()) == {1}
        from mmace_flows.execution.connection import disconnect

        disconnect()
        machine.mmace("db", "stop")


def test_job_that_two_workers_run(machine: Machine, server: Server, stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker falls silent, its job is given to another, and then it comes back with a result of its own."""
    monkeypatch.chdir(machine.folder)  # FireWorks writes files where it runs a job
    import jobflow
    from fireworks import FWorker
    from fireworks.core.rocket_launcher import launch_rocket

    from mmace_flows.execution.recovery import LOST_SECONDS, recover

    opened = stores()
    submit(opened, machine, "jobs=1", "seconds=0")
    launchpad = opened.launchpad
    jobflow.SETTINGS.JOB_STORE = opened.jobs
    assert launch_rocket(launchpad, FWorker(name="here:1:1"))  # add: 0
    job, launch = launchpad.checkout_fw(FWorker(name="elsewhere:1:1"), str(machine.folder))  # total: 1
    assert job.name == "total: 1"
    recover(opened, CAMPAIGN, others_live=True)
    assert launchpad.fireworks.find_one({"fw_id": job.fw_id})["state"] == "RUNNING", (
        "it said a moment ago that it lives"
    )
    long_ago = (opened.now() - timedelta(seconds=LOST_SECONDS + 1)).isoformat()
    history = {"state_history.$[].updated_on": long_ago, "state_history.$[].created_on": long_ago}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": history})
    assert recover(opened, CAMPAIGN, others_live=True).rerun == [job.fw_id]
    assert launch_rocket(launchpad, FWorker(name="here:1:1"))  # total: 1 again
    count = launchpad.fireworks.count_documents({})
    late = job.tasks[0].run_task(job.spec)
    launchpad.complete_launch(launch, late, "COMPLETED")
    recover(opened, CAMPAIGN, others_live=True)
    assert launchpad.fireworks.count_documents({}) == count == 5, "its jobs were made once"
    assert worker(machine).wait(timeout=120) == 0
    assert_complete(opened, 1)


SKEWED = """
import datetime, socket, sys, time
behind = {seconds}
real, real_time = datetime.datetime, time.time
class Kind(type):
    def __instancecheck__(cls, one):
        return isinstance(one, real)
class Skewed(real, metaclass=Kind):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) - datetime.timedelta(seconds=behind)
    @classmethod
    def utcnow(cls):
        return real.now(datetime.timezone.utc).replace(tzinfo=None) - datetime.timedelta(seconds=behind)
datetime.datetime, time.time = Skewed, lambda: real_time() - behind
socket.gethostname = lambda: "elsewhere"
from mmace_flows.execution.worker import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_clock_of_another_machine_is_wrong(seconds: int, machine: Machine, server: Server, stores) -> None:
    """A worker whose clock is an hour off is neither taken for dead nor does its work get lost to the display."""
    from mmace_flows.execution.progress import ProgressReader
    from mmace_flows.execution.recovery import recover

    opened = stores()
    submit(opened, machine, "jobs=2", "seconds=6")
    reader = ProgressReader(opened, CAMPAIGN, None, 1)
    reader.new_events()
    other = worker(machine, program=[sys.executable, "-c", SKEWED.format(seconds=seconds)])
    assert wait_for(lambda: began(machine)["add 0"] == 1, 90)
    launch = opened.launchpad.launches.find_one({"state": "RUNNING"})
    off = datetime.fromisoformat(launch["state_history"][0]["created_on"])
    off = off if off.tzinfo else off.replace(tzinfo=UTC)
    assert abs(abs((datetime.now(UTC) - off).total_seconds()) - 3600) < 120, "its clock is off indeed"
    assert recover(opened, CAMPAIGN, others_live=True).rerun == []
    assert other.wait(timeout=180) == 0
    assert_complete(opened, 2)
    assert set(began(machine).values()) == {1}


def test_half_written_files_are_refused_in_one_line(machine: Machine) -> None:
    assert machine.mmace("db", "start")[0] == 0
    assert machine.mmace("db", "stop")[0] == 0
    file = machine.data / "mongo" / "connection.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    code, output = machine.mmace(*machine.run("jobs=1"))
    assert code == 2 and len(output.splitlines()) == 1 and "connection.json: missing or unreadable" in output
    file.write_text(whole)
    (machine.data / "mongo" / ".connection.json.1.tmp").write_text(whole[:20])
    machine.recipe.write_text(machine.recipe.read_text()[:900])
    code, output = machine.mmace(*machine.run("jobs=1"))
    assert code == 2 and len(output.splitlines()) == 1 and "faulty.py" in output
