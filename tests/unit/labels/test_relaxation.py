"""Relaxations whose every step is a label: they converge, resume and survive a failure."""

import numpy as np
import pytest
from analytic_engine import AnalyticEngine

from mmace_flows.labels.relaxation import RelaxSettings, relax, spread_frames
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.base_cells import bain_candidates
from mmace_flows.structures.distort import DistortSettings, distort

START = distort(
    bain_candidates([1.2], ["AFM"])[0].structure, 1, DistortSettings(volume_scale=(1.0, 1.0), displacement=0.15)
)
SETTINGS = RelaxSettings(force_max=0.01, max_steps=60, frames=5)


def test_it_relaxes_at_fixed_cell_and_keeps_a_spread_of_frames(engine, labels, tmp_path):
    relaxation = relax(START, engine, SETTINGS, labels, tmp_path, "feni")
    assert relaxation.converged and relaxation.error is None
    assert len(relaxation.frames) == 5 and labels.count() == relaxation.steps == relaxation.computed
    first, last = relaxation.frames[0], relaxation.frames[-1]
    assert first.structure.hash() == START.structure.hash()
    assert np.abs(last.forces).max() < 0.01 < np.abs(first.forces).max()
    assert last.free_energy < first.free_energy
    for frame in relaxation.frames:
        assert frame.structure.cell == START.structure.cell
        assert frame.structure.magmoms == START.structure.magmoms
        assert frame.candidate.operation == "relax" and frame.candidate.parent == START.structure.hash()
    assert first.candidate.details["step"] == 0


def test_the_cell_relaxes_only_if_asked(engine, labels, tmp_path):
    settings = SETTINGS.model_copy(update={"relax_cell": True, "max_steps": 100})
    relaxation = relax(START, engine, settings, labels, tmp_path)
    assert relaxation.converged
    last = relaxation.frames[-1]
    volume = last.structure.to_atoms().get_volume()
    assert np.abs(last.stress).max() * volume < 0.011 < np.abs(relaxation.frames[0].stress).max() * volume


def test_a_killed_relaxation_goes_on_without_computing_a_step_twice(labels, tmp_path):
    class Killed(AnalyticEngine):
        def run(self, *arguments, **options):
            if len(self.computed) == 4:
                raise KeyboardInterrupt
            return super().run(*arguments, **options)

    with pytest.raises(KeyboardInterrupt):
        relax(START, Killed(), SETTINGS, labels, tmp_path)
    assert labels.count() == 4
    engine = AnalyticEngine()
    told = []
    resumed = relax(START, engine, SETTINGS, labels, tmp_path, on_label=lambda label, computed: told.append(computed))
    assert told[:4] == [False] * 4 and all(told[4:])
    assert resumed.computed == len(engine.computed) == resumed.steps - 4
    labels.remove_docs({})
    unbroken = relax(START, AnalyticEngine(), SETTINGS, labels, tmp_path)
    assert [f.label_key for f in unbroken.frames] == [f.label_key for f in resumed.frames]
    assert [f.free_energy for f in unbroken.frames] == [f.free_energy for f in resumed.frames]


def test_a_step_that_fails_ends_it_and_the_frames_before_remain(labels, tmp_path):
    relaxation = relax(START, AnalyticEngine(fail_after=3), SETTINGS, labels, tmp_path)
    assert relaxation.error == "SCF not converged" and not relaxation.converged
    assert len(relaxation.frames) == 3 and all(frame.status == "converged" for frame in relaxation.frames)
    assert labels.count() == 4  # the failed one is kept, set aside


def test_it_stops_at_its_number_of_steps(engine, labels, tmp_path):
    relaxation = relax(START, engine, RelaxSettings(force_max=1e-6, max_steps=3), labels, tmp_path)
    assert len(engine.computed) == relaxation.steps == 3 and not relaxation.converged
    one = relax(START, AnalyticEngine(), RelaxSettings(force_max=1e-6, max_steps=1), labels, tmp_path)
    assert one.steps == 1


def test_frames_are_spread_with_both_ends():
    assert [spread_frames(list(range(11)), 3)] == [[0, 5, 10]]
    assert spread_frames([1, 2], 5) == [1, 2]
    assert spread_frames([], 5) == []


def test_nothing_but_the_geometry_is_taken_from_a_step(engine, labels, tmp_path):
    relax(START, engine, RelaxSettings(max_steps=2), labels, tmp_path)
    assert all(isinstance(s, MagneticStructure) and s.magmoms == START.structure.magmoms for s in engine.computed)
