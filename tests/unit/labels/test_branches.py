"""Branches of one geometry: which label is kept, and the flow that labels and keeps."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_engine import AnalyticEngine
from ase.build import bulk
from jobflow import JobStore, run_locally
from jobflow.utils.log import initialize_logger
from maggma.stores import MemoryStore

from mmace_flows.labels.branches import BranchesMaker, branch_line, branch_rows, lowest_of_each
from mmace_flows.labels.labelling import find_or_compute
from mmace_flows.labels.starting_states import in_state
from mmace_flows.schemas.structure import Candidate, MagneticStructure


class MagneticEngine(AnalyticEngine):
    """The analytic engine with −0.1 eV per μB of |Σm|: ferromagnets lie lowest, by the moment they start from."""

    def run(self, structure, folder, name="run", start_attempt=0):
        result = super().run(structure, folder, name, start_attempt)
        if result.converged:
            result.free_energy -= 0.1 * float(np.linalg.norm(np.sum(structure.magmoms, axis=0)))
        return result


def iron(a: float = 2.8) -> Candidate:
    atoms = bulk("Fe", a=a, cubic=True)
    atoms.set_initial_magnetic_moments(None)
    return Candidate(structure=MagneticStructure.from_atoms(atoms, [0.0, 0.0]), operation="file", magnetic_state="NM")


def test_the_lowest_of_each_geometry_is_kept(labels, tmp_path):
    engine = MagneticEngine()
    starts = [in_state(iron(a), state) for a in (2.8, 2.9) for state in ("NM", "AFM", "FM")]
    documents = [find_or_compute(one, engine, labels, tmp_path)[0] for one in starts]
    assert len({one.structure.parent_hash() for one in documents}) == 2
    kept = lowest_of_each(documents)
    assert [one.magnetic_state_reached for one in kept] == ["FM", "FM"]
    assert [one.structure.parent_hash() for one in kept] == [
        starts[0].structure.parent_hash(),
        starts[3].structure.parent_hash(),
    ]
    failed = [
        one.model_copy(update={"free_energy": None, "magmoms": None, "status": "failed"}) for one in documents[:3]
    ]
    assert lowest_of_each(failed) == []
    rows = branch_rows([*documents[:2], failed[2]])
    assert [row["energy_above_lowest"] for row in rows][:2] == pytest.approx([0.0, 0.0]) and rows[2]["lengths"] is None
    assert branch_line(rows[2]).startswith("started FM: set aside")


def test_the_flow_keeps_the_lowest_and_tells_the_others(labels, job_stores, monkeypatch):
    monkeypatch.setattr("mmace_flows.labels.gpaw_engine.GPAWEngine", lambda settings: MagneticEngine())
    long = [[0.0, 0.0, 5.67], [0.0, 0.0, 5.67]]  # the moments that a model had found
    flow = BranchesMaker(states=("NM", "AFM")).make(iron(), "study", starts=[long])
    initialize_logger(level=50)
    store = JobStore(MemoryStore())
    store.connect()
    responses = run_locally(flow, store=store, ensure_success=True, log=False)
    output = responses[flow.jobs[-1].uuid][1].output
    assert output["magnetic_state"] == "FM" and len(output["branches"]) == 3
    # −0.1 eV/μB · 11.34 μB over two atoms
    assert output["branches"][-1]["energy_above_lowest"] == pytest.approx(0.567)
    lines = [message for _, stage, message, _ in job_stores.events if stage == "lowest"]
    assert lines[0].startswith("started FM, reached FM: 0.0 meV/atom") and len(lines) == 3
    assert labels.count() == 3
