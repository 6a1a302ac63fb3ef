"""Arrays of jobs and models: where they lie, in the database's GridFS or in a bucket, and what can be done there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Protocol

import gridfs

from mmace.errors import UserError

if TYPE_CHECKING:
    from pymongo.database import Database

    from mmace_flows.execution.project_stores import ProjectS3Store
    from mmace_flows.execution.stores import Stores

BATCH = 5000  # names per question
# of an index: how an object is stored, not what it is
OBJECT_FIELDS = frozenset({"_id", "sub_dir", "compression", "s3-to-mongo-keys", "obj_hash"})


@dataclass(frozen=True)
class Blob:
    """One array or model."""

    name: str
    details: dict[str, Any]  # what is stored beside the content
    place: Any  # for the place that it comes from
    bytes: int | None = None  # None where nobody knows yet


class Place(Protocol):
    """Where blobs are."""

    def find(self, names: Iterable[str]) -> list[Blob]:
        """Those that are there, by name."""

    def read(self, blob: Blob) -> tuple[IO[bytes], int]:
        """Content and its length."""

    def put(self, name: str, content: IO[bytes], details: dict[str, Any]) -> None:
        """Store a new one."""

    def unused(self, used: Callable[[], set[str]], before: datetime) -> Iterator[Blob]:
        """Those from before then whose names are not among ``used``, which is asked for only if there are any; their
        ``bytes`` are known."""

    def discard(self, blob: Blob) -> None:
        """Delete one."""


def arrays_of(stores: Stores) -> Place:
    """Where arrays of jobs are. Raises UserError for stores that only jobflow knows how to ask."""
    from mmace_flows.execution.project_stores import ProjectS3Store, ProjectStore

    if (elsewhere := stores.connection.settings.job_store) is None:
        return InDatabase(stores.connection.database, "jobs_data", "metadata.blob_uuid")
    documents: Any = stores.jobs.docs_store
    arrays: Any = stores.jobs.additional_stores.get("data")  # type: ignore[has-type]
    if not isinstance(documents, ProjectStore) or documents.collection_name != "jobs":
        raise UserError(f"{elsewhere}: docs_store: outputs of jobs are not in the project's database, where this looks")
    if not isinstance(arrays, ProjectS3Store):
        raise UserError(f"{elsewhere}: additional_stores: data: this works with ProjectS3Store, and with no other yet")
    return InBucket(arrays)


def models_of(stores: Stores) -> Place:
    """Where models are."""
    return InDatabase(stores.connection.database, "models", "filename")


class InDatabase:
    """A bucket of GridFS; ``field`` of its entries is the name."""

    def __init__(self, database: Database[dict[str, Any]], bucket: str, field: str) -> None:
        self.database, self.bucket, self.field = database, bucket, field
        self.entries = database[f"{bucket}.files"]

    def find(self, names: Iterable[str]) -> list[Blob]:
        """Those that are there, by name."""
        found = {}
        for batch in _batches(names):
            for entry in self.entries.find({self.field: {"$in": batch}}):
                found[self._name(entry)] = self._blob(entry)
        return [found[name] for name in sorted(found)]

    def read(self, blob: Blob) -> tuple[IO[bytes], int]:
        """Content and its length."""
        content: Any = gridfs.GridFS(self.database, self.bucket).get(blob.place)
        return content, content.length

    def put(self, name: str, content: IO[bytes], details: dict[str, Any]) -> None:
        """Store a new one."""
        names = {"filename": name} if self.field == "filename" else {}
        gridfs.GridFS(self.database, self.bucket).put(content, metadata=details, **names)

    def unused(self, used: Callable[[], set[str]], before: datetime) -> Iterator[Blob]:
        """Those from before then whose names are not among ``used``."""
        for entry in self.entries.find({"uploadDate": {"$lt": before}}):
            if self._name(entry) not in used():
                yield self._blob(entry)

    def discard(self, blob: Blob) -> None:
        """Delete one."""
        # the entry goes first: without it the content is never found, whatever happens in between
        self.entries.delete_one({"_id": blob.place})
        self.database[f"{self.bucket}.chunks"].delete_many({"files_id": blob.place})

    def _name(self, entry: dict[str, Any]) -> str:
        return str(entry["filename"] if self.field == "filename" else (entry.get("metadata") or {}).get("blob_uuid"))

    def _blob(self, entry: dict[str, Any]) -> Blob:
        return Blob(self._name(entry), entry.get("metadata") or {}, entry["_id"], entry["length"])


class InBucket:
    """Objects of S3 that this database's index lists: a bucket may have others, which are nobody's business here.

    Content is read and put as GridFS has it: JSON of the document.
    """

    def __init__(self, store: ProjectS3Store) -> None:
        self.store = store
        self.index: Any = store.index

    def find(self, names: Iterable[str]) -> list[Blob]:
        """Those that the index lists, by name."""
        found = [self._blob(one) for batch in _batches(names) for one in self.index.query(_named(batch))]
        return sorted(found, key=lambda blob: blob.name)

    def read(self, blob: Blob) -> tuple[IO[bytes], int]:
        """Content and its length. Raises UserError for an object that is gone."""
        from monty.json import jsanitize

        document = self.store.query_one(_named([blob.name]))
        if document is None:
            raise UserError(f"{self.store.name}: the index lists {blob.name}, but there is no such object")
        content = json.dumps(jsanitize(document, recursive_msonable=True), sort_keys=True).encode()
        return io.BytesIO(content), len(content)

    def put(self, name: str, content: IO[bytes], details: dict[str, Any]) -> None:
        """Store a new one. Raises UserError for content that is no document."""
        import zlib

        data = content.read()
        try:
            if details.get("compression") == "zlib":
                data = zlib.decompress(data)
            document = json.loads(data)
            if not isinstance(document, dict):
                raise TypeError("not a document")
        except (ValueError, TypeError, RecursionError, zlib.error) as error:
            raise UserError(f"array {name}: not a document") from error
        fields = {field: value for field, value in details.items() if field not in OBJECT_FIELDS}
        self.store.update([document | fields | {"blob_uuid": name}], "blob_uuid", sorted(fields))

    def unused(self, used: Callable[[], set[str]], before: datetime) -> Iterator[Blob]:
        """Those from before then whose names are not among ``used``."""
        for entry in self.index.query({}):
            blob = self._blob(entry)
            if blob.name not in used():
                size, stored = self.store.object_size(blob.name)
                if stored is None or stored < before:
                    yield Blob(blob.name, blob.details, blob.place, size)

    def discard(self, blob: Blob) -> None:
        """Delete one, its entry in the index first."""
        self.store.remove_docs(_named([blob.name]), remove_s3_object=True)

    @staticmethod
    def _blob(entry: dict[str, Any]) -> Blob:
        details = {field: value for field, value in entry.items() if field not in OBJECT_FIELDS}
        return Blob(str(entry["blob_uuid"]), details, None)


def _named(names: list[str]) -> dict[str, Any]:
    return {"blob_uuid": {"$in": names}}


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    listed = sorted(names)
    for start in range(0, len(listed), BATCH):
        yield listed[start : start + BATCH]
