"""Equations of state of labels from a known form, and the recipe that compares two engines."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_engine import AnalyticEngine
from ase.eos import birchmurnaghan

from mmace.errors import UserError
from mmace_flows.labels.equation_of_state import GPA, agreement_line, equation_of_state, equations_figure, result_line
from mmace_flows.labels.labelling import find_or_compute
from workflows import fe_cross_check as recipe


class KnownEngine(AnalyticEngine):
    """Birch and Murnaghan's form with B 180 GPa about 11.5 Å³, and a moment that grows with the volume."""

    volume = 11.5

    def run(self, structure, folder, name="run", start_attempt=0):
        result = super().run(structure, folder, name, start_attempt)
        volume = abs(np.linalg.det(structure.cell))
        result.free_energy = float(birchmurnaghan(volume, -8.0, 180.0 / GPA, 4.5, self.volume))
        result.total_magmom = 2.2 + 0.1 * (volume - self.volume)
        return result


def labels_of(engine, labels, folder):
    return [find_or_compute(one, engine, labels, folder)[0] for one in recipe.candidates(recipe.PRESETS["small"])]


def test_a_known_form_is_found_again(labels, tmp_path):
    found = equation_of_state(labels_of(KnownEngine(), labels, tmp_path))
    assert found.volume == pytest.approx(11.5, abs=1e-4) and found.bulk_modulus == pytest.approx(180.0, abs=0.1)
    assert found.energy == pytest.approx(-8.0, abs=1e-6) and found.rms < 1e-8
    assert found.moment == pytest.approx(2.2, abs=1e-4)
    assert found.lattice_constant(2) == pytest.approx(23.0 ** (1 / 3), abs=1e-4)
    other = found.model_copy(update={"engine": "espresso", "volume": 11.6, "bulk_modulus": 185.0, "moment": 2.15})
    assert agreement_line(found, other) == (
        "espresso against analytic: a +8.2 mÅ (+0.29 %), bulk modulus +5 GPa, moment -0.050 μB"
    )
    assert result_line(found).startswith("analytic: a 2.8439 Å, bulk modulus 180 GPa, moment 2.200 μB")
    assert len(equations_figure({"one": found, "other": other}).axes) == 2


def test_what_has_no_minimum_or_too_few_points_is_refused(labels, tmp_path):
    documents = labels_of(KnownEngine(), labels, tmp_path)
    with pytest.raises(UserError, match="4 labels of 4 converged"):
        equation_of_state(documents[:4])
    far = KnownEngine(epsilon=0.2)
    far.volume = 15.0
    with pytest.raises(UserError, match=r"minimum"):
        equation_of_state(labels_of(far, labels, tmp_path))


@pytest.mark.parametrize("preset", ["small", "paper", "tiny"])
def test_presets_build_a_label_per_engine_and_volume(preset):
    settings = recipe.PRESETS[preset]
    flow = recipe.build(settings, "study")
    assert flow.jobs[-1].name == "compare: GPAW, Quantum ESPRESSO"
    assert len(flow.jobs) == 2 * len(settings.lattice_constants) + 1
    assert settings.gpaw.kpoints == settings.espresso.kpoints
    assert recipe.estimate(settings).stages[0].jobs == len(settings.lattice_constants)
