"""Stores without a server: what they would write about themselves."""

import json
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from botocore.exceptions import ClientError
from jobflow import JobStore
from maggma.stores import MemoryStore
from monty.json import MontyDecoder

from mmace_flows.execution import stores
from mmace_flows.execution.backoff import StoreAway
from mmace_flows.execution.doctor import examine
from mmace_flows.execution.project_stores import ProjectGridFSStore, ProjectS3Store, ProjectStore
from mmace_flows.execution.safe_loading import PLAIN_DECODE
from mmace_flows.execution.settings import Settings
from mmace_flows.execution.stores import Stores


def test_serialised_stores_hold_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MontyDecoder, "process_decoded", PLAIN_DECODE)  # documents may not ask for stores, tests may
    store = JobStore(ProjectStore("jobs", key="uuid"), additional_stores={"data": ProjectGridFSStore("jobs_data")})
    text = json.dumps(store.as_dict(), default=str)
    assert not any(word in text for word in ("password", "username", "127.0.0.1", "port"))
    again = MontyDecoder().decode(text)
    assert isinstance(again.docs_store, ProjectStore) and again.docs_store.collection_name == "jobs"


def test_jobflow_configuration_file_is_readable() -> None:
    from monty.serialization import loadfn

    values = loadfn(Path(__file__).parents[3] / "db_config" / "jobflow.yaml")
    store = (
        values["JOB_STORE"] if isinstance(values["JOB_STORE"], JobStore) else JobStore.from_dict(values["JOB_STORE"])
    )
    assert isinstance(store.docs_store, ProjectStore) and isinstance(
        store.additional_stores["data"], ProjectGridFSStore
    )


def test_scratch_stays_inside(tmp_path: Path) -> None:
    found = Stores(SimpleNamespace(settings=Settings(data_dir=tmp_path)))  # type: ignore[arg-type]
    assert found.scratch("c", "train/it 1") == tmp_path / "campaigns" / "c" / "scratch" / "train_it_1"
    with pytest.raises(ValueError, match="no usable character"):
        found.scratch("c", "..")


def test_every_unique_index_comes_first() -> None:
    assert {name: indexes[0][0][0] for name, indexes in stores.INDEXES.items()} == {
        "labels": "label_key", "spin_orbit": "spin_orbit_key", "loop_states": "loop_id", "campaigns": "campaign",
        "events": "event_id", "jobs": "uuid", "predictions": "prediction_key", "anisotropy": "entry_id",
        "prospects": "prospect_id", "screening_states": "screening_id",
    }  # fmt: skip


def _is_a_collection(member: object) -> bool:
    return isinstance(member, cached_property) and member.func.__annotations__["return"] == "MongoStore"


def test_every_store_is_among_those_that_are_delivered_exported_and_kept_by_gc() -> None:
    found = Stores(SimpleNamespace(database=MagicMock()))  # type: ignore[arg-type]
    names = [name for name, one in vars(Stores).items() if _is_a_collection(one)]
    assert {"labels", "prospects", "screening_states"} <= set(names) <= set(stores.INDEXES)
    for name in names:
        store = getattr(found, name)
        assert store.collection_name == name and store.key == found.named(name).key


def test_doctor_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = Settings(data_dir=tmp_path / "deep" / "down", mongod=tmp_path / "nothing", pseudo_dir=tmp_path)
    found = {finding.name: finding for finding in examine(settings)}
    assert found["python"].ok and found["torch"].ok
    assert found["mongod"].state == "missing" and found["mongod"].needed
    assert found["pseudopotentials"].state == "missing" and not found["pseudopotentials"].needed
    assert found["c++ compiler"].state == "missing" and "apt-get install" in found["c++ compiler"].mend
    assert found["disk"].state in ("ok", "missing") and str(tmp_path) in found["disk"].detail
    (tmp_path / "Fe.UPF").touch()  # an empty file is no pseudopotential
    again = {finding.name: finding for finding in examine(settings)}
    assert again["pseudopotentials"].detail.startswith("no PBE files")


@pytest.mark.parametrize(("status", "kind"), [(404, RuntimeError), (503, StoreAway)])
def test_bucket_of_a_busy_service_is_away_and_not_missing(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ClientError(
            {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}, "HeadBucket"
        )

    client = SimpleNamespace(head_bucket=refuse)
    session = SimpleNamespace(resource=lambda *_, **__: SimpleNamespace(meta=SimpleNamespace(client=client)))
    monkeypatch.setattr(ProjectS3Store, "_get_session", lambda self: session)
    store = ProjectS3Store(index=MemoryStore(key="fs_id"), bucket="magnets")
    with pytest.raises(kind):
        store.connect()
