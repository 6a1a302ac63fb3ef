"""Non-collinear GPAW: what is refused, what GPAW is told, and that older labels keep their keys."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmace.errors import UserError
from mmace_flows.labels.gpaw_engine import GPAWEngine, noncollinear
from mmace_flows.labels.gpaw_noncollinear import arguments, direction_forces, held_directions, largest_angle_off
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.document import content_hash
from mmace_flows.schemas.structure import MagneticStructure

LDA = GPAWSettings(xc="LDA", kpoints=(2, 2, 2), direction_penalty=10.0, bands=12)


def pair(moments) -> MagneticStructure:
    atoms = Atoms("Fe2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.6, 2.6, 2.9], pbc=True)
    return MagneticStructure.from_atoms(atoms, np.array(moments, dtype=float))


CANTED = pair([[0, 0, 2.3], [2.0, 0, 1.0]])


def test_pbe_with_moments_off_one_axis_is_one_line_with_the_mend():
    with pytest.raises(UserError, match="which GPAW does in LDA only; set xc: LDA, use --engine espresso") as error:
        GPAWEngine(GPAWSettings(kpoints=(2, 2, 2))).check(CANTED)
    assert "\n" not in str(error.value)
    GPAWEngine(GPAWSettings(kpoints=(2, 2, 2), xc="LDA")).check(CANTED)
    with pytest.raises(UserError, match="fix_total_magmom is for collinear"):
        GPAWEngine(GPAWSettings(kpoints=(2, 2, 2), xc="LDA", fix_total_magmom=True)).check(CANTED)


def test_what_is_a_non_collinear_calculation():
    along_x = pair([[2, 0, 0], [-2, 0, 0]])
    free = GPAWSettings(xc="LDA", kpoints=(2, 2, 2))
    assert noncollinear(CANTED, free) and not noncollinear(along_x, free)
    assert noncollinear(along_x, LDA) and not noncollinear(pair(np.zeros((2, 3))), LDA)


@pytest.mark.parametrize("changes", [{"xc": "PBE"}, {"fix_total_magmom": True}])
def test_a_penalty_needs_lda_and_free_lengths(changes):
    with pytest.raises(ValidationError, match="direction_penalty"):
        GPAWSettings(**{"xc": "LDA", "kpoints": (2, 2, 2), "direction_penalty": 10.0, **changes})


def test_gpaw_is_told_vectors_directions_and_twice_the_bands():
    told = arguments(CANTED, LDA, held_directions(np.array(CANTED.magmoms)))
    assert told["magmoms"].tolist() == CANTED.magmoms and told["symmetry"] == "off" and told["nbands"] == 24
    (extension,) = told["extensions"]
    assert extension["name"] == "spin_direction_constraint" and extension["penalty"] == 10.0
    np.testing.assert_allclose(extension["constraint"][1], np.array([2, 0, 1]) / np.sqrt(5))
    assert "extensions" not in arguments(CANTED, LDA, {})
    assert list(held_directions(np.array([[0, 0, 0.05], [1.0, 0, 0]]))) == [1]  # atoms without a moment are free


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.floats(0.1, 20))
def test_magnetic_forces_are_the_slope_of_the_penalty(parts, penalty):
    direction = np.array([1.0, 2.0, -2.0]) / 3.0
    moment = np.array(parts)

    def energy(m: np.ndarray) -> float:
        return float(penalty * (m @ m - (m @ direction) ** 2))

    forces = direction_forces(moment[None], {0: direction}, penalty)[0]
    step = 1e-4  # the penalty is a parabola, so that central differences are exact
    slopes = [(energy(moment + step * axis) - energy(moment - step * axis)) / (2 * step) for axis in np.eye(3)]
    np.testing.assert_allclose(forces, slopes, atol=1e-6 * (1 + penalty))
    assert abs(forces @ direction) < 1e-9 * (1 + penalty)  # lengths are not held


def test_the_angle_off_is_told():
    targets = {0: np.array([0, 0, 1.0])}
    assert largest_angle_off(np.array([[1.0, 0, 1.0]]), targets) == pytest.approx(45.0)


def test_keys_of_labels_made_before_this_setting_stay():
    """A label's key is a hash of its settings."""
    dumped = GPAWSettings.small().model_dump(mode="json")
    assert "direction_penalty" not in dumped
    assert content_hash(dumped) == "1cc68f3552ed8fe0b5ba301fca75aeb9"
    assert GPAWSettings.model_validate(dumped) == GPAWSettings.small()
    assert LDA.model_dump(mode="json")["direction_penalty"] == 10.0
