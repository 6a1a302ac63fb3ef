"""Who can write to the database cannot run programs on workers; who may only read cannot write; nothing leaks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from execution_tools import Machine, wait_for
from fault_tools import CAMPAIGN, PASSWORD, Server, assert_complete, began, free_port, submit, worker

pytestmark = [pytest.mark.engine, pytest.mark.faults]


def states(stores: Any) -> dict[str, str]:
    return {one["name"]: one["state"] for one in stores.launchpad.fireworks.find({}, {"name": 1, "state": 1})}


def message(stores: Any, name: str) -> str:
    from mmace_flows.execution.queue import failure_message

    return failure_message(stores, stores.launchpad.fireworks.find_one({"name": name})["fw_id"])


def test_injected_documents_are_refused_and_nothing_runs(machine: Machine, server: Server, stores) -> None:
    """Documents of the queue and of job outputs, changed by somebody who can write to the database."""
    opened = stores()
    submit(opened, machine, "jobs=6", "seconds=0")
    fireworks, trap = opened.launchpad.fireworks, machine.folder / "trap"
    call = {"_fw_name": "PyTask", "func": "os.system", "args": [f"touch {trap}-4"]}
    script = {"_fw_name": "ScriptTask", "script": f"touch {trap}-1", "use_shell": True}
    function = {"@module": "os", "@callable": "system", "@bound": None}
    changes: dict[str, dict[str, Any]] = {
        "add: 0": {"spec._tasks": [script]},
        "add: 1": {"spec._tasks.0.job.function": function, "spec._tasks.0.job.function_args": [f"touch {trap}-2"]},
        "add: 2": {"spec._tasks.0.store": {"@module": "subprocess", "@class": "Popen", "args": f"touch {trap}-3"}},
        "add: 3": {"spec._recovery": {"_prev_dir": "/etc", "_mode": "cp", "_task_n": 0}},
        "add: 4": {"spec._background_tasks": [call]},
    }
    for name, change in changes.items():
        assert fireworks.update_one({"name": name}, {"$set": change}).modified_count == 1
    one = worker(machine)
    log = one.communicate(timeout=180)[0]
    assert one.returncode == 0, log
    assert {name: state for name, state in states(opened).items() if state != "WAITING"} == {
        **dict.fromkeys(changes, "FIZZLED"), "add: 5": "COMPLETED",
    }, log  # fmt: skip
    assert list(machine.folder.glob("trap*")) == [], "nothing was executed"
    asked = {"add: 0": "ScriptTask", "add: 1": r"os\.system", "add: 2": r"subprocess\.Popen", "add: 3": "_recovery"}
    for name, what in (asked | {"add: 4": "_background_tasks"}).items():
        assert re.search(f"RefusedDocument: .*{what}.*collection 'refused'", message(opened, name)), name
    assert opened.connection.database["refused"].count_documents({}) == 5
    assert began(machine) == {"add 5": 1}


def test_injected_child_does_not_harm_its_parent(machine: Machine, server: Server, stores) -> None:
    opened = stores()
    submit(opened, machine, "jobs=2", "seconds=0")
    script = {"_fw_name": "ScriptTask", "script": f"touch {machine.folder}/trap"}
    opened.launchpad.fireworks.update_one({"name": "total: 1"}, {"$set": {"spec._tasks": [script]}})
    assert worker(machine).wait(timeout=120) == 0
    assert states(opened) == {"add: 0": "COMPLETED", "add: 1": "COMPLETED", "total: 1": "FIZZLED"}
    assert "ScriptTask" in message(opened, "total: 1") and not (machine.folder / "trap").exists()


def test_injected_output_is_refused(machine: Machine, server: Server, stores) -> None:
    """A result in the job store that would run a program where it is used."""
    opened = stores()
    submit(opened, machine, "jobs=1", "seconds=3")
    one = worker(machine)
    assert wait_for(lambda: began(machine)["add 0"] == 1, 60)
    opened.launchpad.fireworks.update_one({"name": "total: 1"}, {"$set": {"state": "PAUSED"}})
    assert wait_for(lambda: opened.jobs.count() == 1, 60)
    trap = {"@module": "subprocess", "@class": "Popen", "args": ["touch", str(machine.folder / "trap")]}
    opened.connection.database["jobs"].update_one({}, {"$set": {"output.number": trap}})
    opened.launchpad.fireworks.update_one({"name": "total: 1"}, {"$set": {"state": "READY"}})
    one.communicate(timeout=120)
    second = worker(machine)
    log = second.communicate(timeout=120)[0]
    assert states(opened)["total: 1"] == "FIZZLED", log
    assert "subprocess.Popen" in message(opened, "total: 1") and not (machine.folder / "trap").exists()


def test_no_password_in_documents_logs_reports_archives(machine: Machine, server: Server, stores) -> None:
    code, output = machine.mmace(*machine.run("jobs=2"))
    assert code == 0 and PASSWORD not in output, output
    code, output = machine.mmace("export", CAMPAIGN, "-o", str(machine.folder / "archive.tar.gz"))
    assert code == 0, output
    opened = stores()
    database = opened.connection.database
    names = database.list_collection_names()
    assert {"fireworks", "launches", "workflows", "jobs", "campaigns"} <= set(names)
    for name in names:
        assert not [one for one in database[name].find() if PASSWORD in repr(one)], name
    files = [path for path in machine.folder.rglob("*") if path.is_file() and not path.is_relative_to(server.folder)]
    assert {"report.html", "campaign.log", "worker-1.log", "archive.tar.gz"} <= {path.name for path in files}
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    with tarfile.open(machine.folder / "archive.tar.gz") as tar:
        assert all(PASSWORD.encode() not in tar.extractfile(one).read() for one in tar)  # type: ignore[union-attr]
    for one in (opened.labels, opened.jobs, opened.launchpad):
        described = one.as_dict() if hasattr(one, "as_dict") else one.to_dict()
        assert PASSWORD not in json.dumps(described, default=str)


def test_roles(machine: Machine, server: Server, stores) -> None:
    """The users that db_config/accounts.js makes: a worker writes its own database, a reader only reads it."""
    from pymongo import MongoClient
    from pymongo.errors import OperationFailure

    text = (Path(__file__).parents[2] / "db_config" / "accounts.js").read_text()
    roles = re.findall(r'user: "(\w+)".*?roles: \[\{ role: "(\w+)", db: DATABASE \}\]', text, re.DOTALL)
    assert dict(roles) == {"mmace": "readWrite", "mmace_reader": "read"}
    with MongoClient("127.0.0.1", server.port, username="admin", password=PASSWORD, authSource="admin") as client:
        for user, role in roles:
            client.admin.command("createUser", user, pwd=PASSWORD, roles=[{"role": role, "db": "magnets"}])
    description = machine.folder / "server.yaml"
    original = description.read_text()

    description.write_text(original.replace("scientist", "mmace"))
    code, output = machine.mmace(*machine.run("jobs=2"))
    assert code == 0, output
    with MongoClient("127.0.0.1", server.port, username="mmace", password=PASSWORD, authSource="admin") as client:
        with pytest.raises(OperationFailure, match="not authorized"):
            client["others"]["labels"].insert_one({})
        with pytest.raises(OperationFailure, match="not authorized"):
            client["others"]["labels"].find_one()

    description.write_text(original.replace("scientist", "mmace_reader"))
    code, output = machine.mmace("status", CAMPAIGN)
    assert code == 0 and "6 of 6" in output, output
    code, output = machine.mmace("export", CAMPAIGN, "-o", str(machine.folder / "read.tar.gz"))
    assert code == 0, output
    code, output = machine.mmace(*machine.run("jobs=3"), "--name", "mine")
    assert code == 2 and len(output.splitlines()) == 1 and "may only read" in output, output
    assert_complete(stores(), 2)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def secured(tmp_path: Path) -> Any:
    """A server that speaks TLS only, with a certificate of an authority of its own."""
    from mmace_flows.execution.mongod import find_mongod

    folder, port = tmp_path / "tls", free_port()
    (folder / "data").mkdir(parents=True)
    name = ["-nodes", "-days", "2", "-newkey", "rsa:2048"]
    for authority in ("ca", "foreign"):
        subject = ["-subj", f"/CN=An authority of the tests: {authority}"]
        _openssl(folder, "req", "-x509", *name, "-keyout", f"{authority}.key", "-out", f"{authority}.pem", *subject)
    _openssl(folder, "req", *name, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    _openssl(folder, "x509", "-req", "-in", "server.csr", *sign, "-out", "server.pem")
    (folder / "both.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
    command = [str(find_mongod()), "--dbpath", str(folder / "data"), "--port", str(port), "--bind_ip", "127.0.0.1"]
    command += ["--nounixsocket", "--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(folder / "both.pem")]
    server = subprocess.Popen([*command, "--logpath", str(folder / "log")])
    log = folder / "log"
    assert wait_for(lambda: log.exists() and "Waiting for connections" in log.read_text(errors="replace"), 60)
    yield folder, port
    server.kill()
    server.wait()


def test_tls(machine: Machine, secured: tuple[Path, int]) -> None:
    folder, port = secured
    file = machine.folder / "tls.yaml"
    machine.environment["MMACE_DATABASE"] = str(file)
    plain = f"host: 127.0.0.1\nport: {port}\ndatabase: magnets\nsilent_seconds: 3\n"
    file.write_text(f"{plain}tls: true\ntls_ca_file: {folder / 'ca.pem'}\n")
    code, output = machine.mmace(*machine.run("jobs=1"))
    assert code == 0 and "faulty-small is complete" in output, output
    for wrong in ("", "tls: true\n", f"tls: true\ntls_ca_file: {folder / 'foreign.pem'}\n"):
        file.write_text(plain + wrong)
        code, output = machine.mmace("status")
        assert code == 2 and len(output.splitlines()) == 1, output
    assert os.environ.get("MMACE_DATABASE") is None
