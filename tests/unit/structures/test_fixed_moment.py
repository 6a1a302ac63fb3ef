"""Moments with a given total, and the structures that DFT holds them in."""

from __future__ import annotations

import numpy as np
import pytest

from mmace.errors import UserError
from mmace_flows.structures.base_cells import base_candidates
from mmace_flows.structures.distort import DistortSettings
from mmace_flows.structures.fixed_moment import fixed_moment_candidates, with_total_moment
from mmace_flows.structures.moments import pattern_moments


def test_a_ferromagnet_is_scaled():
    assert with_total_moment(pattern_moments("FM", 4), 2.8)[:, 2] == pytest.approx([1.1, 0.3, 1.1, 0.3])


def test_in_an_antiferromagnet_one_sublattice_grows_as_the_other_shrinks():
    assert with_total_moment(pattern_moments("AFM", 4), 1.4)[:, 2] == pytest.approx([2.75, 0.75, -1.65, -0.45])


def test_the_axis_is_kept():
    axis = np.array([0.6, 0.0, 0.8])
    moments = with_total_moment(np.outer([2.0, 1.0], axis), 6.0)
    assert moments == pytest.approx(np.outer([4.0, 2.0], axis))


@pytest.mark.parametrize("moments", [np.zeros((2, 3)), [[1.0, 0, 0], [0, 1.0, 0]]])
def test_what_has_no_axis_is_refused(moments):
    with pytest.raises(UserError, match="along one axis"):
        with_total_moment(moments, 1.0)


def test_candidates_have_the_totals_asked_for_and_other_atoms_each():
    parents = base_candidates(11.4)[:2]
    made = fixed_moment_candidates(parents, {"FM": [0.5, 1.5], "AFM": [0.25]}, 3, DistortSettings(volume_scale=(1, 1)))
    totals = [np.sum(candidate.structure.magmoms, axis=0)[2] for candidate in made]
    assert totals == pytest.approx([2.8, 8.4, 1.4] * 2)
    assert [candidate.details["total_magmom"] for candidate in made] == pytest.approx(totals)
    assert [candidate.magnetic_state for candidate in made] == ["FM", "FM", "FiM"] * 2
    assert len({str(candidate.structure.positions) for candidate in made}) == len(made)
    assert made == fixed_moment_candidates(
        parents, {"FM": [0.5, 1.5], "AFM": [0.25]}, 3, DistortSettings(volume_scale=(1, 1))
    )
