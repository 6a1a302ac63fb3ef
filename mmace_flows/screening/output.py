"""Entries as text: table, JSON, CSV, and extended XYZ with (N,3) moments that `mmace soc` and `mmace label` read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mmace_flows.schemas.anisotropy_entry import AnisotropyEntry
from mmace_flows.schemas.structure import Candidate
from mmace_flows.screening.table import Row, row_of
from mmace_flows.structures.files import candidate_text

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("table", "json", "csv", "extxyz")

# heading, field of a row, digits after the point (None: as it is)
COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("formula", "formula", None),
    ("space group", "space_group", None),
    ("order", "ordering", None),
    ("K1\nMJ/m³", "k1", 2),
    ("±\nMJ/m³", "spread", 2),
    ("K2\nMJ/m³", "k2", 2),
    ("ΔE_A\nmeV/atom", "strength", 3),
    ("easy", "easy_kind", None),
    ("μ0 Ms\nT", "polarization", 2),
    ("κ", "hardness", 2),
    ("E hull\neV/atom", "energy_above_hull", 3),
    ("level", "level", None),
    ("entry", "entry_id", None),
)
ENTRY_SHOWN = 8  # digits of a key that the table shows; they tell rows apart


def entry_candidate(entry: AnisotropyEntry) -> Candidate:
    """The entry as a structure to compute with: geometry and moments, and in its details what is known."""
    row = row_of(entry).model_dump(mode="json")
    known = {key: row[key] for key in row if key not in ("formula", "elements", "ordering")}
    return Candidate(
        structure=entry.structure,
        operation="anisotropy",
        magnetic_state=entry.ordering,
        parent=entry.parent,
        details=known,
    )


def as_extxyz(entries: Iterable[AnisotropyEntry]) -> str:
    """One block per entry, moments (N,3) μB in the column initial_magmoms."""
    return "".join(candidate_text(entry_candidate(entry)) for entry in entries)


def as_json(entries: Iterable[AnisotropyEntry], total: int | None = None) -> str:
    """``{"total": …, "entries": […]}`` with everything that is known of each."""
    listed = [entry.model_dump(mode="json") for entry in entries]
    return json.dumps({"total": total, "entries": listed}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(rows: Iterable[Row]) -> str:
    """One line per row, the fields of `Row` as columns; lists with a space between."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(Row.model_fields)
    for row in rows:
        values = row.model_dump(mode="json").values()
        writer.writerow(" ".join(value) if isinstance(value, list) else value for value in values)
    return stream.getvalue()


def as_table(rows: Sequence[Row]) -> Table:
    """For a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading, _, digits in COLUMNS:
        table.add_column(heading, justify="left" if digits is None else "right", no_wrap=True)
    for row in rows:
        cells = []
        for _, field, digits in COLUMNS:
            value = getattr(row, field)
            shown = "–" if value is None else str(value) if digits is None else f"{value:.{digits}f}"
            if field == "ordering" and row.became is not None:
                shown += f" → {row.became}"
            cells.append(shown[:ENTRY_SHOWN] if field == "entry_id" else shown)
        table.add_row(*cells)
    return table
