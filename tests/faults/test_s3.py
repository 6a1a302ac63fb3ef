"""Job outputs in S3: a real server of its protocol, which goes away and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from execution_tools import Machine, kill, wait_for
from fault_tools import CAMPAIGN, Network, assert_complete, began, free_port, spooled, submit, worker

from mmace_flows.execution.mongod import running_mongod

pytestmark = [pytest.mark.engine, pytest.mark.faults]

SECRET = "s3-secret-of-the-tests"
ACCOUNT = {"AWS_ACCESS_KEY_ID": "scientist", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}


class Bucket:
    """An S3 server with one bucket, behind a network that can be cut."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with (folder / "s3.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        quick = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
        self.client: Any = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=quick)
        assert wait_for(self._made, 60), (folder / "s3.log").read_text()
        self.network = Network(port)
        template = Path(__file__).parents[2] / "db_config" / "job_store_s3.yaml"
        text = template.read_text().replace("my-bucket", "magnets")
        self.file = folder / "job_store.yaml"
        self.file.write_text(f"{text}    endpoint_url: http://127.0.0.1:{self.network.port}\n")

    def objects(self) -> list[str]:
        """Names of all objects."""
        return [one["Key"] for one in self.client.list_objects_v2(Bucket="magnets").get("Contents", [])]

    def stop(self) -> None:
        """End server and network."""
        self.network.stop()
        self.process.kill()
        self.process.wait()

    def _made(self) -> bool:
        try:
            self.client.create_bucket(Bucket="magnets")
        except (BotoCoreError, ClientError):
            return False
        return True


@pytest.fixture
def bucket(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The machine's jobs store arrays there."""
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    found = Bucket(tmp_path)
    machine.environment |= ACCOUNT | {"MMACE_JOB_STORE": str(found.file)}
    yield found
    found.stop()


def test_arrays_go_into_the_bucket_and_nothing_secret_into_the_database(machine, bucket, server, stores) -> None:
    opened = stores()
    submit(opened, machine, "jobs=3")
    assert worker(machine).wait(timeout=120) == 0
    assert_complete(opened, 3)
    objects = bucket.objects()
    assert len(objects) == 5 and all(name.startswith("mmace/") for name in objects)
    assert opened.connection.database["jobs_data.files"].count_documents({}) == 0
    for name in opened.connection.database.list_collection_names():
        assert not any(SECRET in str(one) for one in opened.connection.database[name].find()), name


def test_bucket_away_while_jobs_end(machine, bucket, server, stores) -> None:
    """No job runs twice, no array is lost, and the campaign ends by itself when the bucket is back."""
    opened = stores()
    submit(opened, machine, "jobs=3", "seconds=3")
    one = worker(machine)
    assert one.stdout is not None
    assert wait_for(lambda: began(machine)["add 1"] == 1, 90)
    bucket.network.cut(closed=True)
    assert wait_for(lambda: len(spooled(machine)) > 0, 60), "its array waits on disk"
    bucket.network.closed = False
    log, _ = one.communicate(timeout=180)
    assert one.returncode == 0, log
    assert "s3://magnets does not answer; results are kept on disk meanwhile" in log
    assert_complete(opened, 3)
    assert set(began(machine).values()) == {1} and spooled(machine) == []
    assert len(bucket.objects()) == 5


def test_worker_killed_while_its_array_waits_for_the_bucket(machine, bucket, server, stores) -> None:
    """What was kept on disk is delivered by whoever comes next."""
    opened = stores()
    submit(opened, machine, "jobs=1", "seconds=1")
    first = worker(machine)
    assert wait_for(lambda: began(machine)["add 0"] == 1, 90)
    bucket.network.cut(closed=True)
    # the array, and the job's end
    assert wait_for(lambda: len(spooled(machine)) == 2, 60)
    first.kill()
    first.communicate()
    bucket.network.closed = False
    second = worker(machine)
    log, _ = second.communicate(timeout=180)
    assert second.returncode == 0, log
    assert_complete(opened, 1)
    assert set(began(machine).values()) == {1} and spooled(machine) == []


def test_campaign_goes_from_bucket_to_database_and_back(machine, bucket, server, stores) -> None:
    opened = stores()
    submit(opened, machine, "jobs=3")
    assert worker(machine).wait(timeout=120) == 0
    home = dict(machine.environment)
    code, output = machine.mmace("export", CAMPAIGN, "-o", "first.tar.gz")
    assert code == 0 and "5 arrays" in output, output
    before = bucket.objects()

    # an embedded database without a bucket, and one that keeps its arrays elsewhere in the same bucket
    del machine.environment["MMACE_DATABASE"], machine.environment["MMACE_JOB_STORE"]
    assert machine.mmace("import", "first.tar.gz")[0] == 0
    assert machine.mmace("export", CAMPAIGN, "-o", "second.tar.gz")[0] == 0
    assert bucket.objects() == before
    elsewhere = machine.folder / "elsewhere.yaml"
    elsewhere.write_text(bucket.file.read_text().replace("sub_dir: mmace", "sub_dir: copies"))
    machine.environment |= {"MMACE_JOB_STORE": str(elsewhere), "MMACE_DATA_DIR": str(machine.folder / "third")}
    code, output = machine.mmace("import", "second.tar.gz")
    assert code == 0 and "5 arrays" in output, output
    assert sorted(one.replace("copies/", "mmace/") for one in set(bucket.objects()) - set(before)) == before
    assert machine.mmace("export", CAMPAIGN, "-o", "third.tar.gz")[0] == 0
    third = machine.folder / "third"
    pid = running_mongod(third / "mongo")
    contents = [dict(array_texts(machine.folder / f"{name}.tar.gz")) for name in ("first", "second", "third")]
    assert contents[0] == contents[1] == contents[2] and len(contents[0]) == 5
    if pid is not None:
        kill(pid[0])
    machine.environment = home


def array_texts(archive: Path) -> Iterator[tuple[str, Any]]:
    """Arrays of an archive."""
    with tarfile.open(archive) as tar:
        for one in tar:
            if "arrays/" in one.name:
                yield one.name, json.load(tar.extractfile(one))  # type: ignore[arg-type]


def test_garbage_in_the_bucket(machine, bucket, server, stores) -> None:
    """Only what this database's index lists is ever deleted: other databases may have the same bucket."""
    opened = stores()
    submit(opened, machine, "jobs=3")
    assert worker(machine).wait(timeout=120) == 0
    before = bucket.objects()
    bucket.client.put_object(Bucket="magnets", Key="mmace/of-somebody-else", Body=b"their array")
    lost = {"blob_uuid": "lost", "job_uuid": "of a job that was deleted", "job_index": 1, "data": [1, 2, 3]}
    opened.arrays.update([lost], key="blob_uuid")
    assert machine.mmace("gc")[1].strip() == "nothing to delete", "younger than a day"
    code, output = machine.mmace("gc", "--older-than", "0", "--delete")
    arrays = [line.split() for line in output.splitlines() if line.startswith("array")]
    assert code == 0 and [line[-1] for line in arrays] == ["lost"], output
    assert bucket.objects() == sorted([*before, "mmace/of-somebody-else"])
    assert opened.arrays.count({"blob_uuid": "lost"}) == 0
    assert_complete(opened, 3)


def test_bucket_that_is_not_there_is_told_in_one_line(machine, bucket) -> None:
    bucket.file.write_text(bucket.file.read_text().replace("magnets", "other"))
    code, output = machine.mmace(*machine.run("jobs=1"))
    assert code == 2 and len(output.splitlines()) == 1, output
    assert str(bucket.file) in output and "Bucket not present" in output


def test_bucket_that_does_not_answer_is_told_in_one_line(machine, bucket) -> None:
    bucket.network.cut(closed=True)
    code, output = machine.mmace(*machine.run("jobs=1"))
    assert code == 2 and len(output.splitlines()) == 1, output
    assert "s3://magnets does not answer" in output
