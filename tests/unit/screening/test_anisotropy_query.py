"""The question: what is accepted, what is refused and how, what reaches the database."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anisotropy_samples import Collections, prediction, run, structure
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmace.errors import UserError
from mmace_flows.execution.stores import INDEXES
from mmace_flows.screening.builder import build_anisotropy
from mmace_flows.screening.output import as_csv, as_extxyz, as_json
from mmace_flows.screening.query import SORTS, AnisotropyQuery, ask
from mmace_flows.screening.table import find_entries, row_of
from mmace_flows.structures.files import read_candidates


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"elements": "Fe,Xx"}, "elements: 'Xx' is no chemical element; give symbols like Fe,Pt"),
        ({"element": "Fe"}, "query: unknown setting 'element'; did you mean 'elements'?"),
        ({"ordering": "FMM"}, "ordering: 'FMM' is no ordering; did you mean 'FM'?"),
        ({"level": "dtf"}, "level: 'dtf' is no level; known: model, DFT"),
        ({"sort": "-k9"}, "sort: 'k9' is no sort; did you mean"),
        ({"limit": 10**9}, "limit: input should be less than or equal to 1000, got 1000000000"),
        ({"limit": 1000, "page": 11}, "page: pages reach to row 10,000; narrow the filters"),
        ({"page": 0}, "page: input should be greater than or equal to 1, got 0"),
        ({"min_k1": "nan"}, "min_k1: input should be a finite number, got 'nan'"),
        ({"max_ehull": {"$gt": 0}}, "max_ehull: expected a number, got {'$gt': 0}"),
        ({"formula": "FePt$"}, "formula: 'FePt$' is no chemical formula; give one like FePt or Fe3Sn2"),
        ({"formula": "Fe0"}, "formula: 'Fe0' is no chemical formula"),
        ({"space_group": "P9"}, "space_group: 'P9' is no space group; give a number from 1 to 230"),
        ({"space_group": 231}, "space_group: there is no space group 231"),
        ({"campaign": "../etc"}, "campaign: '../etc' is no name of a campaign"),
        ({"elements": ["Fe"] * 200 + [f"{n}" for n in range(200)]}, "elements: "),
    ],
)
def test_what_is_wrong_is_one_line_with_the_field(filters: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        ask(**filters)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_spellings_that_people_use() -> None:
    query = ask(
        elements="fe, PT", ordering="fm,afm", level="dft", space_group="P 4/m m m".replace(" m", "m"), sort="-K1"
    )
    assert (query.elements, query.ordering, query.level, query.space_group) == (["Fe", "Pt"], ["FM", "AFM"], "DFT", 123)
    assert ask(formula="Pt2Fe2").formula == ask(formula="FePt").formula == ["FePt"]
    assert ask(space_group="fm-3m").space_group == ask(space_group="225").space_group == 225
    assert ask(campaign="", space_group="", level="", elements="") == AnisotropyQuery()


def test_every_order_has_an_index_that_ends_ties_alike() -> None:
    for field in SORTS.values():
        assert any(index[:2] == [(field, 1), ("entry_id", 1)] for index in INDEXES["anisotropy"]), field
    assert AnisotropyQuery(sort="-k1").order() == [("values.k1", -1), ("entry_id", -1)]


WORDS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["$where", "{'$gt': ''}", ".*", "(a+)+$", "Fe\x00", "\ud800", "Fe;drop", "Fe,Pt", "1e999", "Ｆｅ"]),
    st.integers(),
    st.floats(),
    st.none(),
    st.dictionaries(st.sampled_from(["$gt", "$where", "a"]), st.text(max_size=5), max_size=2),
    st.lists(st.text(max_size=5), max_size=4),
)


@given(st.dictionaries(st.sampled_from([*AnisotropyQuery.model_fields, "$where", "_id"]), WORDS, max_size=5))
def test_nothing_but_checked_words_and_numbers_reaches_the_database(filters: dict[str, Any]) -> None:
    try:
        query = AnisotropyQuery(**filters)
    except ValidationError:
        return
    allowed = {"$all", "$in", "$nin", "$gte", "$lte"}

    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert set(value) <= allowed
            for one in value.values():
                check(one)
        elif isinstance(value, list):
            for one in value:
                check(one)
        elif isinstance(value, str):
            assert value.isascii() and value.replace("-", "").replace(".", "").replace("_", "").isalnum()
        else:
            assert isinstance(value, int | float) and np.isfinite(value)

    for field, value in query.criteria().items():
        assert not field.startswith("$")
        check(value)


@given(st.lists(st.sampled_from(["Fe", "Pt", "Al"]), max_size=3), st.data())
def test_elements_by_chemical_system_are_elements_by_list(there: list[str], data: st.DataObject) -> None:
    """`allows`, which resolves chemical systems, and MongoDB's operators say the same."""
    some = st.lists(st.sampled_from(["Fe", "Pt", "Al"]), max_size=2, unique=True)
    query = AnisotropyQuery(elements=data.draw(some), any_of=data.draw(some), exclude=data.draw(some))
    mongo = query.criteria().get("elements", {})
    expected = (
        set(mongo.get("$all", [])) <= set(there)
        and (not mongo.get("$in") or bool(set(mongo["$in"]) & set(there)))
        and not set(mongo.get("$nin", [])) & set(there)
    )
    assert query.allows(there) == expected


@pytest.fixture(scope="module")
def built() -> Collections:
    stores = Collections()
    fept = structure(["Fe", "Pt"])
    stores.add(prediction(fept, k1=4.0), prediction(structure(["Fe", "Al"]), k1=-1.0), run(fept))
    build_anisotropy(stores)
    return stores


def test_extxyz_carries_vector_moments_and_is_read_back(built: Collections, tmp_path: Path) -> None:
    entries = list(find_entries(built.anisotropy._collection, AnisotropyQuery(formula="FePt")))
    path = tmp_path / "out.extxyz"
    path.write_text(as_extxyz(entries))
    (candidate,) = read_candidates(path)
    assert candidate.structure == entries[0].structure and np.shape(candidate.structure.magmoms) == (2, 3)
    assert candidate.details["k1"] == entries[0].values.k1 and candidate.magnetic_state == "FM"


def test_json_and_csv(built: Collections) -> None:
    entries = list(find_entries(built.anisotropy._collection, AnisotropyQuery()))
    assert [entry.formula for entry in entries] == ["FePt", "AlFe"]  # largest K1 first
    found = json.loads(as_json(entries, 2))
    assert found["total"] == 2 and found["entries"][0]["values"] == entries[0].values.model_dump(mode="json")
    rows = list(csv.DictReader(io.StringIO(as_csv(row_of(entry) for entry in entries))))
    assert float(rows[1]["k1"]) == -1.0 and rows[0]["campaigns"] == "screening tests"
