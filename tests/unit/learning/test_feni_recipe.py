"""The FeNi recipe: its presets, its flow and its estimate."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from jobflow import Flow
from monty.json import jsanitize
from pydantic import ValidationError

from mmace.errors import UserError
from mmace_flows.learning.dataset import geometry_hash
from mmace_flows.structures.base_cells import bain_candidates

PATH = Path(__file__).parents[3] / "workflows" / "feni.py"


@pytest.fixture(scope="module")
def feni() -> ModuleType:
    spec = importlib.util.spec_from_file_location("feni_recipe", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stages(flow: Flow) -> dict[str, int]:
    counts: dict[str, int] = {}
    for job, _ in flow.iterflow():
        stage = job.name.partition(":")[0]
        counts[stage] = counts.get(stage, 0) + 1
    return counts


@pytest.mark.parametrize("preset", ["small", "paper", "tiny"])
def test_the_estimate_counts_the_jobs_of_the_flow(feni: ModuleType, preset: str) -> None:
    settings = feni.PRESETS[preset]
    estimate = {stage.stage: stage.jobs for stage in feni.estimate(settings).stages}
    made = stages(feni.build(settings, "test"))
    assert set(made) <= set(estimate)
    assert made["reference"] == estimate["reference"] == len(settings.bain_ratios) * len(settings.states)
    assert made["relax"] == estimate["relax"]
    fresh = (settings.sampling.rattled + settings.sampling.path_points) * (settings.stop_rule.max_iterations - 1)
    assert made["label"] + fresh == estimate["label"]
    assert settings.stop_rule.min_iterations >= 2


def test_the_paper_preset_is_the_papers(feni: ModuleType) -> None:
    settings = feni.PRESETS["paper"]
    assert (settings.dft.cutoff, settings.dft.kpoint_spacing, settings.dft.xc) == (600.0, 0.03, "PBE")
    assert settings.relax.force_max == 1e-4 and not settings.relax.relax_cell
    assert settings.distort.volume_scale == (0.6, 1.4) and settings.distort.displacement == 0.05
    assert settings.sampling.metropolis.temperature == 2000.0
    assert settings.potential["hidden"] == "128x0e+128x1o" and settings.potential["num_layers"] == 2
    assert settings.fine_tuning == {"learning_rate": 0.0005, "clip": 10.0}
    relaxed = sum(len(states) for states in settings.relaxations.values()) * settings.relax.frames
    labels = len(feni.distorted(settings)) + relaxed + settings.sampling.rattled + settings.sampling.path_points
    assert labels == 244


@pytest.mark.parametrize("preset", ["small", "paper", "tiny"])
def test_no_candidate_has_the_atoms_of_a_bain_point(feni: ModuleType, preset: str) -> None:
    settings = feni.PRESETS[preset]
    bain = {
        geometry_hash(candidate.structure)
        for candidate in bain_candidates(settings.bain_ratios, settings.states, settings.volume)
    }
    initial = [*feni.distorted(settings), *feni.relax_starts(settings)]
    hashes = [candidate.structure.hash() for candidate in initial]
    assert len(set(hashes)) == len(hashes)
    assert not {geometry_hash(candidate.structure) for candidate in initial} & bain
    assert all(candidate.group == "train" for candidate in initial)


def test_the_small_preset_starts_in_every_state(feni: ModuleType) -> None:
    candidates = feni.distorted(feni.PRESETS["small"])
    assert {candidate.details["pattern"] for candidate in candidates} == {"NM", "FM", "AFM"}
    assert {candidate.details["base"] for candidate in candidates} == {"fcc", "bcc", "bct1.6"}


def test_the_flow_survives_the_queue(feni: ModuleType) -> None:
    flow = feni.build(feni.PRESETS["tiny"], "test")
    again = Flow.from_dict(json.loads(json.dumps(jsanitize(flow.as_dict()))))
    assert stages(again) == stages(flow)


def test_wrong_settings_are_refused(feni: ModuleType) -> None:
    values = feni.PRESETS["small"].model_dump()
    with pytest.raises(ValidationError, match="volum"):
        feni.FeNiSettings(**values, volum=3.0)
    with pytest.raises(UserError, match="did you mean 'hidden'"):
        feni.FeNiSettings(**{**values, "potential": {**values["potential"], "hiden": "8x0e"}})
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        feni.FeNiSettings(**{**values, "training": {"epoch": 3}})


def test_every_setting_is_described(feni: ModuleType) -> None:
    for name, field in feni.FeNiSettings.model_fields.items():
        assert field.description, name
