"""Comparison of magnetic orders, and the Mn3Pt recipe that asks for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from analytic_engine import AnalyticEngine
from jobflow import JobStore, run_locally
from jobflow.utils.log import initialize_logger
from maggma.stores import MemoryStore

from mmace_flows.labels.labelling import find_or_compute
from mmace_flows.properties.orderings import compare_orders, moment_angles, order_line

PATH = Path(__file__).parents[3] / "workflows" / "mn3pt.py"


@pytest.fixture(scope="module")
def mn3pt():
    spec = importlib.util.spec_from_file_location("mn3pt_recipe", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_starts_are_what_they_are_called(mn3pt):
    made = mn3pt.candidates(mn3pt.PRESETS["small"])
    assert [one.magnetic_state for one in made.values()] == ["non-collinear", "FM", "FiM"]
    moments = np.array(made["triangular"].structure.magmoms)
    assert moment_angles(moments) == pytest.approx([120.0] * 3)
    assert moments.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
    assert moments @ np.ones(3) == pytest.approx(np.zeros(4), abs=1e-9)  # in the (111) plane


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_the_estimate_counts_the_jobs_of_the_flow(mn3pt, preset):
    settings = mn3pt.PRESETS[preset]
    names = [job.name for job, _ in mn3pt.build(settings, "test").iterflow()]
    counted = {stage.stage: stage.jobs for stage in mn3pt.estimate(settings).stages}
    assert counted == {stage: sum(name.startswith(f"{stage}:") for name in names) for stage in counted}
    assert len(names) == len(set(names)) == sum(counted.values())


def test_the_flow_ends_in_a_comparison(mn3pt, monkeypatch, tmp_path):
    labels = MemoryStore(key="label_key")
    labels.connect()
    events = []
    stores = SimpleNamespace(
        labels=labels,
        scratch=lambda campaign, key: tmp_path / key,
        event=lambda campaign, stage, message, **data: events.append((stage, message)),
    )
    asked = []
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: stores)
    monkeypatch.setattr(
        "mmace_flows.labels.engine.get_engine",
        lambda name, settings, symbols: asked.append((name, sorted(set(symbols)))) or AnalyticEngine(),
    )
    store = JobStore(MemoryStore())
    store.connect()
    initialize_logger(level=50)
    flow = mn3pt.build(mn3pt.PRESETS["small"], "test")
    outputs = run_locally(flow, store=store, ensure_success=True, log=False)
    rows = next(one[1].output for one in outputs.values() if isinstance(one[1].output, list))
    assert asked == [("espresso", ["Mn", "Pt"])] * 3 and labels.count() == 3
    assert {row["order"] for row in rows} == set(mn3pt.ORDERS) and rows[0]["energy_above_lowest"] == 0.0
    angles = {row["order"]: row["angles"] for row in rows}
    assert angles["triangular"] == pytest.approx([120.0] * 3)
    assert sorted(angles["two against one"]) == pytest.approx([0.0, 180.0, 180.0])
    assert [stage for stage, _ in events].count("compare") == 3


def test_failed_orders_come_last_and_are_told(mn3pt, tmp_path):
    labels = MemoryStore(key="label_key")
    labels.connect()
    made = mn3pt.candidates(mn3pt.PRESETS["small"])
    documents = []
    for number, one in enumerate(made.values()):
        engine = AnalyticEngine(fail_after=0) if number == 0 else AnalyticEngine(epsilon=0.1 * number)
        documents.append(find_or_compute(one, engine, labels, tmp_path)[0])
    rows = compare_orders(list(made), documents)
    assert rows[-1]["order"] == "triangular" and "set aside, SCF not converged" in order_line(rows[-1])
    energies = [document.free_energy / 4 for document in documents[1:]]
    assert rows[1]["energy_above_lowest"] == pytest.approx(max(energies) - min(energies))
    assert "meV/atom above the lowest" in order_line(rows[0])
    assert moment_angles(np.zeros((3, 3))) == []
