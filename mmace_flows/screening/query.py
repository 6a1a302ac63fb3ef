"""The one question that can be asked of the table: filters, order, page. Command line, REST and page all ask with it.

Values reach the database as numbers and as words that were checked against lists; no pattern, no operator and no code
from outside ever does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from annotated_types import Len
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from mmace.errors import UserError
from mmace_flows.schemas.anisotropy_entry import Level
from mmace_flows.schemas.structure import MagneticState
from mmace_flows.screening.query_words import (
    campaign_name,
    chemical_formula,
    element,
    listed,
    nearest,
    space_group_number,
)

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 1000  # rows of a page
LAST_ROW = 10_000  # rows that pages may reach: the database passes over all before them
LARGEST_LIST = 120  # words in one filter; there are 118 elements

# what rows can be sorted by, and where it stands in a row; each has an index (mmace_flows.execution.stores)
SORTS: dict[str, str] = {
    "k1": "values.k1",
    "strength": "values.strength_mev_per_atom",
    "ms": "values.polarization",
    "hardness": "values.hardness",
    "ehull": "energy_above_hull",
    "spread": "values.spread",
    "volume": "volume_per_atom",
    "formula": "formula",
    "space-group": "space_group_number",
    "updated": "updated",
}

# filters by range: field of the question → where it stands in a row, and which end
RANGES: dict[str, tuple[str, str]] = {
    "min_k1": ("values.k1", "$gte"),
    "max_k1": ("values.k1", "$lte"),
    "min_strength": ("values.strength_mev_per_atom", "$gte"),
    "min_ms": ("values.polarization", "$gte"),
    "max_ms": ("values.polarization", "$lte"),
    "min_hardness": ("values.hardness", "$gte"),
    "max_hardness": ("values.hardness", "$lte"),
    "max_ehull": ("energy_above_hull", "$lte"),
    "max_atoms": ("num_atoms", "$lte"),
}

Elements = Annotated[list[Annotated[str, BeforeValidator(element)]], BeforeValidator(listed), Len(0, LARGEST_LIST)]
Formulas = Annotated[list[Annotated[str, BeforeValidator(chemical_formula)]], BeforeValidator(listed), Len(0, 20)]
Number = Annotated[float | None, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]


def _states(value: Any) -> Any:
    return [nearest(one, get_args(MagneticState), "ordering") for one in listed(value)]


class AnisotropyQuery(BaseModel):
    """Filters that all must hold, an order, and a page. Everything may be left out."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    elements: Elements = Field(default=[], description="elements that must all be there, like Fe,Pt")
    any_of: Elements = Field(default=[], description="elements of which one at least must be there")
    exclude: Elements = Field(default=[], description="elements that must not be there")
    formula: Formulas = Field(default=[], description="reduced formulas, in any order of elements: FePt or Pt2Fe2")
    ordering: Annotated[list[MagneticState], BeforeValidator(_states), Len(0, 10)] = Field(
        default=[], description="magnetic orderings: NM, FM, AFM, FiM, non-collinear"
    )
    level: Level | None = Field(default=None, description="where the values on top come from: model or DFT")
    space_group: Annotated[int | None, BeforeValidator(space_group_number)] = Field(
        default=None, description="number 1–230 or Hermann–Mauguin symbol, like 123 or P4/mmm"
    )
    campaign: str | None = Field(default=None, description="name of a campaign that a row comes from")
    min_k1: Number = Field(default=None, description="K1 at least, MJ/m³")
    max_k1: Number = Field(default=None, description="K1 at most, MJ/m³")
    min_strength: Number = Field(default=None, description="ΔE_A at least, meV per atom")
    min_ms: Number = Field(default=None, description="μ0 Ms at least, T")
    max_ms: Number = Field(default=None, description="μ0 Ms at most, T")
    min_hardness: Number = Field(default=None, description="hardness κ at least")
    max_hardness: Number = Field(default=None, description="hardness κ at most")
    max_ehull: Number = Field(default=None, description="energy above the hull at most, eV per atom; unknown ones fail")
    max_atoms: int | None = Field(default=None, ge=1, le=10_000, description="atoms in the cell at most")
    sort: str = Field(default="-k1", description=f"{', '.join(SORTS)}; a minus in front: largest first")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=LARGEST_LIMIT, description="rows of a page")
    page: int = Field(default=1, ge=1, le=LAST_ROW, description="which page, from 1")

    @field_validator("level", mode="before")
    @classmethod
    def _level(cls, value: Any) -> Any:
        return None if value in (None, "") else nearest(value, get_args(Level), "level")

    @field_validator("campaign", mode="before")
    @classmethod
    def _campaign(cls, value: Any) -> Any:
        return None if value in (None, "") else campaign_name(value)

    @field_validator("sort")
    @classmethod
    def _sort(cls, value: str) -> str:
        sign = "-" if value.startswith("-") else ""
        return sign + nearest(value.removeprefix("-"), SORTS, "sort")

    @field_validator("page")
    @classmethod
    def _within_reach(cls, value: int, info: Any) -> int:
        if value * info.data.get("limit", DEFAULT_LIMIT) > LAST_ROW:
            raise ValueError(f"pages reach to row {LAST_ROW:,}; narrow the filters")
        return value

    def criteria(self) -> dict[str, Any]:
        """The filter as MongoDB takes it."""
        found: dict[str, Any] = {}
        elements = {"$all": self.elements, "$nin": self.exclude, "$in": self.any_of}
        if any(elements.values()):
            found["elements"] = {operator: words for operator, words in elements.items() if words}
        for field, values in (("formula", self.formula), ("ordering", self.ordering)):
            if values:
                found[field] = {"$in": list(values)} if len(values) > 1 else values[0]
        same = {"level": self.level, "space_group_number": self.space_group, "campaigns": self.campaign}
        found |= {field: value for field, value in same.items() if value is not None}
        for name, (field, operator) in RANGES.items():
            if (value := getattr(self, name)) is not None:
                found.setdefault(field, {})[operator] = value
        return found

    def allows(self, elements: Sequence[str]) -> bool:
        """Whether a crystal of these elements passes the filters by element."""
        there = set(elements)
        some = not self.any_of or there.intersection(self.any_of)
        return there.issuperset(self.elements) and bool(some) and there.isdisjoint(self.exclude)

    def order(self) -> list[tuple[str, int]]:
        """Fields and directions to sort by; the row's key last, so that pages never overlap."""
        way = -1 if self.sort.startswith("-") else 1
        return [(SORTS[self.sort.removeprefix("-")], way), ("entry_id", way)]

    @property
    def skip(self) -> int:
        """Rows before this page."""
        return (self.page - 1) * self.limit


def ask(**filters: Any) -> AnisotropyQuery:
    """A question from filters as people give them. Raises UserError: one line with the name of the field."""
    from mmace.errors import unknown_key_message

    for name in filters:
        if name not in AnisotropyQuery.model_fields:
            raise UserError(unknown_key_message(name, AnisotropyQuery.model_fields, "query"))
    try:
        return AnisotropyQuery(**filters)
    except ValidationError as error:
        name, message = complaints(error)[0]
        raise UserError(f"{name}: {message}") from error


def complaints(error: ValidationError) -> list[tuple[str, str]]:
    """(field, what is wrong with it) of everything that pydantic found."""
    return [complaint(one) for one in error.errors()]


def complaint(problem: Any) -> tuple[str, str]:
    """(field, what is wrong, with the value as given) of one problem that pydantic or FastAPI reports."""
    place = [part for part in problem["loc"] if part not in ("query", "path")]
    name = str(place[0]) if place else "query"
    if problem["type"] == "extra_forbidden":
        from mmace.errors import unknown_key_message

        return name, unknown_key_message(name, AnisotropyQuery.model_fields, "query")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"].startswith(("float_", "int_")):
        message = "expected a whole number" if problem["type"].startswith("int_") else "expected a number"
    given = problem.get("input")
    text = repr(given)
    shown = text if len(text) <= 60 else f"{text[:59]}…"
    return name, message if problem["type"] == "value_error" else f"{message[:1].lower()}{message[1:]}, got {shown}"
