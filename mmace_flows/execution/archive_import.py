"""`mmace import`: take a campaign from an archive into this database; all is checked before anything is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bson import ObjectId
from bson.errors import InvalidId
from bson.json_util import CANONICAL_JSON_OPTIONS, loads

from mmace.errors import UserError
from mmace_flows.execution.archive_contents import OWNER, SHARED, key_of, portable
from mmace_flows.execution.archive_export import Tell, line_of
from mmace_flows.execution.archive_format import members, verify
from mmace_flows.execution.blobs import Place, arrays_of, models_of
from mmace_flows.execution.safe_loading import RefusedDocument, check_document
from mmace_flows.execution.stores import INDEXES

if TYPE_CHECKING:
    from pymongo.database import Database

    from mmace_flows.execution.stores import Stores

LINE_BYTES = 64 * 1024**2  # a document of MongoDB has at most 16 MB, its text is longer
BATCH = 200
LARGEST_GB = 100.0


@dataclass
class Imported:
    """What an import did, by collection, ``arrays`` and ``models``."""

    campaign: str
    new: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)  # the same is there already
    kept: Counter[str] = field(default_factory=Counter)  # found by content, computed here too: ours stays


def import_archive(stores: Stores, path: Path, largest_gb: float = LARGEST_GB, tell: Tell | None = None) -> Imported:
    """Import; a second time changes nothing. What is there is never overwritten.

    Raises UserError: damaged or foreign file, documents that differ from those of a campaign of the same name here.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    say = tell or (lambda what, done, of: None)
    largest, database = largest_gb * 1e9, stores.connection.database
    places = {"arrays": arrays_of(stores), "models": models_of(stores)}
    manifest = verify(path, largest)
    result = Imported(manifest["campaign"])
    for collection, documents in _batches(path, largest, result.campaign):
        _compare(database, collection, documents, result)
        say("comparing", sum(result.new.values()) + sum(result.there.values()), 0)
    of = sum(entry.get("documents", 1) for entry in manifest["files"].values())
    done = 0
    # the campaign's own document comes last: an import that was cut off shows no campaign that is not whole
    for name, content in members(path, largest):
        kind, _, key = name.partition("/")
        if kind in places:
            _put_blob(places[kind], kind, key, content, manifest["files"][name].get("metadata"), result)
            done += 1
            say("storing", done, of)
    for own in (False, True):
        for collection, documents in _batches(path, largest, result.campaign):
            if (collection == "campaigns") is own:
                _insert(database, collection, documents)
                done += len(documents)
                say("storing", done, of)
    return result


def _batches(path: Path, largest: float, campaign: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(collection, some of its documents), checked one by one. Raises UserError."""
    for name, content in members(path, largest):
        if not name.startswith("documents/"):
            continue
        collection = name.removeprefix("documents/").removesuffix(".jsonl")
        if collection not in INDEXES:
            raise UserError(f"{path}: holds a collection '{collection}' that this version does not know")
        batch: list[dict[str, Any]] = []
        for number, line in enumerate(_lines(content), 1):
            batch.append(_document(line, collection, campaign, f"{path}: {name}, line {number}"))
            if len(batch) == BATCH:
                yield collection, batch
                batch = []
        if batch:
            yield collection, batch


def _lines(content: IO[bytes]) -> Iterator[bytes]:
    while line := content.readline(LINE_BYTES):
        yield line


def _document(line: bytes, collection: str, campaign: str, where: str) -> dict[str, Any]:
    """The document of one line. Raises UserError for one that does not belong here."""
    try:
        document = loads(line, json_options=CANONICAL_JSON_OPTIONS)
    except (ValueError, TypeError, InvalidId, RecursionError) as error:
        raise UserError(f"{where}: not a document") from error
    if not isinstance(document, dict) or "_id" in document:
        raise UserError(f"{where}: not a document")
    for name in key_of(collection):
        if not isinstance(document.get(name), str | int):
            raise UserError(f"{where}: field '{name}' is missing, by which documents of {collection} are found")
    if collection not in SHARED and _owner(document, collection) != campaign:
        raise UserError(f"{where}: belongs to another campaign than '{campaign}'")
    try:
        check_document(document)
    except RefusedDocument as refusal:
        raise UserError(f"{where}: {refusal}") from refusal
    return document


def _owner(document: dict[str, Any], collection: str) -> Any:
    value: Any = document
    for part in OWNER.get(collection, "campaign").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _selector(collection: str, document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in key_of(collection)}


def _compare(
    database: Database[dict[str, Any]], collection: str, documents: list[dict[str, Any]], result: Imported
) -> None:
    """Count what is new. Raises UserError for a document of the campaign that is there with other content."""
    first = key_of(collection)[0]
    query = {first: {"$in": [document[first] for document in documents]}}
    found = {_id(collection, one): portable(collection, one) for one in database[collection].find(query)}
    for document in documents:
        there = found.get(_id(collection, document))
        if there is None:
            result.new[collection] += 1
        elif line_of(there) == line_of(document):
            result.there[collection] += 1
        elif collection in SHARED:
            result.kept[collection] += 1
        else:
            raise UserError(
                f"campaign '{result.campaign}' is here already and differs ({collection}: "
                f"{', '.join(map(str, _id(collection, document)))}); nothing was changed"
            )


def _id(collection: str, document: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(document.get(name) for name in key_of(collection))


def _insert(database: Database[dict[str, Any]], collection: str, documents: list[dict[str, Any]]) -> None:
    from pymongo import UpdateOne

    requests = []
    for document in documents:
        fields = dict(document)
        if collection == "events" and ObjectId.is_valid(document["event_id"]):
            fields["_id"] = ObjectId(document["event_id"])  # events are shown in this order
        requests.append(UpdateOne(_selector(collection, document), {"$setOnInsert": fields}, upsert=True))
    database[collection].bulk_write(requests, ordered=False)


def _put_blob(place: Place, kind: str, key: str, content: IO[bytes], metadata: Any, result: Imported) -> None:
    if place.find([key]):
        result.there[kind] += 1
        return
    place.put(key, content, loads(json.dumps(metadata or {}), json_options=CANONICAL_JSON_OPTIONS))
    result.new[kind] += 1
