"""Grids of k-points by spacing: fine enough, symmetric in any basis, and known to the keys of results."""

import numpy as np
import pytest
import spglib
from ase.geometry import cellpar_to_cell
from hypothesis import given, settings
from hypothesis import strategies as st

from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.document import content_hash
from mmace_flows.schemas.kpoints import grid_in_key, kpoint_grid
from mmace_flows.schemas.label import label_key
from mmace_flows.schemas.structure import MagneticStructure

LATTICES = {
    "cubic": np.eye(3) * 2.9,
    "fcc": np.array([[0.0, 1.8, 1.8], [1.8, 0.0, 1.8], [1.8, 1.8, 0.0]]),
    "bcc": np.array([[-1.4, 1.4, 1.4], [1.4, -1.4, 1.4], [1.4, 1.4, -1.4]]),
    "hexagonal": cellpar_to_cell([2.5, 2.5, 4.1, 90, 90, 120]),
    "body-centred tetragonal": np.array([[-1.4, 1.4, 2.1], [1.4, -1.4, 2.1], [1.4, 1.4, -2.1]]),
    "rhombohedral": cellpar_to_cell([3.1, 3.1, 3.1, 50, 50, 50]),
}


@st.composite
def bases(draw):
    """One of the lattices in a random basis: rows are integer combinations with determinant 1."""
    lattice = LATTICES[draw(st.sampled_from(sorted(LATTICES)))]
    for _ in range(draw(st.integers(0, 2))):
        i, j = draw(st.permutations(range(3)))[:2]
        step = np.eye(3)
        step[i, j] = draw(st.sampled_from([-1.0, 1.0]))
        lattice = step @ lattice
    return lattice


def points(grid):
    """All k-points of a grid with Γ, fractional, in units of 1/(their common multiple)."""
    multiple = np.lcm.reduce(grid)
    steps = multiple // np.array(grid)
    indices = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 3)
    return multiple, {tuple(one) for one in (indices * steps % multiple).tolist()}


@settings(max_examples=60, deadline=None)
@given(bases(), st.floats(0.06, 0.25))
def test_every_symmetry_of_the_lattice_maps_the_grid_onto_itself(lattice, spacing):
    grid = kpoint_grid(lattice, spacing)
    lengths = np.linalg.norm(np.linalg.inv(lattice).T, axis=1)
    assert np.all(lengths / grid <= spacing * (1 + 1e-6))
    assert max(grid) == max(1, int(np.ceil(lengths.max() / spacing - 1e-9)))  # no finer than its finest direction
    multiple, there = points(grid)
    found = spglib.get_symmetry((lattice.tolist(), [[0.0, 0.0, 0.0]], [1]), symprec=1e-4)
    for rotation in found["rotations"]:
        assert {tuple(one) for one in (np.array(sorted(there)) @ rotation % multiple).tolist()} == there


def test_a_skewed_cell_of_a_cubic_crystal():
    # with 4 × 4 × 5 points a cubic FePt had 1.6 meV per atom between directions that symmetry makes alike
    skewed = np.array([[0.0, -2.066, 2.922], [-3.579, 0.0, 0.0], [-1.789, -1.033, -2.922]])
    assert kpoint_grid(skewed, 0.09) == (5, 5, 5)
    assert kpoint_grid(np.diag([2.7, 2.7, 3.7]), 0.09) == (5, 5, 4)  # symmetry joins nothing more


def test_keys_know_of_a_grid_that_symmetry_changed_and_of_no_other():
    skewed = np.array([[0.0, -2.066, 2.922], [-3.579, 0.0, 0.0], [-1.789, -1.033, -2.922]])
    by_spacing = GPAWSettings(kpoint_spacing=0.09).model_dump(mode="json")
    assert grid_in_key(skewed, by_spacing) == [[5, 5, 5]]
    assert grid_in_key(np.diag([2.7, 2.7, 3.7]), by_spacing) == []
    assert grid_in_key(skewed, GPAWSettings(kpoints=(4, 4, 5)).model_dump(mode="json")) == []
    assert grid_in_key(np.zeros((3, 3)), by_spacing) == []  # no cell: an engine says so
    iron = MagneticStructure(symbols=["Fe"], positions=[[0, 0, 0]], cell=skewed.tolist(), magmoms=[[0, 0, 2.2]])
    other = iron.model_copy(update={"cell": np.diag([2.7, 2.7, 3.7]).tolist()})
    assert label_key(iron, "gpaw", by_spacing) != content_hash([1, iron.hash(), "gpaw", by_spacing])
    # the keys of results that this did not touch stay what they were
    assert label_key(other, "gpaw", by_spacing) == content_hash([1, other.hash(), "gpaw", by_spacing])


@pytest.mark.parametrize("number", [0.0, None, -1.0])
def test_settings_without_a_spacing_say_nothing(number):
    assert grid_in_key(np.eye(3), {"kpoint_spacing": number}) == []
