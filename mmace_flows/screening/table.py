"""Asking the table: pages of rows, whole entries, points for a picture. Only reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from mmace_flows.schemas.anisotropy_entry import AnisotropyEntry
from mmace_flows.screening.query import AnisotropyQuery

if TYPE_CHECKING:
    from pymongo.collection import Collection

COUNTED = 2000  # matches are counted up to here: counting more would take longer than finding the page
SECONDS = 10.0  # after which the server gives a question up
MOST_POINTS = 3000
MERGED = 150  # chemical systems whose rows the server merges in order; above 200 it would sort them instead

# field of a row → where it stands in an entry, and whether a column of the short table shows it
ROW_FIELDS: dict[str, str] = {
    "entry_id": "entry_id",
    "formula": "formula",
    "elements": "elements",
    "ordering": "ordering",
    "space_group": "space_group",
    "space_group_number": "space_group_number",
    "num_atoms": "num_atoms",
    "became": "became",
    "level": "level",
    "k1": "values.k1",
    "k2": "values.k2",
    "spread": "values.spread",
    "strength": "values.strength_mev_per_atom",
    "symmetry": "values.symmetry",
    "easy_kind": "values.easy_kind",
    "polarization": "values.polarization",
    "hardness": "values.hardness",
    "anisotropy_field": "values.anisotropy_field",
    "magnetization": "magnetization",
    "energy_above_hull": "energy_above_hull",
    "volume_per_atom": "volume_per_atom",
    "campaigns": "campaigns",
    "updated": "updated",
}
POINT_FIELDS = ("entry_id", "formula", "ordering", "level", "k1", "polarization")


class Row(BaseModel):
    """A row of the table, without structure and surface."""

    entry_id: str
    formula: str
    elements: list[str]
    ordering: str
    space_group: str
    space_group_number: int
    num_atoms: int
    became: str | None = Field(description="where DFT, started in this ordering, ended in another: that one")
    level: str = Field(description="where the values come from: model or DFT")
    k1: float = Field(description="MJ/m³")
    k2: float = Field(description="MJ/m³")
    spread: float | None = Field(description="of K1, MJ/m³")
    strength: float = Field(description="ΔE_A, meV per atom")
    symmetry: str = Field(description="which expansion K1 and K2 belong to: uniaxial or cubic")
    easy_kind: str = Field(description="axis, plane, cone or none")
    polarization: float = Field(description="μ0 Ms, T")
    hardness: float | None = Field(description="κ")
    anisotropy_field: float | None = Field(description="T")
    magnetization: float = Field(description="μB per atom")
    energy_above_hull: float | None = Field(description="eV per atom")
    volume_per_atom: float = Field(description="Å³")
    campaigns: list[str]
    updated: str


class Page(BaseModel):
    """What a question finds."""

    total: int = Field(description="rows that match, counted up to 2,000")
    total_is_exact: bool = Field(description="false: there are more than total")
    page: int
    limit: int
    rows: list[Row]


def find_page(collection: Collection[dict[str, Any]], query: AnisotropyQuery) -> Page:
    """One page of rows."""
    found = find(collection, query, list(ROW_FIELDS.values())).skip(query.skip).limit(query.limit)
    rows = [Row(**{name: _reach(one, path) for name, path in ROW_FIELDS.items()}) for one in found]
    total = count(collection, query)
    exact = total <= COUNTED
    return Page(total=min(total, COUNTED), total_is_exact=exact, page=query.page, limit=query.limit, rows=rows)


@dataclass(frozen=True)
class Plan:
    """How a question is put to the database."""

    criteria: dict[str, Any]
    order: list[tuple[str, int]]
    hint: list[tuple[str, int]] | None  # index to use; None: the server chooses


def plan(collection: Collection[dict[str, Any]], query: AnisotropyQuery) -> Plan:
    """The criteria of `indexed_criteria`, and the index where the server would not find the best one."""
    criteria, order = indexed_criteria(collection, query), query.order()
    systems = criteria.get("chemical_system", {}).get("$in")
    others = query.formula or query.level == "DFT"  # few rows: their own indexes find them sooner
    if systems is not None and len(systems) <= MERGED and order[0][0] == "values.k1" and not others:
        return Plan(criteria, order, _index(collection, "chemical_system", "values.k1"))
    if criteria:
        # true of every row; but an index is only asked about its later fields when its first one is asked for
        criteria.setdefault(order[0][0], {"$ne": ""})
    return Plan(criteria, order, None)


def indexed_criteria(collection: Collection[dict[str, Any]], query: AnisotropyQuery) -> dict[str, Any]:
    """The question's criteria, with filters by elements as lists of the chemical systems that there are."""
    criteria = query.criteria()
    if criteria.pop("elements", None):
        there = collection.distinct("chemical_system")
        criteria["chemical_system"] = {"$in": [one for one in there if query.allows(one.split("-"))]}
    return criteria


def count(collection: Collection[dict[str, Any]], query: AnisotropyQuery) -> int:
    """Rows that match; one more than COUNTED stands for any number above it."""
    criteria = indexed_criteria(collection, query)
    if not criteria:
        return min(collection.estimated_document_count(), COUNTED + 1)
    return collection.count_documents(criteria, limit=COUNTED + 1, maxTimeMS=int(1000 * SECONDS))


def find_points(collection: Collection[dict[str, Any]], query: AnisotropyQuery) -> list[dict[str, Any]]:
    """The first rows of the question, up to MOST_POINTS, with what a picture of K1 against μ0 Ms needs."""
    found = find(collection, query, [ROW_FIELDS[name] for name in POINT_FIELDS]).limit(MOST_POINTS)
    return [{name: _reach(one, ROW_FIELDS[name]) for name in POINT_FIELDS} for one in found]


def find_entries(
    collection: Collection[dict[str, Any]], query: AnisotropyQuery, everything: bool = False
) -> Iterator[AnisotropyEntry]:
    """Whole entries in order: those of the page, or with ``everything`` all that match."""
    found = find(collection, query, None)
    if not everything:
        found = found.skip(query.skip).limit(query.limit)
    for one in found:
        yield AnisotropyEntry.from_store(one)


def find_entry(collection: Collection[dict[str, Any]], entry_id: str) -> AnisotropyEntry | None:
    """One entry by its key."""
    one = collection.find_one({"entry_id": entry_id}, max_time_ms=int(1000 * SECONDS))
    return None if one is None else AnisotropyEntry.from_store(one)


def row_of(entry: AnisotropyEntry) -> Row:
    """The row of an entry."""
    stored = entry.model_dump(mode="json")
    return Row(**{name: _reach(stored, path) for name, path in ROW_FIELDS.items()})


def find(collection: Collection[dict[str, Any]], query: AnisotropyQuery, fields: list[str] | None = None) -> Any:
    """The cursor of everything that matches, in order; ``fields`` of entries, or all of them."""
    projection = None if fields is None else {"_id": 0, **dict.fromkeys(fields, 1)}
    asked = plan(collection, query)
    found = collection.find(asked.criteria, projection).sort(asked.order).max_time_ms(int(1000 * SECONDS))
    return found if asked.hint is None else found.hint(asked.hint)


def _index(collection: Collection[dict[str, Any]], *fields: str) -> list[tuple[str, int]] | None:
    """The index that begins with these fields; None where nobody who may has made it yet."""
    known = (list(map(tuple, one["key"])) for one in collection.index_information().values())
    return next((key for key in known if tuple(field for field, _ in key[: len(fields)]) == fields), None)


def _reach(document: dict[str, Any], path: str) -> Any:
    found: Any = document
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
