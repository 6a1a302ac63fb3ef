"""Spirals, cones, triangular order: what angles they have, and that they are periodic."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from crystals import BCC_FE, BCC_FE_CUBE, MN3PT, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.structures.lattices import supercell
from mmace_flows.structures.moment_changes import rotated
from mmace_flows.structures.noncollinear import NonCollinearSettings, noncollinear, spiral, wave_vector
from mmace_flows.structures.starting_moments import with_lengths
from mmace_flows.structures.triangular import triangular_moments

FRACTIONS = st.tuples(*[st.fractions(-1, 1, max_denominator=4)] * 3)
DIRECTIONS = st.sampled_from([(0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (1.0, -1.0, 2.0)])


def angle(one, other):
    cosine = np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


@settings(deadline=None, max_examples=40)
@given(FRACTIONS, DIRECTIONS, st.sampled_from([30.0, 90.0, 120.0]))
def test_spirals_are_periodic_and_turn_by_their_wave_vector(wave, axis, cone):
    start = with_lengths(BCC_FE_CUBE)
    found = spiral(start, wave, axis, cone)
    assert len(found.symbols) == len(start.symbols) * lcm(*(q.denominator for q in wave))
    moments = np.asarray(found.magmoms)
    assert np.linalg.norm(moments, axis=1) == pytest.approx(2.2)
    unit = np.array(axis) / np.linalg.norm(axis)
    assert moments @ unit == pytest.approx(2.2 * np.cos(np.deg2rad(cone)))
    # commensurate: the neighbour one cell along each vector of the parent, images of the supercell included, is turned
    # by 2π times that component of the wave vector
    inverse = np.linalg.inv(np.asarray(found.cell))
    fractional = np.asarray(found.positions) @ inverse
    for direction, q in enumerate(wave):
        step = np.asarray(start.cell)[direction] @ inverse
        offsets = fractional[None, :, :] - fractional[:, None, :] - step
        partner = np.argmin(np.abs(offsets - np.rint(offsets)).max(axis=-1), axis=1)
        axes = np.tile(unit, (len(moments), 1))
        turned = rotated(moments, axes, np.full(len(moments), 2 * np.pi * float(q)))
        assert moments[partner] == pytest.approx(turned, abs=1e-9)


def test_the_wave_vector_of_half_is_an_antiferromagnet():
    found = noncollinear(BCC_FE_CUBE, NonCollinearSettings(kind="spiral", wave_vectors=[("0", "0", "1")]))
    assert found[0].magnetic_state == "AFM" and len(found[0].structure.symbols) == 2
    found = noncollinear(BCC_FE, NonCollinearSettings(kind="spiral", wave_vectors=[("0", "0", "0")]))
    assert found[0].magnetic_state == "FM"


def test_atoms_without_moment_do_not_spiral():
    found = spiral(with_lengths(MN3PT), wave_vector(["0", "0", "1/3"]))
    for symbol, moment in zip(found.symbols, found.magmoms, strict=True):
        assert np.linalg.norm(moment) == pytest.approx(3.0 if symbol == "Mn" else 0.0)


def test_triangular_order_of_mn3pt():
    candidates = noncollinear(MN3PT)
    assert {(c.details["turn"], c.details["chirality"]) for c in candidates} == {(0, 1), (0, -1), (90, 1), (90, -1)}
    assert len({c.structure.hash() for c in candidates}) == 4
    for candidate in candidates:
        moments = np.asarray(candidate.structure.magmoms)
        assert candidate.magnetic_state == "non-collinear"
        assert np.linalg.norm(moments[:3], axis=1) == pytest.approx(3.0) and not moments[3].any()
        assert moments.sum(axis=0) == pytest.approx(0.0, abs=1e-9)
        assert [angle(moments[i], moments[j]) for i, j in ((0, 1), (1, 2), (0, 2))] == pytest.approx([120.0] * 3)
        normal = np.cross(moments[0], moments[1])
        assert np.abs(normal / np.linalg.norm(normal)) == pytest.approx(3**-0.5)  # in a (111) plane


def test_turn_and_chirality_mean_what_they_say():
    start = with_lengths(MN3PT)
    centre = np.array([1.0, 1.0, 1.0]) / 3 * 3.83  # of the three face centres
    outwards = np.asarray(start.positions)[:3] - centre
    radial, around = triangular_moments(start, 0.0, 1)[:3], triangular_moments(start, 90.0, 1)[:3]
    # a triangle of images may be taken: radial up to the sign of its orientation
    angles = [angle(moment, out) for moment, out in zip(radial, outwards, strict=True)]
    assert angles == pytest.approx([0.0] * 3, abs=1e-5) or angles == pytest.approx([180.0] * 3, abs=1e-5)
    assert [angle(moment, out) for moment, out in zip(around, outwards, strict=True)] == pytest.approx([90.0] * 3)
    other = triangular_moments(start, 0.0, -1)[:3]
    assert not np.allclose(other, radial) and other[0] == pytest.approx(radial[0])
    assert np.cross(other[0], other[1]) == pytest.approx(-np.cross(radial[0], radial[1]))


def test_triangular_order_in_a_layer_needs_a_supercell():
    layer = plain(Atoms("Fe", cell=[[2.6, 0, 0], [-1.3, 2.6 * 0.75**0.5, 0], [0, 0, 9]], pbc=True))
    with pytest.raises(UserError, match="its own image"):
        noncollinear(layer)
    large = supercell(layer, [[1, -1, 0], [1, 2, 0], [0, 0, 1]])  # √3 × √3
    moments = np.asarray(noncollinear(large)[0].structure.magmoms)
    assert moments.sum(axis=0) == pytest.approx(0.0, abs=1e-9)
    by_spiral = np.asarray(spiral(with_lengths(layer), wave_vector(["1/3", "1/3", "0"])).magmoms)
    assert sorted(angle(a, b) for i, a in enumerate(by_spiral) for b in by_spiral[:i]) == pytest.approx([120.0] * 3)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (BCC_FE_CUBE, "no triangles"),
        (plain(bulk("Al")), "known as magnetic"),
        (plain(bulk("Ni", cubic=True)), "three sublattices"),  # tetrahedra
        (plain(Atoms("Fe", cell=[20, 20, 20], pbc=True)), "more than 16"),
    ],
)
def test_where_there_are_no_triangles(structure, message):
    with pytest.raises(UserError, match=message):
        noncollinear(structure)


def test_wave_vectors_are_small_fractions():
    assert wave_vector(["1/3", "0.25", 0]) == (Fraction(1, 3), Fraction(1, 4), 0)
    assert wave_vector([0.3333, -0.5, "2"]) == (Fraction(1, 3), Fraction(-1, 2), 2)
    for wrong in (["1/13", "0", "0"], ["0.1234", "0", "0"], ["a", "0", "0"], ["0", "0"], ["1/0", "0", "0"]):
        with pytest.raises(UserError, match="wave vector"):
            wave_vector(wrong)


def test_random_directions_repeat_with_their_seed_and_keep_lengths():
    settings_ = NonCollinearSettings(kind="random", count=5, seed=3)
    found = noncollinear(BCC_FE_CUBE, settings_)
    assert found == noncollinear(BCC_FE_CUBE, settings_) and len({c.structure.hash() for c in found}) == 5
    moments = np.array([c.structure.magmoms for c in found])
    assert np.linalg.norm(moments, axis=-1) == pytest.approx(2.2)
    assert {c.magnetic_state for c in found} == {"non-collinear"}
