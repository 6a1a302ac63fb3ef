"""Processes that die: workers, runs, the database; two that do the same. Every result is there once, nothing twice."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from execution_tools import Machine, descendants, kill, read_until, wait_for
from fault_tools import CAMPAIGN, Server, assert_complete, began, spooled, submit, worker

from mmace_flows.execution.mongod import port_is_free
from mmace_flows.execution.processes import ProcessName

pytestmark = [pytest.mark.engine, pytest.mark.faults]
# FAULT_KILLS=100 is the long variant
KILLS = int(os.environ.get("FAULT_KILLS", "8"))


def test_workers_and_runs_killed_at_random_moments(machine: Machine, stores) -> None:
    chance = random.Random(7)
    jobs = max(12, 2 * KILLS)  # enough of them that the last kill comes before the end
    arguments = machine.run(f"jobs={jobs}", "seconds=0.1")
    killed, runs, seen, run = 0, 0, 0, None
    while True:
        if run is None:
            runs += 1
            assert runs < 3 * KILLS + 10, "it does not come to an end"
            run = machine.start(*arguments)
        # a job has just begun: kill before, within, after it, or between two writes of its end
        if killed < KILLS and began(machine).total() > seen:
            time.sleep(chance.uniform(0.0, 0.5))
            workers = [pid for pid in descendants(run.pid) if "execution.worker" in _command(pid)]
            if workers:
                killed, seen = killed + 1, began(machine).total()
                kill(*([run.pid] if killed % 4 == 0 else [chance.choice(workers)]))
        try:
            run.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        output = run.stdout.read() if run.stdout else ""
        if run.returncode == 0:
            break
        # it was killed itself, or a job lost its worker so often that the run gave it up: the same command goes on
        assert run.returncode in (-9, 1, 2), output
        assert "Traceback" not in output, output
        run = None
    assert killed == KILLS
    assert_complete(stores(), jobs)
    assert began(machine).total() > jobs + 4, "no kill hit a job, so nothing was tested"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_embedded_database_killed_during_a_campaign(machine: Machine, stores) -> None:
    run = machine.start(*machine.run("jobs=8", "seconds=1"))
    lines = read_until(run, "add: 2: done")
    server = machine.mongod()
    assert server is not None
    kill(server)
    output = "".join(lines) + run.communicate(timeout=240)[0]
    assert run.returncode == 0, output
    assert "does not answer" in output and "the database answers again after" in output
    assert_complete(stores(), 8)
    assert set(began(machine).values()) == {1}, "a job was repeated only because the database was away"


def test_embedded_database_whose_port_is_taken_while_it_is_away(machine: Machine, stores) -> None:
    run = machine.start(*machine.run("jobs=6", "seconds=1"))
    lines = read_until(run, "add: 1: done")
    port = json.loads((machine.data / "mongo" / "connection.json").read_text())["port"]
    server = machine.mongod()
    assert server is not None
    kill(server)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert wait_for(lambda: port_is_free(port), 10)
        other.bind(("127.0.0.1", port))
        other.listen()
        lines += read_until(run, f"port {port} is taken by another program; free it, or stop all")
    output = "".join(lines) + run.communicate(timeout=240)[0]
    assert run.returncode == 0 and "the database answers again after" in output, output
    assert_complete(stores(), 6)
    assert set(began(machine).values()) == {1}


def test_result_of_a_long_job_survives_database_and_worker(machine: Machine, server: Server, stores) -> None:
    """The store is unreachable when a long job ends, and then the worker reaches its wall limit."""
    opened = stores()
    submit(opened, machine, "jobs=1", "seconds=4")
    first = worker(machine)
    assert wait_for(lambda: began(machine)["add 0"] == 1, 60)
    server.kill()
    # the output's document, its array, and the end of the job
    assert wait_for(lambda: len(spooled(machine)) == 3, 60), "the result waits on disk"
    kill(first.pid)
    log = first.communicate()[0]
    assert "does not answer" in log and "is kept in" in log and "Traceback" not in log
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in spooled(machine))
    server.start()
    second = worker(machine)
    log = second.communicate(timeout=120)[0]
    assert second.returncode == 0 and "3 kept results stored" in log, log
    assert spooled(machine) == []
    assert_complete(opened, 1)
    assert began(machine)["add 0"] == 1, "the long job ran once"


def test_worker_begins_while_the_database_is_away(machine: Machine, server: Server, stores) -> None:
    opened = stores()
    submit(opened, machine, "jobs=2")
    server.kill()
    early = worker(machine)
    assert early.stdout is not None and "does not answer" in early.stdout.readline()
    server.start()
    assert early.wait(timeout=120) == 0
    assert_complete(opened, 2)


def test_kept_results_are_delivered_by_command(machine: Machine, server: Server, stores) -> None:
    submit(stores(), machine, "jobs=1", "seconds=3")
    first = worker(machine)
    assert wait_for(lambda: began(machine)["add 0"] == 1, 60)
    server.kill()
    assert wait_for(lambda: len(spooled(machine)) == 3, 60)
    kill(first.pid)
    first.communicate()
    code, output = machine.mmace("deliver")
    assert code == 2 and len(output.splitlines()) == 1 and "does not answer" in output
    server.start()
    # half of a file, as a machine that loses power can leave it
    half = spooled(machine)[0].with_name(f"{0:020d}-1-0.result")
    half.write_bytes(spooled(machine)[0].read_bytes()[:-20])
    code, output = machine.mmace("deliver")
    assert code == 0 and "3 kept results stored, 1 set aside" in output, output
    assert half.with_suffix(".damaged").exists() and spooled(machine) == []
    code, output = machine.mmace("deliver")
    assert code == 0 and "nothing waits" in output
    assert worker(machine).wait(timeout=120) == 0
    assert_complete(stores(), 1)
    assert began(machine)["add 0"] == 1


def test_two_submitters_at_once(machine: Machine, server: Server, stores) -> None:
    opened = stores()
    code = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1] / "engines")]!r}
import time; from pathlib import Path
from types import SimpleNamespace
from fault_tools import submit
from mmace_flows.execution.stores import open_stores
stores, folder = open_stores(), Path({str(machine.folder)!r})
(folder / sys.argv[1]).touch()
while len(list(folder.glob("ready*"))) < 2: time.sleep(0.001)
submit(stores, SimpleNamespace(recipe=folder / "faulty.py"), "jobs=20")
"""
    both = [
        subprocess.Popen([sys.executable, "-c", code, f"ready{number}"], env=machine.environment) for number in range(2)
    ]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert opened.launchpad.workflows.count_documents({}) == 1
    assert opened.launchpad.fireworks.count_documents({}) == 21 and opened.campaigns.count({"campaign": CAMPAIGN}) == 1
    two = [worker(machine), worker(machine)]
    assert [one.wait(timeout=240) for one in two] == [0, 0]
    assert_complete(opened, 20)


@pytest.mark.parametrize("maker", ["lives", "dies"])
def test_job_that_is_taken_before_its_workflow_knows_it(
    maker: str, machine: Machine, server: Server, stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that a job makes lie in the queue before they stand in the workflow: another worker may be that quick."""
    monkeypatch.chdir(machine.folder)
    import jobflow
    from fireworks import FWorker
    from fireworks.core.rocket_launcher import launch_rocket

    from mmace_flows.execution.launchpad import ProjectLaunchPad
    from mmace_flows.execution.recovery import recover

    opened = stores()
    submit(opened, machine, "jobs=1", "seconds=0")
    jobflow.SETTINGS.JOB_STORE = opened.jobs
    others: list[Any] = []
    insert = ProjectLaunchPad._upsert_fws

    def slowly(launchpad: Any, fireworks: list[Any], *arguments: Any) -> Any:
        found = insert(launchpad, fireworks, *arguments)
        if len(found) > 1:  # new ones
            others.append(worker(machine))
            assert wait_for(lambda: opened.fireworks.count_documents({"name": "add: 1000", "state": "RUNNING"}), 90)
            time.sleep(1.0)
            if maker == "dies":
                raise KeyboardInterrupt
        return found

    monkeypatch.setattr(ProjectLaunchPad, "_upsert_fws", slowly)
    here = FWorker(name=str(ProcessName.this()))
    assert launch_rocket(opened.launchpad, here)  # add: 0
    if maker == "dies":
        with pytest.raises(KeyboardInterrupt):
            launch_rocket(opened.launchpad, here)  # total: 1
        monkeypatch.setattr(ProjectLaunchPad, "_upsert_fws", insert)
        recover(opened, CAMPAIGN, others_live=True)
    else:
        assert launch_rocket(opened.launchpad, here)
    log, _ = others[0].communicate(timeout=120)
    assert others[0].returncode == 0 and ("was withdrawn" in log) == (maker == "dies"), log
    assert_complete(opened, 1)
