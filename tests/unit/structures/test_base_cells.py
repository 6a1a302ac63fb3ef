"""The layered cells of the Bain path."""

import numpy as np
import pytest

from mmace.errors import UserError
from mmace_flows.structures.base_cells import (
    BASE_RATIOS,
    FCC_RATIO,
    bain_candidates,
    bain_structure,
    base_candidates,
    tetragonal_ratio,
    volume_per_atom,
)
from mmace_flows.structures.moments import magnetic_state


def shells(structure, count):
    """The ``count`` shortest distances from the first atom, Å."""
    atoms = structure.to_atoms().repeat((3, 3, 2))
    middle = int(np.argmin(np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)))
    return np.sort(atoms.get_all_distances(mic=True)[middle])[1 : count + 1]


@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.25, FCC_RATIO, 1.6])
def test_volume_and_ratio_are_those_asked_for(ratio):
    structure = bain_structure(11.4, ratio, "FM")
    assert volume_per_atom(structure) == pytest.approx(11.4)
    assert tetragonal_ratio(structure.cell) == pytest.approx(ratio)
    assert structure.symbols == ["Fe", "Ni", "Fe", "Ni"]


def test_ratio_one_is_bcc_and_root_two_is_fcc():
    bcc = shells(bain_structure(11.4, 1.0, "NM"), 14)
    side = (2 * 11.4) ** (1 / 3)
    assert bcc[:8] == pytest.approx(np.full(8, side * np.sqrt(3) / 2))
    assert bcc[8:] == pytest.approx(np.full(6, side))
    fcc = shells(bain_structure(11.4, FCC_RATIO, "NM"), 12)
    assert fcc == pytest.approx(np.full(12, (4 * 11.4) ** (1 / 3) / np.sqrt(2)))


def test_nearest_neighbours_along_c_are_of_the_other_element():
    atoms = bain_structure(11.4, 1.0, "NM").to_atoms()
    distances = atoms.get_all_distances(mic=True)
    assert distances[0, 2] > distances[0, 1] and distances[0, 1] == pytest.approx(distances[0, 3])


def test_sheared_and_rotated_cells_keep_their_ratio():
    cell = np.asarray(bain_structure(11.4, 1.2, "FM").cell)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert tetragonal_ratio(cell @ rotation) == pytest.approx(1.2)
    sheared = cell.copy()
    sheared[2] += 0.2 * cell[0]
    assert tetragonal_ratio(sheared) == pytest.approx(1.2)


def test_states_start_from_their_patterns():
    for state in ("NM", "FM", "AFM"):
        structure = bain_structure(11.4, 1.0, state)
        assert magnetic_state(structure.magmoms) == state
        assert np.shape(structure.magmoms) == (4, 3)
    assert np.asarray(bain_structure(11.4, 1.0, "AFM").magmoms)[:, 2] == pytest.approx([2.2, 0.6, -2.2, -0.6])


@pytest.mark.parametrize(("volume", "ratio"), [(0.0, 1.0), (-3.0, 1.0), (11.4, 0.0), (float("nan"), 1.0)])
def test_impossible_numbers_are_named(volume, ratio):
    with pytest.raises(UserError, match="positive number"):
        bain_structure(volume, ratio, "FM")


def test_states_and_bases_that_do_not_exist_are_named():
    with pytest.raises(UserError, match="no pattern"):
        bain_structure(11.4, 1.0, "FiM")
    with pytest.raises(UserError, match=r"known: fcc, bcc, bct1\.6"):
        base_candidates(bases=["hcp"])


def test_candidates_carry_group_and_ratio():
    bain = bain_candidates([1.0, 1.2], ["NM", "AFM"])
    assert [(c.details["c_over_a"], c.magnetic_state, c.group) for c in bain] == [
        (1.0, "NM", "bain"),
        (1.0, "AFM", "bain"),
        (1.2, "NM", "bain"),
        (1.2, "AFM", "bain"),
    ]
    assert {c.details["base"]: c.details["c_over_a"] for c in base_candidates()} == BASE_RATIOS
