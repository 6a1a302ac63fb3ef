"""Exact enumeration against published numbers and against brute force."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from crystals import BCC_FE, BCC_FE_CUBE, L10_FENI, MN3PT
from hypothesis import given, settings
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.enumeration import EnumerateSettings, enumerate_orderings
from mmace_flows.structures.enumlib import same_ordering
from mmace_flows.structures.lattices import sublattices, supercell
from mmace_flows.structures.moments import magnetic_state
from mmace_flows.structures.orderings import orderings


def candidates(structure, **options):
    return enumerate_orderings(structure, EnumerateSettings(engine="exact", max_orderings=10_000, **options))


def brute_force(structure: MagneticStructure, sites: list[int], max_cells: int) -> list[MagneticStructure]:
    """Every sign on every sublattice, compared pair by pair as crystals: no group theory at all."""
    found: list[MagneticStructure] = []
    for index in range(1, max_cells + 1):
        for form in sublattices(index):
            large = supercell(structure, form)
            places = [cell * len(structure.symbols) + site for cell in range(index) for site in sites]
            for signs in product((1.0, -1.0), repeat=len(places)):
                moments = np.asarray(large.magmoms).copy()
                moments[places] *= np.array(signs)[:, None]
                one = large.model_copy(update={"magmoms": moments.tolist()})
                if not any(same_ordering(one, other) for other in found):
                    found.append(one)
    return found


def test_bcc_iron_has_the_numbers_of_other_enumerators():
    # icet and dsenum: 29 decorations of up to 4 atoms with two kinds of atom, 18 up to exchange of the kinds,
    # of which 7 have as many of one kind as of the other
    found = candidates(BCC_FE, max_cells=4, states=["FM", "AFM", "FiM"])
    assert len(found) == 18
    assert Counter(c.magnetic_state for c in found) == {"FM": 1, "AFM": 7, "FiM": 10}
    raw = sum(1 if c.magnetic_state == "AFM" else 2 for c in found)
    assert raw == 29  # each of these 7 is its own reverse
    assert [Counter(c.details["cells"] for c in found)[n] for n in (1, 2, 3, 4)] == [1, 2, 3, 12]


def test_the_cell_that_is_given_does_not_matter():
    one, other = candidates(BCC_FE, max_cells=3), candidates(BCC_FE_CUBE, max_cells=3)
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert same_ordering(first.structure, second.structure)


@pytest.mark.parametrize(
    ("crystal", "sites", "cells"), [(BCC_FE, [0], 3), (L10_FENI, [0, 1], 2), (MN3PT, [0, 1, 2], 1)]
)
def test_brute_force_finds_the_same(crystal, sites, cells):
    lengths = [2.0 if atom in sites else 0.0 for atom in range(len(crystal.symbols))]
    start = crystal.model_copy(update={"magmoms": [[0, 0, length] for length in lengths]})
    expected = brute_force(start, sites, cells)
    found = candidates(start, max_cells=cells, states=["FM", "AFM", "FiM"])
    assert len(found) == len(expected)
    for candidate in found:
        assert sum(same_ordering(candidate.structure, other) for other in expected) == 1


@st.composite
def random_crystals(draw):
    """One or two magnetic atoms and sometimes a third atom, in a cell with or without symmetry."""
    a, b, c = (draw(st.sampled_from([2.6, 3.3, 4.1])) for _ in range(3))
    shear = draw(st.sampled_from([0.0, 0.0, 0.7]))
    places = draw(st.sampled_from([[[0, 0, 0]], [[0, 0, 0], [0.5, 0.5, 0.5]], [[0, 0, 0], [0.5, 0.5, 0.31]]]))
    symbols = draw(st.sampled_from([["Fe", "Fe"], ["Fe", "Co"]]))[: len(places)]
    cell = np.array([[a, 0, 0], [shear, b, 0], [0, 0, c]])
    return MagneticStructure(
        symbols=symbols,
        positions=(np.array(places) @ cell).tolist(),
        cell=cell.tolist(),
        magmoms=[[0, 0, 2.0]] * len(symbols),
    )


@settings(deadline=None, max_examples=5)
@given(random_crystals())
def test_brute_force_finds_the_same_in_any_crystal(structure):
    found = candidates(structure, max_cells=2, states=["FM", "AFM", "FiM"])
    primitive = found[0].structure  # the ferromagnet: the primitive cell
    expected = brute_force(primitive, list(range(len(primitive.symbols))), 2)
    assert len(found) == len(expected)


@settings(deadline=None, max_examples=20)
@given(random_crystals(), st.integers(1, 3))
def test_orderings_are_distinct_and_their_first_spin_is_up(structure, cells):
    sites = list(range(len(structure.symbols)))
    found = orderings(structure, sites, cells)
    assert all(ordering.signs[0] == 1 and set(ordering.signs) <= {1, -1} for ordering in found)
    assert len({(o.form.tobytes(), o.signs.tobytes()) for o in found}) == len(found)
    assert found[0].cells == 1 and (found[0].signs == 1).all()  # the ferromagnet
    assert sum((ordering.signs == 1).all() for ordering in found) == 1  # in no other cell again


def test_operations_of_the_magnetic_group():
    ferromagnet = candidates(BCC_FE, max_cells=1, states=["FM"])[0]
    assert ferromagnet.details["operations"] == 48
    # CsCl-like antiferromagnet of bcc: all 48 operations, each with the anti-translation or without
    assert max(c.details["operations"] for c in candidates(BCC_FE, max_cells=2) if c.magnetic_state == "AFM") == 96


def test_the_cap_keeps_what_the_rule_says():
    everything = candidates(MN3PT, max_cells=2)
    few = enumerate_orderings(MN3PT, EnumerateSettings(engine="exact", max_cells=2, max_orderings=5))
    assert [c.structure.hash() for c in few] == [c.structure.hash() for c in everything[:5]]
    assert few[0].details["found"] == len(everything) > 5
    assert [c.magnetic_state for c in few[:2]] == ["NM", "FM"]
    rest = [(len(c.structure.symbols), -c.details["operations"]) for c in everything[2:]]
    assert rest == sorted(rest)


def test_candidates_say_what_they_are():
    for candidate in candidates(L10_FENI, moments={"Fe": 2.5, "Ni": 0.7}, max_cells=2):
        assert candidate.operation == "enumerate" and candidate.parent == L10_FENI.hash()
        assert candidate.magnetic_state == magnetic_state(candidate.structure.magmoms)
        moments = np.asarray(candidate.structure.magmoms)
        assert not moments[:, :2].any() and moments[:, 2].sum() >= -1e-9
        lengths = {"Fe": 2.5, "Ni": 0.7} if candidate.magnetic_state != "NM" else {"Fe": 0.0, "Ni": 0.0}
        assert np.abs(moments[:, 2]) == pytest.approx([lengths[s] for s in candidate.structure.symbols])


def test_whole_elements_without_moment_are_explicit_zeros():
    found = candidates(L10_FENI, max_cells=2, silence_species=True)
    quiet = [c for c in found if c.details.get("without_moment") == ["Ni"]]
    assert {c.magnetic_state for c in quiet} >= {"FM", "AFM"}
    for candidate in quiet:
        moments = dict(zip(candidate.structure.symbols, candidate.structure.magmoms, strict=False))
        assert moments["Ni"] == [0.0, 0.0, 0.0] and any(moments["Fe"])
    assert len(candidates(L10_FENI, max_cells=2)) + len(quiet) < len(found)


def test_states_axis_and_moments_of_the_structure():
    only = candidates(BCC_FE, max_cells=2, states=["AFM"], axis=(1, 1, 0))
    assert {c.magnetic_state for c in only} == {"AFM"}
    directions = np.asarray(only[0].structure.magmoms) / 2.2
    assert np.abs(directions) == pytest.approx(np.array([[0.5**0.5, 0.5**0.5, 0.0]] * 2))
    carried = BCC_FE.model_copy(update={"magmoms": [[1.7, 0.0, 0.0]]})
    assert np.abs(candidates(carried, max_cells=1, states=["FM"])[0].structure.magmoms[0][2]) == pytest.approx(1.7)


@pytest.mark.parametrize(
    ("structure", "options", "message"),
    [
        (BCC_FE, {"max_cells": 21}, "at most 20"),
        (BCC_FE, {"max_cells": 20}, r"lower max_cells to 1\d"),
        (BCC_FE, {"states": ["non-collinear"]}, "not collinear"),
        (BCC_FE, {"axis": (0, 0, 0)}, "no direction"),
        (BCC_FE, {"moments": {"Ee": 2}}, "did you mean 'Fe'"),
        (BCC_FE, {"moments": {"Fe": 0.0}}, "known as magnetic"),
        (BCC_FE, {"max_cells": 1, "states": ["AFM"]}, "raise max_cells"),
        (BCC_FE.model_copy(update={"pbc": [True, True, False]}), {}, "not periodic"),
    ],
)
def test_mistakes_are_one_line(structure, options, message):
    with pytest.raises(UserError, match=message) as caught:
        candidates(structure, **options)
    assert "\n" not in str(caught.value)
