"""Paths between structures, and supercells with turned spins."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from crystals import BCC_FE_CUBE, L10_FENI, MN3PT, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.structures.base_cells import bain_structure, tetragonal_ratio
from mmace_flows.structures.distort import DistortSettings, distort
from mmace_flows.structures.paths import PathSettings, path_between
from mmace_flows.structures.turned import SupercellSettings, neighbour_shells, turn_spins, turned_supercells

VECTORS = st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=3, max_size=3)
MILD = DistortSettings(volume_scale=(0.9, 1.1), strain=0.05, displacement=0.1, minimum_distance=1.0)


def same_crystal(one, other):
    """Equal cells and moments, positions equal modulo the lattice."""
    assert one.symbols == other.symbols
    assert np.asarray(one.cell) == pytest.approx(np.asarray(other.cell), abs=1e-12)
    assert np.asarray(one.magmoms) == pytest.approx(np.asarray(other.magmoms), abs=1e-12)
    steps = (np.asarray(one.positions) - np.asarray(other.positions)) @ np.linalg.inv(np.asarray(one.cell))
    assert steps == pytest.approx(np.rint(steps), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), VECTORS, VECTORS, st.sampled_from(["linear", "rotate"]), st.booleans())
def test_the_ends_are_the_ends(seed, moment, other_moment, moments, keep_volume):
    first = MN3PT.model_copy(update={"magmoms": [moment, [0, 0, 1], [0, 0, 0], other_moment]})
    last = distort(MN3PT, seed, MILD).structure
    last = last.model_copy(update={"magmoms": [other_moment, [0, 0, -1], moment, [0, 0, 0]]})
    found = path_between(first, last, PathSettings(images=5, moments=moments, keep_volume=keep_volume))
    assert len(found) == 5 and [c.details["fraction"] for c in found] == [0.0, 0.25, 0.5, 0.75, 1.0]
    same_crystal(found[0].structure, first)
    same_crystal(found[-1].structure, last)
    assert all(np.isfinite(c.structure.magmoms).all() for c in found)
    lengths = np.linalg.norm([c.structure.magmoms for c in found], axis=-1)
    if moments == "rotate":
        expected = np.linspace(0, 1, 5)[:, None] * (lengths[-1] - lengths[0]) + lengths[0]
        assert lengths == pytest.approx(expected, abs=1e-9)
    if keep_volume:
        volumes = [abs(np.linalg.det(c.structure.cell)) for c in found]
        assert np.diff(volumes, 2) == pytest.approx(0.0, abs=1e-9)


def test_the_bain_path_is_one_of_these_paths():
    found = path_between(bain_structure(11.4, 1.0, "FM"), bain_structure(11.4, 2**0.5, "AFM"), PathSettings(images=3))
    ratios = [tetragonal_ratio(c.structure.cell) for c in found]
    assert ratios[0] == pytest.approx(1.0) and ratios[2] == pytest.approx(2**0.5) and 1.0 < ratios[1] < 2**0.5
    assert [c.magnetic_state for c in found] == ["FM", "FM", "AFM"]
    assert found[1].structure.magmoms[2] == [0.0, 0.0, 0.0]  # half way from up to down
    fractional = np.asarray(found[1].structure.positions) @ np.linalg.inv(found[1].structure.cell)
    assert fractional[1] == pytest.approx([0.5, 0.5, 0.25])


def test_atoms_go_the_short_way_to_their_partners():
    first = BCC_FE_CUBE.model_copy(update={"magmoms": [[0, 0, 2], [0, 0, -2]]})
    swapped = first.model_copy(
        update={"positions": [first.positions[1], [2.8, 0.0, 0.0]], "magmoms": [[0, 0, -2], [0, 0, 2]]}
    )
    middle = path_between(first, swapped, PathSettings(images=3))[1]
    assert middle.details["atoms"] == [1, 0]
    steps = np.asarray(middle.structure.positions) - np.asarray(first.positions)
    assert np.abs(steps).max() < 0.1 and middle.structure.magmoms == first.magmoms
    with pytest.raises(UserError, match="atoms come closer"):
        path_between(first, swapped, PathSettings(images=3, match_atoms=False, minimum_distance=1.5))


def test_opposite_moments_turn_and_do_not_vanish():
    down = BCC_FE_CUBE.model_copy(update={"magmoms": [[0, 0, -2.0]] * 2})
    up = BCC_FE_CUBE.model_copy(update={"magmoms": [[0, 0, 2.0]] * 2})
    middle = path_between(up, down, PathSettings(images=3, moments="rotate"))[1]
    assert np.abs(np.asarray(middle.structure.magmoms)[:, 2]) == pytest.approx(0.0, abs=1e-9)
    assert np.linalg.norm(middle.structure.magmoms, axis=1) == pytest.approx(2.0)


def test_ends_that_do_not_belong_together():
    mirrored = L10_FENI.model_copy(update={"cell": (np.diag([2.5, 2.5, -3.57])).tolist()})
    half_turn = L10_FENI.model_copy(update={"cell": np.diag([-2.5, -2.5, 3.57]).tolist()})
    with pytest.raises(UserError, match=r"FeNi and Mn3Pt"):
        path_between(L10_FENI, MN3PT)
    with pytest.raises(UserError, match="left-handed"):
        path_between(L10_FENI, mirrored)
    with pytest.raises(UserError, match="collapses"):
        path_between(L10_FENI, half_turn)
    with pytest.raises(UserError, match="periodic"):
        path_between(*[L10_FENI.model_copy(update={"pbc": [True, True, False]})] * 2)


def test_one_spin_is_turned_by_the_angles_asked_for():
    found = turned_supercells(BCC_FE_CUBE, SupercellSettings(repeat=[2, 2, 2], angles=[0.0, 10.0, 90.0], sites=[3]))
    assert [c.details.get("angle", 0.0) for c in found] == [0.0, 10.0, 90.0]
    start = np.asarray(found[0].structure.magmoms)
    assert found[0].magnetic_state == "FM" and len(start) == 16
    for candidate, angle in zip(found[1:], (10.0, 90.0), strict=True):
        moments = np.asarray(candidate.structure.magmoms)
        others = np.arange(16) != 3
        assert np.array_equal(moments[others], start[others])
        assert np.linalg.norm(moments[3]) == pytest.approx(2.2)
        assert moments[3] @ start[3] / 2.2**2 == pytest.approx(np.cos(np.deg2rad(angle)))
    about_z = turn_spins([[1.0, 0, 0], [0, 1.0, 0]], {0: 90.0}, axis=(0, 0, 1))
    assert about_z == pytest.approx(np.array([[0, 1, 0], [0, 1, 0]]), abs=1e-12)


def test_pairs_come_with_both_of_their_single_turns():
    found = turned_supercells(BCC_FE_CUBE, SupercellSettings(repeat=[3, 3, 3], angles=[20.0], pairs_within=4.2))
    turned = [{int(a): angle for a, angle in c.details["turned"].items()} for c in found]
    pairs = [one for one in turned if len(one) == 2]
    shells = [c.details for c in found if "distance" in c.details]
    assert [round(shell["distance"], 2) for shell in shells] == [2.49, 2.87, 4.06]
    assert [shell["neighbours"] for shell in shells] == [8, 6, 12]
    assert turned[0] == {} and {0: 20.0} in turned and {0: 10.0} in turned
    for pair in pairs:
        other = next(atom for atom in pair if atom != 0)
        assert pair == {0: 10.0, other: -10.0} and {other: -10.0} in turned
    assert len(turned) == len({tuple(sorted(one.items())) for one in turned})
    moments = np.asarray(next(c for c, t in zip(found, turned, strict=True) if len(t) == 2).structure.magmoms)
    first, second = moments[list(pairs[0])]
    assert first @ second / 2.2**2 == pytest.approx(np.cos(np.deg2rad(20.0)))  # θ between them


def test_pairs_with_two_images_at_one_distance_are_left_out():
    large = turned_supercells(BCC_FE_CUBE, SupercellSettings(repeat=[2, 2, 2]))[0].structure
    shells = neighbour_shells(large, 0, 3.0, np.ones(16, dtype=bool))
    # the second neighbour at 2.87 Å is met on both sides of a cell of 5.74 Å
    assert [round(shell["distance"], 2) for shell in shells] == [2.49]


@pytest.mark.parametrize(
    ("structure", "options", "message"),
    [
        (BCC_FE_CUBE, {"sites": [99]}, "atoms 0 to 15"),
        (MN3PT, {"sites": [3]}, "has no moment"),
        (BCC_FE_CUBE, {"repeat": [0, 1, 1]}, "no volume"),
        (plain(bulk("Al")), {}, "known as magnetic"),
    ],
)
def test_mistakes_are_one_line(structure, options, message):
    with pytest.raises(UserError, match=message):
        turned_supercells(structure, SupercellSettings(**options))
