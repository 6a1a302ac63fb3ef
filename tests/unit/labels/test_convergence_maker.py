"""The study as a flow: the same points, the same choice, and a job per label."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from convergence_engine import ConvergingEngine
from jobflow import JobStore, run_locally
from jobflow.utils.log import initialize_logger
from maggma.stores import MemoryStore
from test_convergence import SETTINGS, fe

from mmace_flows.labels.convergence import ConvergenceStudy, probes
from mmace_flows.labels.convergence_maker import ConvergenceMaker
from mmace_flows.labels.convergence_run import run_study


@pytest.fixture
def stores(monkeypatch, labels, tmp_path):
    events = []
    spin_orbit = MemoryStore(key="spin_orbit_key")
    spin_orbit.connect()
    fake = SimpleNamespace(
        labels=labels,
        spin_orbit=spin_orbit,
        scratch=lambda campaign, key: tmp_path / campaign / key,
        event=lambda campaign, stage, message, **data: events.append(message),
        events=events,
    )
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: fake)
    monkeypatch.setattr(
        "mmace_flows.labels.gpaw_engine.GPAWEngine", lambda settings: ConvergingEngine(settings.model_dump(mode="json"))
    )
    return fake


def test_the_flow_gives_the_study_of_the_function(stores, tmp_path):
    structures = probes([fe()])
    flow = ConvergenceMaker(settings=SETTINGS).make(structures, "study")
    assert [job.name for job in flow.jobs][-1] == "decide: cutoff" and len(flow.jobs) == 4 * 2 + 1
    initialize_logger(level=50)
    store = JobStore(MemoryStore())
    store.connect()
    responses = run_locally(flow, store=store, ensure_success=True, log=False)
    # the last job was replaced by the next scan, whose output it hands on
    output = store.get_output(flow.jobs[-1].uuid)
    found = ConvergenceStudy.model_validate(output)
    again = run_study(SETTINGS, structures, stores.labels, None, tmp_path)  # all found in the store
    assert found == again
    assert any(line.startswith("recommended: cutoff 400 eV") for line in stores.events)
    computed = [job for job in responses if "label_key" in (responses[job][1].output or {})]
    assert len(computed) == 2 * (4 + 3 + 3)
