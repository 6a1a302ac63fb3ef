"""What belongs to a campaign: documents, arrays, models; and how documents look on every machine alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.blobs import Blob, Place, arrays_of, models_of
from mmace_flows.execution.stores import INDEXES

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

# where a document says whose it is
OWNER = {"jobs": "metadata.campaign", "anisotropy": "campaigns"}
# found by content, and used by all campaigns: the first result stays
SHARED = frozenset({"labels", "spin_orbit", "predictions", "anisotropy"})
# of a campaign's document: where it runs, not what it is
PLACES = ("runner", "submitter", "recipe_file", "paused", "cancelled")
BATCH = 5000  # keys per question
KEY = re.compile(r"[0-9a-f]{16,64}")


def key_of(collection: str) -> list[str]:
    """Fields that name a document of a collection."""
    return [field for field, _ in INDEXES[collection][0]]


def portable(collection: str, document: dict[str, Any]) -> dict[str, Any]:
    """A document without what belongs to one database or machine."""
    document = {name: value for name, value in document.items() if name not in ("_id", "recovering")}
    if collection == "campaigns":
        details = {name: value for name, value in document.get("details", {}).items() if name not in PLACES}
        document |= {"details": details, "firework_ids": []}
    return document


def note_references(value: Any, names: set[str], blobs: set[str]) -> None:
    """Add everything in a document that may refer to another, or to a model, and the arrays that it refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("blob_uuid"), str):
            blobs.add(value["blob_uuid"])
        for one in value.values():
            note_references(one, names, blobs)
    elif isinstance(value, list):
        for one in value:
            note_references(one, names, blobs)
    elif isinstance(value, str) and KEY.fullmatch(value):
        names.add(value)


class Contents:
    """Everything that a campaign consists of and refers to, found by keys before anything is read in full."""

    def __init__(self, stores: Stores, campaign: str) -> None:
        self.stores, self.campaign = stores, campaign
        self._names: set[str] = set()  # strings that may be keys of shared documents or of models
        self._blobs: set[str] = set()
        self.ids: dict[str, dict[Any, Any]] = {name: {} for name in INDEXES}  # collection → key → _id
        for collection in INDEXES:
            self._take(collection, {OWNER.get(collection, "campaign"): campaign})
        self._follow()

    def documents(self, collection: str) -> Iterator[dict[str, Any]]:
        """Portable documents in the order of their keys."""
        found = self.ids[collection]
        for key in sorted(found):
            document = self.stores.connection.database[collection].find_one({"_id": found[key]})
            if document is not None:
                yield portable(collection, document)

    def blobs(self) -> dict[str, tuple[Place, list[Blob]]]:
        """Arrays that jobs saved, and models: where they are, and which."""
        arrays, models = arrays_of(self.stores), models_of(self.stores)
        return {"arrays": (arrays, arrays.find(self._blobs)), "models": (models, models.find(self._names))}

    def _take(self, collection: str, query: dict[str, Any]) -> None:
        found, fields = self.ids[collection], key_of(collection)
        for document in self.stores.connection.database[collection].find(query):
            key = tuple(document.get(field) for field in fields)
            if key in found:
                continue
            found[key] = document["_id"]
            if collection != "events":
                note_references(document, self._names, self._blobs)

    def _follow(self) -> None:
        """Add shared documents that are referred to, and those that they refer to."""
        asked: set[str] = set()
        while new := sorted(self._names - asked):
            asked |= set(new)
            for collection in sorted(SHARED):
                for start in range(0, len(new), BATCH):
                    self._take(collection, {key_of(collection)[0]: {"$in": new[start : start + BATCH]}})
