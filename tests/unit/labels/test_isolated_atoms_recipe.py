"""The recipe of isolated atoms: presets that build, what they cost, and what is told of their labels."""

from __future__ import annotations

import pytest
from analytic_engine import AnalyticEngine

from mmace_flows.labels.atom_curves import ground_state_lines
from mmace_flows.labels.labelling import find_or_compute
from workflows import isolated_atoms as recipe


@pytest.mark.parametrize("preset", ["small", "paper", "tiny"])
def test_presets_build_a_label_per_element_and_moment_and_the_fits(preset):
    settings = recipe.PRESETS[preset]
    flow = recipe.build(settings, "study")
    names = [job.name for job in flow.jobs]
    assert names[-1] == "fit: spline and chebyshev" and len(set(names)) == len(names)
    assert names[0] == f"atom: atom isolated atom NM {settings.elements[0]} 0 μB"
    assert recipe.estimate(settings).stages[0].jobs == len(names) - 1


def test_the_lowest_moment_is_told(labels, tmp_path):
    class Atom(AnalyticEngine):
        def run(self, structure, folder, name="run", start_attempt=0):
            moment = structure.magmoms[0][2]
            self.fail_after = 0 if moment == 1.0 else 10**9
            result = super().run(structure, folder, name, start_attempt)
            result.free_energy, result.total_magmom = -((moment - 3.0) ** 2) * -0.1, moment
            if not result.converged:
                result.free_energy = None
            return result

    candidates = [one for one in recipe.candidates(recipe.PRESETS["tiny"])]
    documents = [find_or_compute(one, Atom(), labels, tmp_path)[0] for one in candidates]
    (line,) = ground_state_lines(documents)
    # 0.1 eV/μB² · (3 μB)²
    assert line == "Fe: lowest at 3 μB, 0.900 eV below no moment; 1 moments did not converge"
