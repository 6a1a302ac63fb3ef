"""The anisotropy recipe: presets that build, what they cost, settings that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from workflows import anisotropy as recipe


@pytest.mark.parametrize("preset", ["small", "paper", "tiny"])
def test_presets_build_one_run_per_crystal_and_their_analysis(preset):
    settings = recipe.PRESETS[preset]
    flow = recipe.build(settings, "study")
    assert [job.name for job in flow.jobs][:1] == [
        f"soc: FePt train crystal FM FePt {recipe.candidates(settings)['FePt'].structure.hash()[:6]}"
    ]
    assert flow.jobs[-1].name == f"anisotropy: {', '.join(settings.crystals)}"
    assert recipe.estimate(settings).stages[0].jobs == len(settings.crystals) == len(flow.jobs) - 1


def test_crystals_and_their_states():
    found = recipe.candidates(recipe.PRESETS["small"])
    assert {name: one.magnetic_state for name, one in found.items()} == {"FePt": "FM", "FeMn": "AFM"}
    assert found["FePt"].structure.symbols == ["Fe", "Pt"]
    np.testing.assert_allclose(np.diag(found["FeMn"].structure.cell), [2.55, 2.55, 3.55])


def test_an_unknown_set_of_directions_is_refused():
    with pytest.raises(ValidationError, match="there are 26 and 38 points"):
        recipe.spin_orbit(400.0, (8, 8, 6), 0.05, "lebedev:27")
