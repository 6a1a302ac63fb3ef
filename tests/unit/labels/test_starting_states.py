"""States to start from, on cells whose orders are known."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mmace.errors import UserError
from mmace_flows.labels.starting_states import in_state, state_names
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.base_cells import bain_structure


def candidate(atoms, magmoms=None):
    moments = np.zeros((len(atoms), 3)) if magmoms is None else magmoms
    structure = MagneticStructure.from_atoms(atoms, moments)
    return Candidate(structure=structure, operation="file", magnetic_state="NM")


def along_z(one):
    assert not np.any(np.asarray(one.structure.magmoms)[:, :2])
    return np.asarray(one.structure.magmoms)[:, 2].tolist()


def test_the_bain_cells_have_the_patterns_of_the_feni_campaign():
    for state in ("NM", "FM", "AFM"):
        expected = bain_structure(11.4, 1.2, state)
        start = bain_structure(11.4, 1.2, "FM")
        made = in_state(Candidate(structure=start, operation="file", magnetic_state="FM"), state)
        assert made.structure == expected and made.magnetic_state == state


def test_lengths_come_from_the_structure_else_by_element():
    atoms = Atoms("FeO", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[3, 3, 3], pbc=True)
    assert along_z(in_state(candidate(atoms), "FM")) == [2.2, 0.0]
    assert along_z(in_state(candidate(atoms, np.array([[0, 3.0, 0], [0, 0, 0.2]])), "FM")) == [3.0, 0.2]


def test_layers_are_found_along_the_direction_that_has_them():
    bcc = bulk("Fe", a=2.87, cubic=True)
    bcc.positions += [0.0, 0.0, -0.01]  # an atom just below the bottom belongs to it
    assert along_z(in_state(candidate(bcc), "AFM")) == [2.2, -2.2]
    # three layers along c cannot alternate, two along a can
    atoms = Atoms("Fe2", scaled_positions=[[0, 0, 0], [0.5, 0, 0]], cell=[5.0, 2.5, 2.5], pbc=True)
    assert sorted(along_z(in_state(candidate(atoms.repeat((1, 1, 3))), "AFM"))) == [-2.2] * 3 + [2.2] * 3


def test_a_cell_without_layers_is_refused():
    with pytest.raises(UserError, match="no alternating layers"):
        in_state(candidate(bulk("Fe", a=2.87)), "AFM")
    with pytest.raises(UserError, match="no atom of Al is known as magnetic"):
        in_state(candidate(bulk("Al", a=4.05)), "FM")
    assert not np.any(in_state(candidate(bulk("Al", a=4.05)), "NM").structure.magmoms)


def test_names_of_states():
    assert state_names(["fm", "AFM", "fm"]) == ["FM", "AFM"]
    with pytest.raises(UserError, match=r"--state fim: .*known: nm, fm, afm"):
        state_names(["fim"])
