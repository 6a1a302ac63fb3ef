"""Splits: sizes, mixture, whole groups, the same seed the same parts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import sample

from mmace.data import SplitSettings, assign
from mmace.data.split import Member
from mmace.errors import UserError


def member(stratum: int, group: int | None, structure: int) -> Member:
    """A member with a name of each kind."""
    return Member(("FM", f"E{stratum}"), None if group is None else str(group), structure.to_bytes(8, "big"))


row = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 8)), st.integers(0, 200))
alone = [(0, None, 1000 + index) for index in range(3)]  # so that every part can get something
members = st.lists(row, min_size=20, max_size=120).map(lambda rows: [member(*row) for row in [*rows, *alone]])


@settings(max_examples=100, deadline=None)
@given(members, st.integers(0, 10**6))
def test_groups_and_equal_structures_are_never_divided(data, seed):
    chosen = assign(data, SplitSettings({"valid": 0.2, "test": 0.1}, seed))
    assert set(chosen) == {"train", "valid", "test"}
    for key in ("group", "digest"):
        parts: dict = {}
        for one, part in zip(data, chosen, strict=True):
            if getattr(one, key) is not None:
                assert parts.setdefault(getattr(one, key), part) == part
    assert assign(data, SplitSettings({"valid": 0.2, "test": 0.1}, seed)) == chosen


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=30, max_size=300), st.integers(0, 99))
def test_single_structures_fill_the_parts_to_the_number_and_every_stratum_evenly(strata, seed):
    data = [member(stratum, None, index) for index, stratum in enumerate(strata)]
    shares = {"valid": 0.15, "test": 0.1}
    chosen = assign(data, SplitSettings(shares, seed))
    for part, share in shares.items():
        assert abs(chosen.count(part) - share * len(data)) <= 1
        for stratum, size in Counter(strata).items():
            there = sum(p == part and s == stratum for p, s in zip(chosen, strata, strict=True))
            assert abs(there - share * size) <= 1.01


def test_the_seed_decides():
    data = [member(0, None, index) for index in range(100)]
    first, other = (assign(data, SplitSettings({"valid": 0.5}, seed)) for seed in (0, 1))
    assert first != other


def test_strata_are_magnetic_class_and_elements():
    one = Member.of(sample(magmoms=[[0, 0, 2], [0, 0, -2]]), SplitSettings())
    assert one.stratum == ("AFM", "Fe-Ni")
    assert one.digest == Member.of(sample(magmoms=[[0, 0, 2], [0, -0.0, -2]]), SplitSettings()).digest
    assert one.digest != Member.of(sample(magmoms=[[0, 0, 2], [0, 0, -2.1]]), SplitSettings()).digest


def test_what_cannot_be_split_is_said():
    with pytest.raises(UserError, match="give a number between 0 and 1"):
        SplitSettings({"valid": 1.5})
    with pytest.raises(UserError, match="add up to"):
        SplitSettings({"valid": 0.5, "test": 0.5})
    with pytest.raises(UserError, match="in too few groups for 2 parts; valid would be empty"):
        assign([member(0, 1, index) for index in range(9)], SplitSettings({"valid": 0.2}))
    one = sample()
    one.info = {"parent": "mp-13"}
    with pytest.raises(UserError, match="no 'parents' to group by; did you mean 'parent'"):
        Member.of(one, SplitSettings(group_by="parents"))
    assert Member.of(one, SplitSettings(group_by="parent")).group == "mp-13"
    assert np.all([name in SplitSettings({"a": 0.1}).parts for name in ("train", "a")])
