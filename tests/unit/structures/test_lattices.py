"""Sublattices and supercells against known counts, ASE, and arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

import numpy as np
import pytest
from ase.build import make_supercell
from crystals import MN3PT
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.structures.lattices import (
    commensurate_sublattice,
    hermite_normal_form,
    reduced,
    sublattices,
    supercell,
    translations,
)

MATRICES = st.lists(st.integers(-3, 3), min_size=9, max_size=9).map(lambda values: np.array(values).reshape(3, 3))
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(-2, 2)), max_size=5)
FRACTIONS = st.tuples(*[st.fractions(-1, 2, max_denominator=6)] * 3)


def test_there_are_as_many_sublattices_as_the_formula_says():
    # Σ d|n d·σ(d), the number of sublattices of index n in three dimensions
    counts = [len({form.tobytes() for form in sublattices(index)}) for index in range(1, 9)]
    assert counts == [1, 7, 13, 35, 31, 91, 57, 155]


@given(MATRICES, STEPS)
def test_normal_forms_are_the_same_for_the_same_lattice_only(matrix, steps):
    assume(abs(round(np.linalg.det(matrix))) > 0)
    form = hermite_normal_form(matrix)
    other = matrix.copy()
    for row, added, factor in steps:  # other vectors of the same lattice
        if row != added:
            other[row] += factor * other[added]
    assert np.array_equal(hermite_normal_form(other[[1, 2, 0]]), form)
    change = form @ np.linalg.inv(matrix)  # whole and of determinant ±1: the same lattice
    assert change == pytest.approx(np.rint(change), abs=1e-6) and abs(np.linalg.det(change)) == pytest.approx(1)


@given(MATRICES, st.lists(st.integers(-9, 9), min_size=3, max_size=3))
def test_translations_stand_for_every_coset_once(matrix, translation):
    assume(0 < abs(round(np.linalg.det(matrix))) < 20)
    form = hermite_normal_form(matrix)
    cells = translations(form)
    assert len({tuple(cell) for cell in cells.tolist()}) == len(cells) == round(abs(np.linalg.det(matrix)))
    assert np.array_equal(reduced(cells, form), cells)
    found = reduced(translation, form)
    assert found.tolist() in cells.tolist()
    steps = (np.array(translation) - found) @ np.linalg.inv(form)
    assert steps == pytest.approx(np.rint(steps), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(MATRICES)
def test_supercells_are_those_of_ase_with_moments(matrix):
    assume(0 < abs(round(np.linalg.det(matrix))) < 9)
    start = MN3PT.model_copy(update={"magmoms": [[1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0]]})
    for compact in (False, True):
        found = supercell(start, matrix, compact)
        assert np.linalg.det(found.cell) > 0
        expected = make_supercell(start.to_atoms(), matrix)
        assert abs(np.linalg.det(found.cell)) == pytest.approx(expected.get_volume())
        # every atom of one is an atom of the other, modulo the lattice, with its moment
        ours, theirs = found.to_atoms(), expected
        offsets = ours.positions[:, None, :] - theirs.positions[None, :, :]
        fractional = offsets @ np.linalg.inv(np.asarray(theirs.cell))
        same = np.abs(fractional - np.rint(fractional)).max(axis=-1) < 1e-6
        assert (same.sum(axis=0) == 1).all() and (same.sum(axis=1) == 1).all()
        partner = same.argmax(axis=1)
        assert np.array_equal(ours.arrays["initial_magmoms"], theirs.arrays["initial_magmoms"][partner])


@given(FRACTIONS)
def test_commensurate_sublattices_are_the_largest_on_which_the_wave_is_periodic(wave):
    form = commensurate_sublattice(wave)
    for row in form:
        assert sum((q * int(t) for q, t in zip(wave, row, strict=True)), Fraction(0)).denominator == 1
    assert round(abs(np.linalg.det(form))) == lcm(*(q.denominator for q in wave))


def test_what_is_no_supercell_is_refused():
    for matrix in ([[1, 0, 0], [2, 0, 0], [0, 0, 1]], [1, 2], [[1.5, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 1, 1]):
        with pytest.raises(UserError, match="give three repeats or nine integers"):
            supercell(MN3PT, matrix)
