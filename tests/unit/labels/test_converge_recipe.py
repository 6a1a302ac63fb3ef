"""The convergence recipe: presets that build, and what they cost."""

from __future__ import annotations

import pytest

from workflows import converge as recipe


@pytest.mark.parametrize("preset", ["small", "paper", "tiny"])
def test_presets_build_their_first_scan_and_estimate_all(preset):
    settings = recipe.PRESETS[preset]
    flow = recipe.build(settings, "study")
    structures = recipe.structures(settings)
    assert len(structures) == len(settings.states) * len(settings.bases) + 1
    assert flow.jobs[-1].name == "decide: cutoff"
    assert len(flow.jobs) == len(settings.study.cutoffs) * len(structures) + 1
    stages = {stage.stage: stage for stage in recipe.estimate(settings).stages}
    finest = stages[f"cutoff {settings.study.cutoffs[-1]:g} eV"]
    assert finest.jobs == len(structures)
    assert finest.core_seconds_per_job > stages[f"cutoff {settings.study.cutoffs[0]:g} eV"].core_seconds_per_job
