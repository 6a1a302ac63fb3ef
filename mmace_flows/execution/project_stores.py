"""Maggma stores over this process's one connection: without credentials of their own, and patient where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import gridfs
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
from maggma.stores import GridFSStore, MongoStore, S3Store

from mmace_flows.execution import backoff
from mmace_flows.execution.connection import connect


class ProjectStore(MongoStore):
    """A MongoStore in this project's database.

    It finds the server by this machine's settings, so its serialised form holds no address and no credentials and
    means the same on every machine.
    """

    def __init__(self, collection_name: str, key: str = "_id", **kwargs: Any) -> None:
        super().__init__(database="", collection_name=collection_name, key=key, **kwargs)

    def connect(self, force_reset: bool = False) -> None:
        """Connect to the database of MMACE_DATA_DIR / MMACE_DATABASE."""
        if self._coll is None or force_reset:
            database = connect().database
            self.database = database.name
            self._coll = database[self.collection_name]  # type: ignore[assignment]

    def update(self, docs: list[dict[str, Any]] | dict[str, Any], key: list[str] | str | None = None) -> None:
        """Insert or replace by key; a patient process keeps the documents on disk until they are stored."""
        write = partial(super().update, docs, key)
        backoff.writing(
            write, lambda: _entry("documents", docs, key or self.key) | {"collection": self.collection_name}
        )

    def query(self, *arguments: Any, **keywords: Any) -> Iterator[dict[str, Any]]:
        """As MongoStore's."""
        return backoff.streaming(partial(super().query, *arguments, **keywords))

    def query_one(self, *arguments: Any, **keywords: Any) -> dict[str, Any] | None:
        """As MongoStore's."""
        return backoff.reading(partial(super().query_one, *arguments, **keywords))

    def count(self, *arguments: Any, **keywords: Any) -> int:
        """As MongoStore's."""
        return backoff.reading(partial(super().count, *arguments, **keywords))

    def distinct(self, *arguments: Any, **keywords: Any) -> list[Any]:
        """As MongoStore's."""
        return backoff.reading(partial(super().distinct, *arguments, **keywords))


class ProjectGridFSStore(GridFSStore):
    """A GridFSStore in this project's database; as `ProjectStore`, without credentials of its own."""

    def __init__(self, collection_name: str, key: str = "_id", **kwargs: Any) -> None:
        super().__init__(database="", collection_name=collection_name, key=key, **kwargs)

    def connect(self, force_reset: bool = False) -> None:
        """Connect to the database of MMACE_DATA_DIR / MMACE_DATABASE."""
        if self._coll is None or force_reset:
            database = connect().database
            self.database = database.name
            self._coll = gridfs.GridFS(database, self.collection_name)
            self._files_collection = database[f"{self.collection_name}.files"]
            self._chunks_collection = database[f"{self.collection_name}.chunks"]
            files = MongoStore.from_collection(self._files_collection)
            files.last_updated_field = f"metadata.{self.last_updated_field}"
            files.key = self.key
            self._fs = files

    def update(
        self,
        docs: list[dict[str, Any]] | dict[str, Any],
        key: list[str] | str | None = None,
        additional_metadata: str | list[str] | None = None,
    ) -> None:
        """Insert or replace by key; a patient process keeps the documents on disk until they are stored."""
        write = partial(super().update, docs, key, additional_metadata)
        backoff.writing(
            write, lambda: _entry("arrays", docs, key or self.key) | {"additional_metadata": additional_metadata}
        )

    def query(self, *arguments: Any, **keywords: Any) -> Iterator[dict[str, Any]]:
        """As GridFSStore's."""
        return backoff.streaming(partial(super().query, *arguments, **keywords))


class ProjectS3Store(S3Store):
    """An S3Store that is patient where the process is: nothing is lost while the bucket cannot be reached."""

    def connect(self, force_reset: bool = False) -> None:
        """Connect to bucket and index. Raises StoreAway."""
        with self._told():
            super().connect(force_reset)

    def update(
        self,
        docs: list[dict[str, Any]] | dict[str, Any],
        key: list[str] | str | None = None,
        additional_metadata: str | list[str] | None = None,
    ) -> None:
        """Insert or replace by key; a patient process keeps the documents on disk until they are stored."""

        def write() -> None:
            # object and entry of the index wait together, not each for itself
            with self._told(), backoff.directly():
                super(ProjectS3Store, self).update(_listed(docs), key, additional_metadata)

        backoff.writing(
            write, lambda: _entry("arrays", docs, key or self.key) | {"additional_metadata": additional_metadata}
        )

    def query(self, *arguments: Any, **keywords: Any) -> Iterator[dict[str, Any]]:
        """As S3Store's."""

        def start() -> Iterator[dict[str, Any]]:
            with self._told():
                yield from super(ProjectS3Store, self).query(*arguments, **keywords)

        return backoff.streaming(start)

    def object_size(self, name: str) -> tuple[int, datetime | None]:
        """Bytes of an object, and when it was stored, UTC; (0, None) if there is none. Raises StoreAway."""
        with self._told():
            try:
                found = self.s3_bucket.Object(self._get_full_key_path(name))
                return found.content_length, found.last_modified
            except ClientError as error:
                if _status(error) != 404:
                    raise
                return 0, None

    def remove_docs(self, criteria: dict[str, Any], remove_s3_object: bool = False) -> None:
        """As S3Store's. Raises StoreAway."""
        with self._told():
            super().remove_docs(criteria, remove_s3_object)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise StoreAway for what says that the service is gone, or busy."""
        try:
            yield
        except (ConnectionError, HTTPClientError) as error:
            raise backoff.StoreAway(self.name, error) from error
        except (ClientError, RuntimeError) as error:
            # maggma calls every refusal of a bucket "not present"; the context has what the service said
            refusal = error if isinstance(error, ClientError) else error.__context__
            if not isinstance(refusal, ClientError) or _status(refusal) < 500:
                raise
            raise backoff.StoreAway(self.name, refusal) from error


def _status(refusal: ClientError) -> int:
    return int(refusal.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _entry(kind: str, docs: Any, key: list[str] | str) -> dict[str, Any]:
    """A write as the spool keeps it: plain documents and the fields by which they replace older ones."""
    from monty.json import jsanitize

    documents = [jsanitize(one, allow_bson=True, recursive_msonable=True) for one in _listed(docs)]
    return {"kind": kind, "documents": documents, "key": key}


def _listed(docs: Any) -> list[Any]:
    return docs if isinstance(docs, list) else [docs]
