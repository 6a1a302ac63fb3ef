"""Crystals from the Materials Project: what is asked, what comes back, what goes wrong. The service is not reached."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from mmace.errors import UserError
from mmace_flows.structures.materials_project import KEYS, fetch_candidates


def test_structure_with_first_moments():
    cell = Structure(Lattice.tetragonal(2.7, 3.7), ["Fe", "Pt"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    asked = []

    def get(one):
        asked.append(one)
        return cell

    (found,) = fetch_candidates(["mp-2260"], get)
    assert asked == ["mp-2260"]
    assert found.magnetic_state == "FM"
    assert found.details == {"material_id": "mp-2260"}
    np.testing.assert_allclose(found.structure.positions, cell.cart_coords)
    moments = np.array(found.structure.magmoms)
    assert moments[0, 2] > 1.0 and np.all(moments[:, :2] == 0.0)


def test_one_client_for_all_ids(monkeypatch):
    made = []

    class Client:
        def __init__(self, key):
            made.append(key)
            if key == "wrong":
                raise ValueError("no such\nkey")

        def get_structure_by_material_id(self, one):
            return Structure(Lattice.cubic(2.8), ["Fe"], [[0, 0, 0]])

    monkeypatch.setattr("pymatgen.ext.matproj.MPRester", Client)
    monkeypatch.setenv(KEYS[0], "a key")
    found = fetch_candidates(["mp-13", "mp-14"])
    assert [one.details["material_id"] for one in found] == ["mp-13", "mp-14"] and made == ["a key"]
    monkeypatch.setenv(KEYS[0], "wrong")
    with pytest.raises(UserError, match="mp-13: ValueError: no such key; check the id, the key"):
        fetch_candidates(["mp-13"])


def test_no_key(monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="MP_API_KEY"):
        fetch_candidates(["mp-2260"])


@pytest.mark.parametrize("wrong", ["2260", "mp-", "mp-1; drop", "MP-2", "mp-1234567890"])
def test_no_id(wrong):
    with pytest.raises(UserError, match="mp-2260"):
        fetch_candidates([wrong], lambda one: None)


def test_what_the_service_says_is_one_line():
    def get(one):
        raise OSError("no route\nto host")

    with pytest.raises(UserError, match="mp-1: OSError: no route to host; check"):
        fetch_candidates(["mp-1"], get)
