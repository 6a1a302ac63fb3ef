"""Campaigns through a real Slurm: submitted, launched, cut off by wall time, requeued, finished once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from execution_tools import Machine, events, wait_for
from slurm_tools import Cluster

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import slurm_here

pytestmark = pytest.mark.engine
if slurm_here.missing_programs():
    pytest.skip(
        f"no {', '.join(slurm_here.missing_programs())} here: apt-get install slurm-wlm munge", allow_module_level=True
    )


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("slurm")
    try:
        yield slurm_here.start(folder, cores=4)
    finally:
        slurm_here.stop(folder)


@pytest.fixture
def cluster(slurm: dict[str, str], tmp_path: Path) -> Iterator[Cluster]:
    from pymongo import MongoClient

    from mmace_flows.execution.mongod import find_mongod, start_mongod, stop_mongod

    pid, port = start_mongod(find_mongod(), tmp_path / "own", None)
    with MongoClient("127.0.0.1", port) as client:
        client.admin.command("createUser", "scientist", pwd="quite-secret-word", roles=["readWriteAnyDatabase"])
    yield Cluster(Machine(tmp_path), slurm, port)
    subprocess.run(["scancel", "--user", str(os.geteuid())], env={**os.environ, **slurm}, check=False)
    stop_mongod(pid)


@pytest.fixture
def stores(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    """Opens the project's stores in this process when called."""
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.projects import open_project
    from mmace_flows.execution.stores import open_stores

    for name in ("MMACE_DATA_DIR", "MMACE_DATABASE"):
        monkeypatch.setenv(name, "")  # put back afterwards, whatever the project sets
    yield lambda: open_stores(open_project(str(cluster.project)).activate())
    disconnect()


def finished(cluster: Cluster, opened, campaign: str) -> bool:
    return bool(opened.campaigns.query_one({"campaign": campaign})["finished"])


def test_a_campaign_goes_through_slurm(cluster: Cluster, stores) -> None:
    cluster.init("--cores", "2", "--walltime", "00:10:00")
    code, output = cluster.machine.mmace("project", "check", str(cluster.project))
    assert code == 0, output
    assert "sbatch would take it for debug" in output and "store jobs and their arrays" in output
    recipe = str(cluster.machine.recipe)
    code, output = cluster.mmace("submit", recipe, "--set", "jobs=3")
    assert code == 0 and "submitted: 4 jobs so far" in output and "mmace launch cpu" in output, output
    code, output = cluster.mmace("submit", recipe, "--set", "jobs=3")
    assert code == 0 and "is in the queue already: 4 jobs" in output, output
    code, output = cluster.mmace("launch", "cpu")
    assert code == 0 and "3 jobs wait for cpu workers" in output and "submitted now: " in output, output
    code, again = cluster.mmace("launch", "cpu")
    assert code == 0 and "submitted now" not in again, "workers that wait in Slurm are counted: " + again
    opened = stores()
    assert wait_for(lambda: finished(cluster, opened, "trivial-small"), 120.0), cluster.worker_logs()
    assert set(events(opened, "ended").values()) == {1} and len(events(opened, "ended")) == 5
    assert opened.jobs.query_one({"name": "total: 0"}, load=True)["output"] == 201
    assert opened.jobs.query_one({"name": "add: 2"}, load=True)["output"]["array"] == [2.0] * 100
    launch = opened.launchpad.launches.find_one({"state": "COMPLETED"})
    assert str(cluster.project / "data" / "workers") in launch["launch_dir"]
    assert [path for path in cluster.files() if "quite-secret-word" in path.read_text(errors="replace")] == []


def test_fireworks_own_qlaunch(cluster: Cluster, stores) -> None:
    cluster.init("--cores", "1")
    code, output = cluster.mmace("submit", str(cluster.machine.recipe), "--set", "jobs=1")
    assert code == 0, output
    folder = cluster.project
    cluster.edit("launchpad.yaml", "password: null", "password: quite-secret-word")
    (folder / "launchpad.yaml").chmod(0o644)
    code, output = cluster.machine.mmace("project", "check", str(folder))
    assert code == 1 and "others may read it (mode 0644); chmod 600" in output
    (folder / "launchpad.yaml").chmod(0o600)
    program = str(Path(sys.executable).parent / "qlaunch")
    files = ["-l", "launchpad.yaml", "-w", "worker_cpu.yaml", "-q", "slurm_cpu.yaml"]
    # qlaunch reads the job that it asks a worker for, and marks as failed what it cannot import
    environment = {**cluster.machine.environment, "PYTHONPATH": str(cluster.machine.folder)}
    done = subprocess.run([program, *files, "singleshot"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "submitting queue script" in done.stdout + done.stderr, done.stdout + done.stderr
    opened = stores()
    assert wait_for(lambda: finished(cluster, opened, "trivial-small"), 120.0), cluster.worker_logs()


STEPS = 80  # seconds: more than one allocation has


@pytest.mark.slow
def test_wall_time_and_requeue(cluster: Cluster, stores) -> None:
    """Two jobs side by side that need longer than an allocation has: cut off, put back, gone on with."""
    cluster.init("--cores", "2")
    # the worker leaves 30 s before its wall time: after 60 s here, of which a busy machine needs 20 to start it
    cluster.edit("slurm_cpu.yaml", f"--project {cluster.project}", f"--project {cluster.project} --walltime 90")
    recipe = str(cluster.machine.folder / "steps.py")
    needs = "needs={count: {resumes: true, seconds: 5}}"
    code, output = cluster.mmace("submit", recipe, "--set", "jobs=2", "--set", f"steps={STEPS}", "--set", needs)
    assert code == 0, output
    code, output = cluster.mmace("launch", "cpu")
    assert code == 0 and "submitted now" in output, output
    opened = stores()
    assert wait_for(lambda: sum(events(opened, "step").values()) >= 4, 90.0), cluster.worker_logs()
    (number,) = cluster.slurm("squeue", "--noheader", "--format", "%i").split()
    cluster.slurm("scontrol", "requeue", number)
    assert wait_for(lambda: "PENDING" in cluster.slurm("squeue", "--noheader", "--format", "%T"), 60.0)
    # Slurm makes requeued jobs wait for two minutes; a test does not
    cluster.slurm("scontrol", "update", f"JobId={number}", "StartTime=now")

    def more() -> bool:
        if not cluster.slurm("squeue", "--noheader").strip():
            assert cluster.mmace("launch", "cpu")[0] == 0
        return finished(cluster, opened, "steps-small")

    assert wait_for(more, 400.0), cluster.worker_logs()
    begun = events(opened, "began")
    assert len(begun) >= 6, "once at first, once after the requeue, once after the wall time, for each of the two"
    # a step may be done twice if it was cut off between doing it and noting it, and then only the one at the cut
    steps = events(opened, "step ")
    assert set(steps) == {f"step {job}.{step}" for job in (0, 1) for step in range(1, STEPS + 1)}
    assert sum(steps.values()) <= 2 * STEPS + len(begun)
    assert [one["state"] for one in opened.launchpad.fireworks.find()] == ["COMPLETED"] * 2
    assert "the wall time is nearly out" in cluster.worker_logs()


def test_what_cannot_finish_is_not_started(cluster: Cluster, stores) -> None:
    cluster.init("--cores", "1")
    cluster.edit(
        "slurm_cpu.yaml", f"--project {cluster.project}", f"--project {cluster.project} --walltime 90 --idle 2"
    )
    recipe = str(cluster.machine.folder / "steps.py")
    for name, seconds in (("long", 3600), ("short", 3)):
        needs = f"needs={{count: {{seconds: {seconds}}}}}"
        code, output = cluster.mmace("submit", recipe, "--name", name, "--set", needs)
        assert code == 0, output
    code, output = cluster.mmace("launch", "cpu")
    assert code == 0, output
    opened = stores()
    assert wait_for(lambda: finished(cluster, opened, "short"), 90.0), cluster.worker_logs()
    assert wait_for(lambda: not cluster.slurm("squeue", "--noheader").strip(), 60.0), cluster.worker_logs()
    assert {one["spec"]["campaign"]: one["state"] for one in opened.launchpad.fireworks.find()} == {
        "long": "READY", "short": "COMPLETED",
    }  # fmt: skip


def test_wrong_input_is_one_line(cluster: Cluster) -> None:
    cluster.init("--cores", "1")
    recipe = str(cluster.machine.recipe)
    for arguments, words in (
        (["submit", recipe, "--preset", "smal"], "did you mean 'small'"),
        (["submit", recipe, "--set", "job=2"], "did you mean 'jobs'"),
        (["submit", recipe, "--preset", "paper"], "--yes"),
        (["worker", "cpus"], "did you mean 'cpu'"),
        (["worker", "cpu", "--walltime", "2h"], "expected hours:minutes:seconds"),
    ):
        code, output = cluster.mmace(*arguments)
        assert code == 2 and words in output and "Traceback" not in output, output
    cluster.edit("slurm_cpu.yaml", "queue: debug", "queue: nosuch")
    code, output = cluster.machine.mmace("project", "check", str(cluster.project))
    assert code == 1 and "invalid partition" in output and "correct " in output, output
    (cluster.project / "password").chmod(0o640)
    code, output = cluster.mmace("submit", recipe)
    assert code == 2 and "chmod 600" in output and "quite-secret-word" not in output
