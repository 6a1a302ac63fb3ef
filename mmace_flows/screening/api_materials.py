"""REST, materials: the table, one entry, its structure as a file, its surface, model against DFT."""

from __future__ import annotations

import io
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, Field

from mmace_flows.schemas.anisotropy_entry import AnisotropyEntry, Level
from mmace_flows.screening.output import as_csv, as_extxyz
from mmace_flows.screening.query import AnisotropyQuery
from mmace_flows.screening.query_words import space_group_symbols
from mmace_flows.screening.surface import Comparison, SurfacePoints, comparison, surface_points
from mmace_flows.screening.table import Page, Row, find_entries, find_entry, find_page, find_points, row_of

if TYPE_CHECKING:
    from pymongo.collection import Collection

EntryId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="entry_id of a row")]
Filters = Annotated[AnisotropyQuery, Query()]
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "no such entry"}}


class Format(StrEnum):
    """Formats of a structure file."""

    CIF = "cif"
    EXTXYZ = "extxyz"
    JSON = "json"


class Points(BaseModel):
    """Columns of equal length for a picture: the first 3,000 rows in the order of the question."""

    entry_id: list[str]
    formula: list[str]
    ordering: list[str]
    level: list[str]
    k1: list[float] = Field(description="MJ/m³")
    polarization: list[float] = Field(description="μ0 Ms, T")


class SpaceGroupName(BaseModel):
    """A space group that occurs."""

    number: int
    symbol: str


class Facets(BaseModel):
    """What there is to filter by."""

    entries: int
    elements: list[str]
    space_groups: list[SpaceGroupName]
    campaigns: list[str]


def materials_router(table: Callable[[], Collection[dict[str, Any]]]) -> APIRouter:
    """Routes under /api/anisotropy. ``table`` gives the collection when it is asked for."""
    router = APIRouter(prefix="/api/anisotropy", tags=["anisotropy"])

    def entry(entry_id: str) -> AnisotropyEntry:
        found = find_entry(table(), entry_id)
        if found is None:
            raise HTTPException(404, f"no entry {entry_id}; it may have been built again under another ordering")
        return found

    @router.get("", summary="Rows of the table, filtered, sorted, by page")
    def rows(filters: Filters) -> Page:
        return find_page(table(), filters)

    @router.get("/points", summary="K1 and μ0 Ms of the first rows, for a picture")
    def points(filters: Filters) -> Points:
        found = find_points(table(), filters)
        return Points(**{name: [one[name] for one in found] for name in Points.model_fields})

    @router.get("/export.csv", response_class=Response, summary="The rows of a page as CSV")
    def export_csv(filters: Filters) -> Response:
        listed: list[Row] = find_page(table(), filters).rows
        return _file(as_csv(listed), "text/csv; charset=utf-8", "anisotropy.csv")

    @router.get("/export.extxyz", response_class=Response, summary="The rows of a page as extended XYZ with moments")
    def export_extxyz(filters: Filters) -> Response:
        return _file(as_extxyz(find_entries(table(), filters)), "chemical/x-xyz; charset=utf-8", "anisotropy.extxyz")

    @router.get("/facets", summary="Elements, space groups and campaigns that occur")
    def facets() -> Facets:
        collection = table()
        systems = collection.distinct("chemical_system")
        symbols = space_group_symbols()
        return Facets(
            entries=collection.estimated_document_count(),
            elements=sorted({element for system in systems for element in system.split("-")}),
            space_groups=[
                SpaceGroupName(number=number, symbol=symbols.get(number, str(number)))
                for number in sorted(collection.distinct("space_group_number"))
            ],
            campaigns=sorted(collection.distinct("campaigns")),
        )

    @router.get("/{entry_id}", responses=UNKNOWN, summary="Everything that is known of one row")
    def one(entry_id: EntryId) -> AnisotropyEntry:
        return entry(entry_id)

    @router.get("/{entry_id}/row", responses=UNKNOWN, summary="One row as the table shows it")
    def one_row(entry_id: EntryId) -> Row:
        return row_of(entry(entry_id))

    @router.get("/{entry_id}/surface", responses=UNKNOWN, summary="The anisotropy surface on a grid of directions")
    def surface(
        entry_id: EntryId,
        level: Annotated[Level | None, Query(description="model or DFT; default: the one on top")] = None,
        rows: Annotated[int, Query(ge=4, le=90, description="intervals of the polar angle")] = 36,
    ) -> SurfacePoints:
        found = entry(entry_id)
        made = surface_points(found, level or found.level, rows)
        if made is None:
            raise HTTPException(404, f"nothing by {level} is known of this entry")
        return made

    @router.get("/{entry_id}/comparison", responses=UNKNOWN, summary="Model against DFT")
    def compared(entry_id: EntryId) -> Comparison:
        return comparison(entry(entry_id))

    @router.get("/{entry_id}/structure.{kind}", responses=UNKNOWN, summary="The structure with its moments as a file")
    def structure(entry_id: EntryId, kind: Format) -> Response:
        found = entry(entry_id)
        name = f"{found.formula}-{found.ordering}.{kind}"
        if kind is Format.CIF:
            return _file(as_cif(found), "chemical/x-cif; charset=utf-8", name)
        if kind is Format.EXTXYZ:
            return _file(as_extxyz([found]), "chemical/x-xyz; charset=utf-8", name)
        return _file(found.structure.model_dump_json(indent=1) + "\n", "application/json", name)

    return router


def as_cif(entry: AnisotropyEntry) -> str:
    """CIF of the crystal; moments are not part of it, for which there is extended XYZ."""
    from ase.io.cif import write_cif

    atoms = entry.structure.to_atoms()
    stream = io.BytesIO()
    write_cif(stream, atoms, wrap=False)
    return stream.getvalue().decode()


def _file(text: str, kind: str, name: str) -> Response:
    return Response(text, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
