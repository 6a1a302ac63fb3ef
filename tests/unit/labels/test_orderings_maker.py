"""From crystals of a job to labels of their orderings, and the recipe that begins with a random search."""

from __future__ import annotations

import pytest
from analytic_engine import AnalyticEngine
from ase.build import bulk
from jobflow import JobStore, run_locally
from jobflow.utils.log import initialize_logger
from maggma.stores import MemoryStore

from mmace_flows.labels.orderings_maker import LabelOrderingsMaker
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.enumeration import EnumerateSettings
from workflows import random_search as recipe


def crystal(name: str, a: float, moment: float) -> Candidate:
    atoms = bulk(name, "bcc", a=a)
    atoms.set_initial_magnetic_moments(None)
    structure = MagneticStructure.from_atoms(atoms, [moment])
    return Candidate(structure=structure, operation="random", magnetic_state="FM" if moment else "NM")


def test_every_ordering_becomes_a_label_and_the_lowest_is_told(labels, job_stores, monkeypatch):
    monkeypatch.setattr("mmace_flows.labels.gpaw_engine.GPAWEngine", lambda settings: AnalyticEngine())
    maker = LabelOrderingsMaker(enumerate=EnumerateSettings(max_cells=2, engine="exact"), max_atoms=2)
    crystals = [crystal("Fe", 2.8, 2.2), crystal("Al", 3.2, 0.0), crystal("Mn", 2.8, 3.0)]
    job = maker.make({"candidates": [one.model_dump(mode="json") for one in crystals]}, "study")
    initialize_logger(level=50)
    store = JobStore(MemoryStore())
    store.connect()
    run_locally(job, store=store, ensure_success=True, log=False)
    rows = store.get_output(job.uuid)
    # one magnetic atom: FM and NM in one cell, AFM in two of the supercells of two cells
    assert [row["crystal"] for row in rows] == [0, 2] and all(row["labelled"] == row["orderings"] > 2 for row in rows)
    assert [row["formula"] for row in rows] == ["Fe", "Mn"] and rows[0]["state"] in ("FM", "AFM", "NM")
    assert labels.count() == sum(row["orderings"] for row in rows)
    lines = [message for _, stage, message, _ in job_stores.events if stage == "orderings"]
    assert any(line.startswith("crystal 1: no orderings, ") for line in lines)
    assert any(line.startswith("crystal 0 Fe: ") and "eV/atom" in line for line in lines)


@pytest.mark.parametrize("preset", ["small", "paper", "tiny"])
def test_presets_build_a_search_and_what_follows(preset):
    settings = recipe.PRESETS[preset]
    flow = recipe.build(settings, "study")
    assert [job.name for job in flow.jobs] == ["structures: random", "orderings: enumerate"]
    stages = {stage.stage: stage for stage in recipe.estimate(settings).stages}
    assert stages["label"].jobs == settings.search.keep * settings.enumerate.max_orderings
