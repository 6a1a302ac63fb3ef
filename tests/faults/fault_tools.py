"""What the tests of faults share: a recipe whose jobs leave traces on disk, a server to kill, a network to cut."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from execution_tools import Machine

PASSWORD = "a-quite-secret-word-of-the-tests"

FAULT_RECIPE = '''
"""Cheap jobs that write a line into a file each time they begin: what ran twice can be told without the database."""
import os
import time
from pathlib import Path

from jobflow import Flow, Response, job
from pydantic import BaseModel, ConfigDict

from mmace_flows.schemas.campaign import CostEstimate, StageEstimate


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    jobs: int = 4
    seconds: float = 0.05
    megabytes: int = 0


PRESETS = {"small": Settings()}


def began(name):
    with open(Path(os.environ["MMACE_DATA_DIR"]).parent / "began.txt", "a") as stream:
        stream.write(name + "\\n")


@job(data=["array"])
def add(number, seconds, megabytes):
    began(f"add {number}")
    time.sleep(seconds)
    Path("scratch.bin").write_bytes(bytes(megabytes * 1024**2))
    return {"number": number, "array": [float(number)] * 100}


@job
def total(numbers, rounds, seconds):
    began(f"total {rounds}")
    if rounds == 0:
        return sum(numbers)
    more = [named(add(1000 * rounds + n, seconds, 0), f"add: {1000 * rounds + n}") for n in range(2)]
    again = named(total([one.output["number"] for one in more], rounds - 1, seconds), f"total: {rounds - 1}")
    return Response(output=sum(numbers), detour=Flow([*more, again]))


def named(job, name):
    job.name = name
    return job


def build(settings, campaign):
    first = [named(add(n, settings.seconds, settings.megabytes), f"add: {n}") for n in range(settings.jobs)]
    return Flow([*first, named(total([one.output["number"] for one in first], 1, settings.seconds), "total: 1")])


def estimate(settings):
    return CostEstimate(stages=[StageEstimate(stage="add", jobs=settings.jobs + 2, core_seconds_per_job=0.1)])
'''
CAMPAIGN = "faulty-small"


def began(machine: Machine) -> Counter[str]:
    """How often each job began."""
    file = machine.folder / "began.txt"
    return Counter(file.read_text().splitlines()) if file.exists() else Counter()


def assert_complete(stores: Any, jobs: int) -> None:
    """Every job is done, with one result in the database and one launch that counts."""
    launchpad = stores.launchpad
    names = {f"add: {number}" for number in (*range(jobs), 1000, 1001)} | {"total: 1", "total: 0"}
    fireworks = list(launchpad.fireworks.find({}, {"name": 1, "state": 1, "launches": 1}))
    assert Counter(one["name"] for one in fireworks) == Counter(names), "no job missing, none twice"
    assert {one["state"] for one in fireworks} == {"COMPLETED"}
    for one in fireworks:
        states = [launch["state"] for launch in launchpad.launches.find({"launch_id": {"$in": one["launches"]}})]
        assert states.count("COMPLETED") == 1, f"{one['name']}: {states}"
    workflow = launchpad.workflows.find_one()
    assert launchpad.workflows.count_documents({}) == 1 and "locked" not in workflow
    assert set(workflow["fw_states"].values()) == {"COMPLETED"} and len(workflow["nodes"]) == len(names)
    assert Counter(one["name"] for one in stores.jobs.query({}, properties=["name"])) == Counter(names)
    for number in (0, jobs - 1, 1001):
        output = stores.jobs.query_one({"name": f"add: {number}"}, load=True)["output"]
        assert output == {"number": number, "array": [float(number)] * 100}
    assert stores.jobs.query_one({"name": "total: 1"})["output"] == sum(range(jobs))
    assert stores.jobs.query_one({"name": "total: 0"})["output"] == 2001


def worker(machine: Machine, campaign: str = CAMPAIGN, program: list[str] | None = None) -> subprocess.Popen[str]:
    """A worker process of its own, its log in a pipe."""
    command = program or [sys.executable, "-m", "mmace_flows.execution.worker"]
    return subprocess.Popen(
        [*command, campaign, "--recipe-dir", str(machine.folder)],
        env=machine.environment | {"PYTHONUNBUFFERED": "1"},
        cwd=machine.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def submit(stores: Any, machine: Machine, *changes: str) -> None:
    """Put the campaign into the queue, without running it."""
    from mmace_flows.execution.campaign import begin_campaign
    from mmace_flows.execution.recipe import load_recipe
    from mmace_flows.execution.submit import submit_once

    recipe = load_recipe(machine.recipe)
    settings = recipe.settings("small", changes)
    campaign = begin_campaign(stores, recipe, "small", settings, CAMPAIGN, str(machine.recipe))
    submit_once(stores, campaign, recipe)


class Server:
    """A mongod with accounts, on a folder."""

    def __init__(self, folder: Path) -> None:
        from pymongo import MongoClient

        from mmace_flows.execution.mongod import find_mongod

        self.program, self.folder, self.port = find_mongod(), folder, free_port()
        (folder / "data").mkdir(parents=True)
        self.start()
        with MongoClient("127.0.0.1", self.port) as client:
            client.admin.command("createUser", "admin", pwd=PASSWORD, roles=["userAdminAnyDatabase"])
        with MongoClient("127.0.0.1", self.port, username="admin", password=PASSWORD) as client:
            client.admin.command("createUser", "scientist", pwd=PASSWORD, roles=["readWriteAnyDatabase"])

    def start(self) -> None:
        from pymongo import MongoClient

        command = [str(self.program), "--dbpath", str(self.folder / "data"), "--port", str(self.port), "--auth"]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
        self.process = subprocess.Popen([*command, "--logpath", str(self.folder / "log"), "--logappend"])
        with MongoClient("127.0.0.1", self.port, serverSelectionTimeoutMS=60_000) as client:
            client.admin.command("ping")

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def describe(self, file: Path, port: int) -> dict[str, str]:
        """Write the description of the server at a port; returns variables that name it."""
        file.write_text(
            f"host: 127.0.0.1\nport: {port}\ndatabase: magnets\nusername: scientist\n"
            "password_env: FAULT_PASSWORD\nsilent_seconds: 2\n"
        )
        return {"MMACE_DATABASE": str(file), "FAULT_PASSWORD": PASSWORD}


class Network:
    """A TCP proxy in front of a server that can be cut, go deaf, or be slow."""

    def __init__(self, target: int) -> None:
        self.target, self.delay, self.deaf, self.closed = target, 0.0, False, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lines: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, closed: bool) -> None:
        """Break all lines, and refuse new ones until told otherwise."""
        self.closed = closed
        for line in list(self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self.cut(closed=True)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                near.close()
                continue
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self.target)) as far:
            self._lines |= {near, far}
            other, deafened = {near: far, far: near}, False
            while not self.closed:
                ready, _, _ = select.select([near, far], [], [], 0.5)
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    deafened |= self.deaf  # a line that lost bytes once is of no use any more
                    if not deafened:
                        time.sleep(self.delay)
                        other[one].sendall(data)
        self._lines.discard(near)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spooled(machine: Machine) -> list[Path]:
    """Results that wait on disk."""
    return sorted((machine.data / "spool").glob("*/*.result"))


def can_mount() -> bool:
    """Whether this user may mount a small file system."""
    return os.geteuid() == 0 and subprocess.run(["mountpoint", "-q", "/proc"]).returncode == 0
