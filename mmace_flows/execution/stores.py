"""Every store of the project, opened once per process: documents, arrays, models, the queue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gridfs
from bson import ObjectId
from pymongo.errors import OperationFailure

from mmace.errors import UserError
from mmace_flows.execution import backoff
from mmace_flows.execution.connection import SILENT_MS, Connection, connect
from mmace_flows.execution.processes import ProcessName, make_folder
from mmace_flows.execution.queue import COST_INDEX, STATUS_INDEX
from mmace_flows.execution.trust import trust_packages
from mmace_flows.schemas.document import content_hash

if TYPE_CHECKING:  # FireWorks, jobflow and maggma are imported where they are needed: who only looks need not wait
    from jobflow import JobStore
    from maggma.stores import MongoStore
    from pymongo.collection import Collection

    from mmace_flows.execution.launchpad import ProjectLaunchPad
    from mmace_flows.execution.project_stores import ProjectGridFSStore, ProjectS3Store
    from mmace_flows.execution.settings import Settings


def _anisotropy_indexes() -> list[list[tuple[str, int]]]:
    """Indexes of the table that people ask.

    Every order of rows ends with the row's key, so that pages never overlap. The indexes of the usual orders carry what
    is usually filtered by as well: rows that do not match are passed over without being read.
    """
    narrow = [("ordering", 1), ("level", 1), ("space_group_number", 1), ("num_atoms", 1), ("energy_above_hull", 1)]
    filtered = [*narrow, ("values.k1", 1), ("values.polarization", 1), ("values.hardness", 1), ("chemical_system", 1)]

    def ordered(*fields: str) -> list[tuple[str, int]]:
        start = [(field, 1) for field in (*fields, "entry_id")]
        return start + [one for one in filtered if one not in start]

    values = ("values.k1", "values.strength_mev_per_atom", "values.polarization", "values.hardness")
    ways = (*values, "energy_above_hull", "formula", "space_group_number")
    return [
        [("entry_id", 1)],
        *(ordered(way) for way in ways),
        *(ordered(group, "values.k1") for group in ("chemical_system", "level", "campaigns")),
        ordered("space_group_number", "ordering"),  # what little both leave is sorted sooner than found in any order
        *([(field, 1), ("entry_id", 1)] for field in ("values.spread", "volume_per_atom", "updated")),
        *([(field, 1)] for field in ("parent", "last_updated")),
    ]


# collection → indexes; the first one is unique
INDEXES: dict[str, list[list[tuple[str, int]]]] = {
    "labels": [
        [("label_key", 1)],
        [("campaign", 1), ("candidate.iteration", 1)],
        [("candidate.group", 1), ("status", 1)],
        [("candidate.parent", 1)],
        [("last_updated", 1)],
    ],
    "spin_orbit": [[("spin_orbit_key", 1)], [("parent", 1)], [("campaign", 1)], [("last_updated", 1)]],
    "predictions": [[("prediction_key", 1)], [("parent", 1)], [("campaign", 1)], [("model", 1)], [("last_updated", 1)]],
    "anisotropy": _anisotropy_indexes(),
    "prospects": [[("prospect_id", 1)], [("campaign", 1), ("number", 1)]],
    "screening_states": [[("screening_id", 1)], [("campaign", 1), ("round", 1)]],
    "loop_states": [[("loop_id", 1)], [("campaign", 1), ("iteration", 1)]],
    "campaigns": [[("campaign", 1)], [("created", 1)]],
    "events": [[("event_id", 1)], [("campaign", 1), ("_id", 1)]],
    "jobs": [[("uuid", 1), ("index", 1)], [("metadata.campaign", 1), ("name", 1)]],
}

UNAUTHORIZED = 13  # MongoDB's code


@dataclass
class Stores:
    """All stores over one connection."""

    connection: Connection

    @cached_property
    def labels(self) -> MongoStore:
        """LabelDocuments, key ``label_key``."""
        return self.named("labels")

    @cached_property
    def spin_orbit(self) -> MongoStore:
        """SpinOrbitDocuments, key ``spin_orbit_key``."""
        return self.named("spin_orbit")

    @cached_property
    def predictions(self) -> MongoStore:
        """AnisotropyPredictions, key ``prediction_key``."""
        return self.named("predictions")

    @cached_property
    def anisotropy(self) -> MongoStore:
        """AnisotropyEntries, the table that is asked, key ``entry_id``; made by a Builder from the two before."""
        return self.named("anisotropy")

    @cached_property
    def prospects(self) -> MongoStore:
        """Prospects of screening campaigns, key ``prospect_id``."""
        return self.named("prospects")

    @cached_property
    def screening_states(self) -> MongoStore:
        """ScreeningStates, key ``screening_id`` = campaign/round."""
        return self.named("screening_states")

    @cached_property
    def loop_states(self) -> MongoStore:
        """LoopStates, key ``loop_id`` = campaign/iteration."""
        return self.named("loop_states")

    @cached_property
    def campaigns(self) -> MongoStore:
        """Campaigns, key ``campaign``."""
        return self.named("campaigns")

    @cached_property
    def events(self) -> MongoStore:
        """Lines for the live display and the log, key ``event_id``."""
        return self.named("events")

    @cached_property
    def jobs(self) -> JobStore:
        """Outputs of jobflow jobs; fields saved under ``data`` go to GridFS, or where MMACE_JOB_STORE says."""
        from jobflow import JobStore

        from mmace_flows.execution import safe_loading
        from mmace_flows.execution.job_store import load_job_store
        from mmace_flows.execution.project_stores import ProjectGridFSStore, ProjectStore

        safe_loading.install()
        if self.connection.settings.job_store is not None:
            return load_job_store(self.connection.settings.job_store)
        store = JobStore(
            ProjectStore("jobs", key="uuid"),
            additional_stores={"data": ProjectGridFSStore("jobs_data", key="blob_uuid")},
        )
        store.connect()
        return store

    @property
    def arrays(self) -> ProjectGridFSStore | ProjectS3Store:
        """Fields that jobs save as ``data``, in GridFS or in S3, key ``blob_uuid``."""
        found: ProjectGridFSStore | ProjectS3Store = self.jobs.additional_stores["data"]  # type: ignore[has-type]
        return found

    def named(self, collection: str, key: str | None = None) -> MongoStore:
        """The store of a collection of `INDEXES`, in which all documents of campaigns are: what is exported, delivered
        and asked before anything is deleted. With a ``key`` it may be another one, of a user's own job store.

        Raises KeyError.
        """
        from mmace_flows.execution.project_stores import ProjectStore

        store = ProjectStore(collection, key=key or INDEXES[collection][0][0][0])
        # this connection, which an option like --data-dir may have named, and not the one of the environment
        database = self.connection.database
        store.database, store._coll = database.name, database[collection]  # type: ignore[assignment]
        return store

    def collection(self, name: str) -> Collection[dict[str, Any]]:
        """The same documents without maggma: to look at, and to change single fields of."""
        return self.connection.database[name]

    @property
    def fireworks(self) -> Collection[dict[str, Any]]:
        """FireWorks' jobs, to look at. What changes their states is `launchpad`."""
        return self.collection("fireworks")

    @property
    def launches(self) -> Collection[dict[str, Any]]:
        """FireWorks' launches of jobs, to look at."""
        return self.collection("launches")

    @property
    def workflows(self) -> Collection[dict[str, Any]]:
        """FireWorks' workflows, to look at."""
        return self.collection("workflows")

    def now(self) -> datetime:
        """Time by the server's clock, UTC: machines of one campaign may disagree about theirs."""
        return self.connection.server_time()

    @cached_property
    def launchpad(self) -> ProjectLaunchPad:
        """The FireWorks queue. Its copy of the password is dropped, so that nothing can write it anywhere."""
        from mmace_flows.execution import safe_loading
        from mmace_flows.execution.launchpad import ProjectLaunchPad

        safe_loading.install()
        arguments = dict(self.connection.arguments)
        host, port = arguments.pop("host"), arguments.pop("port")
        username, password = arguments.pop("username", None), arguments.pop("password", None)
        launchpad = ProjectLaunchPad(
            host=host,
            port=port,
            name=self.connection.database.name,
            username=username,
            password=password,
            authsource=arguments.pop("authSource", None),
            strm_lvl="WARNING",
            mongoclient_kwargs={**SILENT_MS, **arguments, "journal": True},
        )
        launchpad.password = None
        launchpad.stores = self
        return launchpad

    def save_model(self, data: bytes, metadata: Mapping[str, Any] | None = None) -> str:
        """Keep a model file in GridFS; returns its hash. The same bytes are kept once.

        ``metadata`` may name the ``model_hash`` under which the model is found again; default: SHA-256 of the bytes.
        """
        digest = hashlib.sha256(data).hexdigest()
        details = dict(metadata or {})
        key = str(details.get("model_hash") or digest[:32])

        def put() -> None:
            if not self._models.exists(filename=key):
                # GridFS writes the file's entry after its content, so an interrupted upload is never found
                self._models.put(data, filename=key, metadata={**details, "model_hash": key, "sha256": digest})

        backoff.writing(put, lambda: {"kind": "model", "data": data, "metadata": {**details, "model_hash": key}})
        return key

    def load_model(self, model_hash: str) -> bytes:
        """Bytes of a model file. Raises UserError if there is none, or if it is damaged."""
        found = backoff.reading(lambda: self._models.find_one({"filename": model_hash}))
        if found is None:
            raise UserError(f"no model {model_hash!r} in the database; `mmace status` lists campaigns")
        data = backoff.reading(lambda: self._models.get(found._id).read())
        if hashlib.sha256(data).hexdigest() != (found.metadata or {}).get("sha256"):
            raise UserError(f"model {model_hash} in the database is damaged: its SHA-256 does not match")
        return data

    def event(self, campaign: str, stage: str, message: str, **data: Any) -> None:
        """One line for the live display and the log; ``data`` must be JSON-able."""
        now = self.now()
        # its time is the server's, and not this machine's
        identifier = ObjectId(int(now.timestamp()).to_bytes(4, "big") + ObjectId().binary[4:])
        event = {
            "_id": identifier,
            "event_id": str(identifier),
            "campaign": campaign,
            "stage": stage,
            "message": " ".join(message.split()),
            "data": data,
            "time": now.isoformat(timespec="seconds"),
            "process": str(ProcessName.this()),
        }
        self.events.update(event, key="event_id")

    def campaign_folder(self, campaign: str) -> Path:
        """Folder of this machine for logs, report and scratch of a campaign."""
        settings = self.connection.settings
        return make_folder(settings.data_dir / "campaigns" / campaign, settings.data_dir_mend)

    def scratch(self, campaign: str, key: str) -> Path:
        """Folder of this machine for resumable work; the same for the same ``key``."""
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in key).lstrip(".")
        if not safe:
            raise ValueError(f"scratch key {key!r} holds no usable character")
        return make_folder(self.campaign_folder(campaign) / "scratch" / safe)

    def ensure_indexes(self) -> None:
        """Declare indexes and the counters of the queue; does nothing where they exist, or if one may only read."""
        declared = content_hash([INDEXES, STATUS_INDEX, COST_INDEX, version("fireworks")])
        marks = self.collection("declared")
        if marks.find_one({"_id": declared}) is not None:
            return
        try:
            self._ensure_indexes()
            marks.replace_one({"_id": declared}, {"_id": declared}, upsert=True)
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise

    def _ensure_indexes(self) -> None:
        for collection, indexes in INDEXES.items():
            for position, index in enumerate(indexes):
                self.connection.database[collection].create_index(index, unique=position == 0)
        self.connection.database["jobs_data.files"].create_index([("metadata.blob_uuid", 1)])
        self.connection.database["models.files"].create_index([("filename", 1)])
        self.launchpad.user_indices = ["spec.campaign"]
        self.launchpad.wf_user_indices = ["metadata.campaign"]
        self.launchpad.tuneup()
        self.launchpad.fireworks.create_index(
            [("spec.campaign", 1), ("state", 1), ("spec._priority", -1), ("created_on", 1)]  # the next job
        )
        self.launchpad.fireworks.create_index(STATUS_INDEX)
        self.launchpad.launches.create_index(COST_INDEX)
        # what LaunchPad.reset does, without wiping anything, and safe when two processes come first
        self.launchpad.fw_id_assigner.update_one(
            {"_id": -1}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
        )

    @cached_property
    def _models(self) -> gridfs.GridFS:
        return gridfs.GridFS(self.connection.database, "models")


_stores: dict[tuple[int, int], Stores] = {}


def open_stores(settings: Settings | None = None) -> Stores:
    """All stores, from MMACE_DATA_DIR / MMACE_DATABASE; the embedded server starts if needed. Cached per process.

    Raises UserError if the database cannot be reached.
    """
    connection = connect(settings)
    key = (os.getpid(), id(connection))
    if key not in _stores:
        trust_packages(connection.settings.trusted_packages)
        _stores[key] = Stores(connection)
        _stores[key].ensure_indexes()
    return _stores[key]
