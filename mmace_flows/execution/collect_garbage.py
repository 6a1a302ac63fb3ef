"""`mmace gc`: what nothing refers to any more in GridFS, and working folders of campaigns that are done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.archive_contents import note_references
from mmace_flows.execution.blobs import arrays_of, models_of
from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.stores import INDEXES

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

PIECE = "piece of an upload"
AGE = timedelta(days=1)  # younger things may belong to a job whose document is still being written


@dataclass(frozen=True)
class Garbage:
    """One thing that could go."""

    kind: str
    name: str
    bytes: int
    place: Any  # of a blob: where it is, and itself; of a piece: (bucket, _id); of a folder: its path


def find_garbage(stores: Stores, age: timedelta = AGE) -> list[Garbage]:
    """Everything that could go. Only what is older than ``age`` counts."""
    before = stores.now() - age
    return [*_blobs(stores, before), *_pieces(stores, before), *_folders(stores, before)]


def delete(stores: Stores, garbage: Garbage) -> None:
    """Delete one thing."""
    if isinstance(garbage.place, Path):
        shutil.rmtree(garbage.place, ignore_errors=True)
    elif garbage.kind == PIECE:
        bucket, identifier = garbage.place
        stores.connection.database[f"{bucket}.chunks"].delete_many({"files_id": identifier})
    else:
        place, blob = garbage.place
        place.discard(blob)


def _blobs(stores: Stores, before: datetime) -> Iterator[Garbage]:
    """Arrays that no job's output names, models whose hash stands in no document."""
    database = stores.connection.database

    @cache
    def used() -> set[str]:
        names: set[str] = set()
        for collection in INDEXES:
            if collection != "events":
                for document in database[collection].find({}):
                    note_references(document, names, names)
        # references of jobs that still wait stand in the queue
        for firework in database["fireworks"].find({"state": {"$nin": ["COMPLETED", "ARCHIVED"]}}, {"spec": 1}):
            note_references(firework, names, names)
        return names

    for kind, place in (("array", arrays_of(stores)), ("model", models_of(stores))):
        for blob in place.unused(used, before):
            yield Garbage(kind, blob.name, blob.bytes or 0, (place, blob))


def _pieces(stores: Stores, before: datetime) -> Iterator[Garbage]:
    """Content of uploads that were cut off: chunks without an entry."""
    database = stores.connection.database
    for bucket in ("jobs_data", "models"):
        orphans: list[dict[str, Any]] = [
            {"$group": {"_id": "$files_id", "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}},
            {"$lookup": {"from": f"{bucket}.files", "localField": "_id", "foreignField": "_id", "as": "entry"}},
            {"$match": {"entry": []}},
        ]
        for one in database[f"{bucket}.chunks"].aggregate(orphans, allowDiskUse=True):
            if one["_id"].generation_time < before:
                yield Garbage(PIECE, str(one["_id"]), one["bytes"], (bucket, one["_id"]))


def _folders(stores: Stores, before: datetime) -> Iterator[Garbage]:
    """Scratch of finished campaigns, and launch folders of workers that are gone."""
    from mmace_flows.execution.campaign import list_campaigns

    root = stores.connection.settings.data_dir / "campaigns"
    finished = {one.campaign for one in list_campaigns(stores) if one.finished is not None}
    for campaign in sorted(root.iterdir()) if root.is_dir() else []:
        if campaign.name not in finished:
            continue
        for folder in [campaign / "scratch", *sorted(campaign.glob("launches/worker-*"))]:
            if not folder.is_dir() or folder.is_symlink():
                continue
            size, newest = _size(folder)
            if newest < before.timestamp() and not _lives(campaign, folder):
                kind = "scratch" if folder.name == "scratch" else "launches"
                yield Garbage(kind, str(folder.relative_to(root)), size, folder)


def _lives(campaign: Path, folder: Path) -> bool:
    """Whether the worker that the folder is named after still runs on this machine."""
    pid = folder.name.removeprefix("worker-")
    names = (campaign / "workers").glob(f"*:{pid}:*") if pid.isdigit() else iter(())
    return any(process is not None and process.alive() for process in (ProcessName.parse(one.name) for one in names))


def _size(folder: Path) -> tuple[int, float]:
    """Bytes in a folder, and when anything in it was last changed, seconds since 1970."""
    size, newest = 0, folder.stat().st_mtime
    for where, _, files in os.walk(folder):
        for name in files:
            found = os.lstat(os.path.join(where, name))
            size, newest = size + found.st_size, max(newest, found.st_mtime)
    return size, newest
