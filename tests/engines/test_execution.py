"""Campaigns on a real mongod and a real FireWorks queue: to the end, killed, resumed, refused."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from execution_tools import Machine, descendants, events, kill, read_until, wait_for

pytestmark = pytest.mark.engine


def test_to_the_end_and_once_more(machine: Machine, stores) -> None:
    code, output = machine.mmace(*machine.run())
    assert code == 0, output
    assert "in all 6 jobs" in output and "2 workers" in output
    report = machine.data / "campaigns" / "trivial-small" / "report.html"
    assert f"report: {report}" in output and report.stat().st_size > 1000
    assert "add: began 3" in output and "add: 3: done in" in output
    assert machine.mongod() is None, "the last user leaves: the server stops"

    code, again = machine.mmace(*machine.run())
    assert code == 0 and str(report) in again and "began" not in again

    opened = stores()
    assert set(events(opened, "began").values()) == {1}
    assert len(events(opened, "began")) == 6
    output_of_last = opened.jobs.query_one({"name": "total: 0"}, load=True)
    assert output_of_last["output"] == 201
    arrays = opened.jobs.query_one({"name": "add: 3"}, load=True)["output"]["array"]
    assert arrays == [3.0] * 100, "fields saved as data come back from GridFS"
    assert opened.jobs.query_one({"name": "add: 3"}, load=False)["metadata"]["campaign"] == "trivial-small"
    _no_password_anywhere(machine, opened)

    code, text = machine.mmace("status", "--json")
    assert code == 0
    (row,) = json.loads(text)
    assert (row["state"], row["jobs_done"], row["jobs_failed"]) == ("finished", 8, 0)


def _no_password_anywhere(machine: Machine, opened) -> None:
    """Neither in a document nor in a file other than the connection file (and mongod's own)."""
    connection_file = machine.data / "mongo" / "connection.json"
    password = json.loads(connection_file.read_text())["password"]
    assert len(password) >= 32 and connection_file.stat().st_mode & 0o777 == 0o600
    database = opened.connection.database
    names = database.list_collection_names()
    assert {"fireworks", "launches", "workflows", "jobs", "campaigns", "events", "jobs_data.files"} <= set(names)
    assert any(database[name].find_one() for name in names)
    for name in names:
        assert not [one for one in database[name].find() if password in repr(one)], name
    for store in (opened.labels, opened.jobs, opened.launchpad):
        assert password not in json.dumps(
            store.as_dict() if hasattr(store, "as_dict") else store.to_dict(), default=str
        )
    files = [
        path for path in machine.data.rglob("*") if path.is_file() and (machine.data / "mongo/data") not in path.parents
    ]
    assert any(path.name == "worker-1.log" for path in files) and any(path.name == "mongod.log" for path in files)
    assert [path for path in files if password in path.read_text(errors="replace")] == [connection_file]


def test_everything_killed_in_the_middle(machine: Machine, stores) -> None:
    run = machine.start(*machine.run("jobs=6", "seconds=1.5"))
    lines = read_until(run, "add: 2: done")
    server = machine.mongod()
    assert server is not None
    kill(run.pid, *descendants(run.pid), server)
    output, _ = run.communicate()
    finished = {line.split()[2].rstrip(":") for line in lines if "done in" in line}
    assert "2" in finished and len(finished) < 6

    code, output = machine.mmace("resume", "--workers", "2")
    assert code == 0, output
    opened = stores()
    began, ended = events(opened, "began"), events(opened, "ended")
    assert {f"ended {number}" for number in (*range(6), 100, 101)} == set(ended)
    for number in finished:
        assert began[f"began {number}"] == 1, f"job {number} was finished and ran again"
    assert sum(began.values()) > 8, "something was interrupted and ran again"
    queue = opened.launchpad
    assert all(one["state"] == "COMPLETED" for one in queue.fireworks.find())
    assert queue.fireworks.count_documents({}) == 10
    assert "locked" not in queue.workflows.find_one()


def test_only_the_parent_killed(machine: Machine) -> None:
    run = machine.start(*machine.run("seconds=60"))
    read_until(run, "began")
    workers = descendants(run.pid)
    assert len(workers) >= 1
    kill(run.pid)
    run.communicate()
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers)), "workers end with their parent"
    assert wait_for(lambda: machine.mongod() is None), "the last worker stops the server"


def test_two_at_once_and_interrupt(machine: Machine, stores) -> None:
    machine.closed.touch()
    run = machine.start(*machine.run())
    read_until(run, "began")
    code, output = machine.mmace(*machine.run())
    assert code == 2 and output.startswith("error: ") and len(output.splitlines()) == 1
    assert f"process {run.pid}" in output
    code, output = machine.mmace("db", "stop")
    assert code == 2 and str(run.pid) in output

    code, output = machine.mmace(*machine.run("jobs=1"), "--name", "other")
    assert code == 0, "another campaign shares the database: " + output
    assert machine.mongod() is not None, "somebody still uses it"
    code, output = machine.mmace("status", "trivial-small")
    assert code == 0 and "running: add: 0" in output

    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert f"continue with: mmace resume trivial-small --data-dir {machine.data}" in output
    assert "Traceback" not in output and machine.mongod() is None
    states = {one["state"] for one in stores().launchpad.fireworks.find({"spec.campaign": "trivial-small"})}
    assert states == {"READY", "WAITING"}

    run = machine.start("resume", "trivial-small", "--workers", "2")
    lines = read_until(run, "interrupted job")
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert lines[-1].endswith("0 jobs are done already, 2 interrupted jobs start again\n")


def test_other_settings_under_the_same_name(machine: Machine) -> None:
    assert machine.mmace(*machine.run("jobs=1"))[0] == 0
    code, output = machine.mmace(*machine.run("jobs=2"))
    assert code == 2 and "jobs: 1 there, 2 here" in output and "--name" in output and len(output.splitlines()) == 1
    code, output = machine.mmace(*machine.run("jobs=2"), "--new")
    assert code == 0 and "trivial-small-2 is complete" in output


def test_failed_job_is_named_and_tried_again(machine: Machine, stores) -> None:
    mended = machine.folder / "mended"
    code, output = machine.mmace(*machine.run(f"fails_until={mended}"))
    assert code == 1, output
    assert "broken: fails: once: ValueError: no such file yet" in output
    assert f"mmace resume trivial-small --data-dir {machine.data}" in output
    code, output = machine.mmace("resume", "trivial-small")
    assert code == 1 and "fails: once: failed before, tried once more" in output
    mended.touch()
    code, output = machine.mmace("resume", "trivial-small")
    assert code == 0, output
    assert events(stores(), "tried")["tried"] == 3
    assert set(events(stores(), "began").values()) == {1}, "what was finished did not run again"


def test_job_that_kills_its_worker(machine: Machine, stores) -> None:
    code, output = machine.mmace(*machine.run("dies=true"))
    assert code == 1, output
    assert "broken: dies: always: the worker process died each time" in output
    assert events(stores(), "tried")["tried"] == 5
    assert set(events(stores(), "ended").values()) == {1} and len(events(stores(), "ended")) == 6


def test_port_taken(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        machine.environment["MMACE_DATABASE_PORT"] = str(taken.getsockname()[1])
        code, output = machine.mmace("db", "start")
        assert (code, len(output.splitlines())) == (2, 1)
        assert f"port {taken.getsockname()[1]} is taken" in output and "MMACE_DATABASE_PORT" in output


def test_next_port_and_orphan_is_used_again(machine: Machine) -> None:
    from mmace_flows.execution.mongod import running_mongod

    code, output = machine.mmace("db", "start")
    assert code == 0, output
    first = running_mongod(machine.data / "mongo")
    assert first is not None
    # whoever started it is gone; its notes are lost as well
    (machine.data / "mongo" / "mongod.pid").unlink()
    code, output = machine.mmace("db", "start")
    assert code == 0 and running_mongod(machine.data / "mongo") == first
    kill(first[0])
    assert wait_for(lambda: machine.mongod() is None)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first[1]))
        taken.listen()
        code, output = machine.mmace("db", "start")
        assert code == 0, output
        second = running_mongod(machine.data / "mongo")
        assert second is not None and second[1] != first[1]
    assert machine.mmace("db", "stop") == (0, "stopped\n") and machine.mongod() is None


def test_lost_password_is_one_line(machine: Machine) -> None:
    assert machine.mmace("db", "start")[0] == 0
    assert machine.mmace("db", "stop")[0] == 0
    (machine.data / "mongo" / "connection.json").unlink()
    code, output = machine.mmace("db", "start")
    assert code == 2 and len(output.splitlines()) == 1 and "connection.json" in output


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[int]:
    """A server started by hand, with a user of its own; gives its port."""
    from pymongo import MongoClient

    from mmace_flows.execution.mongod import find_mongod, start_mongod, stop_mongod

    pid, port = start_mongod(find_mongod(), tmp_path / "own", None)
    with MongoClient("127.0.0.1", port) as client:
        client.admin.command("createUser", "scientist", pwd="quite-secret-word", roles=["readWriteAnyDatabase"])
    yield port
    stop_mongod(pid)


def test_own_server(machine: Machine, own_server: int, stores, tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(
        f"host: 127.0.0.1\nport: {own_server}\ndatabase: magnets\nusername: scientist\npassword_env: MY_PASSWORD\n"
    )
    machine.environment["MMACE_DATABASE"] = str(file)
    code, output = machine.mmace(*machine.run())
    assert (code, len(output.splitlines())) == (2, 1) and "MY_PASSWORD is not set" in output
    machine.environment["MY_PASSWORD"] = "wrong"
    code, output = machine.mmace("status")
    assert (code, len(output.splitlines())) == (2, 1) and "refuses user 'scientist'" in output
    machine.environment["MY_PASSWORD"] = "quite-secret-word"
    code, output = machine.mmace(*machine.run())
    assert code == 0, output
    assert not (machine.data / "mongo").exists(), "no embedded server beside it"

    import os

    os.environ["MY_PASSWORD"] = "quite-secret-word"
    try:
        opened = stores()
        assert opened.connection.database.name == "magnets"
        assert opened.campaigns.query_one()["finished"]
        database = opened.connection.database
        for name in database.list_collection_names():
            assert not [one for one in database[name].find() if "quite-secret-word" in repr(one)], name
    finally:
        del os.environ["MY_PASSWORD"]
    for path in machine.data.rglob("*.log"):
        assert "quite-secret-word" not in path.read_text()


def test_models_and_scratch(machine: Machine, stores) -> None:
    from mmace.errors import UserError

    opened = stores()
    first = opened.save_model(b"weights", {"iteration": 1})
    assert opened.save_model(b"weights") == first and opened.load_model(first) == b"weights"
    assert opened.connection.database["models.files"].count_documents({}) == 1
    with pytest.raises(UserError, match="no model"):
        opened.load_model("nothing")
    opened.connection.database["models.chunks"].update_one({}, {"$set": {"data": b"weighty"}})
    with pytest.raises(UserError, match="damaged"):
        opened.load_model(first)
    assert opened.scratch("feni", "train/1") == opened.scratch("feni", "train/1")
    assert opened.scratch("feni", "../..").is_relative_to(machine.data / "campaigns" / "feni" / "scratch")


CRASHES = ["reserved", "launch written", "half of the detour written", "completed but not applied"]


@pytest.mark.parametrize("moment", CRASHES)
def test_worker_dies_between_two_writes(moment: str, machine: Machine, stores, monkeypatch) -> None:
    """A worker that dies at each of FireWorks' delicate moments; afterwards every job runs to its end once."""
    from mmace_flows.execution.trust import trust_folder

    monkeypatch.syspath_prepend(machine.folder)  # recovery reads the jobs, as `mmace run` can after loading the recipe
    trust_folder(machine.folder)
    code, output = machine.mmace("db", "start")
    assert code == 0, output
    script = f"""
import sys, os
sys.path.insert(0, {str(machine.folder)!r})
import jobflow, trivial
from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.queue import submit
from mmace_flows.execution.stores import open_stores
stores = open_stores()
jobflow.SETTINGS.JOB_STORE = stores.jobs
submit(stores, trivial.build(trivial.Settings(jobs=1), "c"), "c")
lp, worker = stores.launchpad, FWorker(name=str(ProcessName.this()))
die = lambda *arguments, **keywords: os._exit(9)
moment = {moment!r}
if moment == "reserved":
    lp.get_fw_by_id = die
if moment == "launch written":
    lp._upsert_fws = die
if moment in ("reserved", "launch written"):
    launch_rocket(lp, worker)
launch_rocket(lp, worker)  # add: 0
if moment == "completed but not applied":
    complete, refresh = lp.complete_launch, lp._refresh_wf
    def complete_launch(*arguments, **keywords):
        lp._refresh_wf = die
        return complete(*arguments, **keywords)
    lp.complete_launch = complete_launch
if moment == "half of the detour written":
    upsert = lp._upsert_fws
    def _upsert_fws(fireworks, **keywords):
        if len(fireworks) > 2:
            upsert(sorted(fireworks, key=lambda one: one.fw_id)[:-1])
            os._exit(9)
        return upsert(fireworks, **keywords)
    lp._upsert_fws = _upsert_fws
launch_rocket(lp, worker)  # total: 1, which makes more jobs
os._exit(0)
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=machine.environment, cwd=machine.folder, capture_output=True, text=True)
    assert result.returncode == 9, result.stdout + result.stderr
    opened = stores()
    from mmace_flows.execution.recovery import recover

    recover(opened, "c")
    recover(opened, "c")  # a second time finds nothing more to mend
    worker = subprocess.run(
        [sys.executable, "-m", "mmace_flows.execution.worker", "c", "--recipe-dir", str(machine.folder)],
        env=machine.environment,
        cwd=machine.folder,
        timeout=120,
    )
    assert worker.returncode == 0
    assert events(opened, "ended") == {"ended 0": 1, "ended 100": 1, "ended 101": 1}
    assert events(opened, "total 1") == {"total 1 is 0": 1}
    names = sorted(one["name"] for one in opened.launchpad.fireworks.find())
    assert names == ["add: 0", "add: 100", "add: 101", "total: 0", "total: 1"]
    workflow = opened.launchpad.workflows.find_one()
    assert set(workflow["fw_states"].values()) == {"COMPLETED"} and len(workflow["nodes"]) == 5
