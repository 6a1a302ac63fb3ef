"""The rounds of a screening campaign, run by jobflow on stores in memory, with anisotropy from a formula."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from anisotropy_samples import run as formula_run
from anisotropy_samples import structure
from jobflow import Flow, Job, JobStore, Maker, job, run_locally
from maggma.stores import MemoryStore
from memory_stores import MemoryStores, memory_store
from monty.json import jsanitize

from mmace_flows.learning.anisotropy_train_maker import AnisotropyTrainMaker
from mmace_flows.properties.anisotropy_prediction import PredictionSettings
from mmace_flows.report.data import ReportData
from mmace_flows.report.screening import screening_page
from mmace_flows.schemas.screening import ScreeningState
from mmace_flows.schemas.structure import Candidate
from mmace_flows.screening.flow import ScreeningMaker
from mmace_flows.screening.rounds import predict_prospects
from mmace_flows.screening.rule import ScreeningRule

POTENTIAL = {
    "r_max": 3.2, "hidden": "4x0e", "l_pos": 2, "l_mag": 1, "correlation": 2, "num_bessel": 4, "num_chebyshev": 3,
    "radial_hidden": [8], "readout_hidden": 4,
}  # fmt: skip
TRAINING = {"epochs": 3, "num_threads": 1, "ema_decay": None}
PAIRS = ("FePt", "FeCo", "FeNi", "CoPt", "CoNi", "NiPt")  # any four of five share all four elements
SHARE = {"Fe": 0.002, "Co": 0.001, "Ni": -0.001, "Pt": 0.004, "Mn": -0.002}  # eV, of K1·V by element
FAILS = "MnPt"


@dataclass
class ScreeningStores(MemoryStores):
    """What screening uses beside."""

    spin_orbit: MemoryStore = field(default_factory=lambda: memory_store("spin_orbit_key"))
    predictions: MemoryStore = field(default_factory=lambda: memory_store("prediction_key"))
    anisotropy: MemoryStore = field(default_factory=lambda: memory_store("entry_id"))
    prospects: MemoryStore = field(default_factory=lambda: memory_store("prospect_id"))
    screening_states: MemoryStore = field(default_factory=lambda: memory_store("screening_id"))


STORES: list[ScreeningStores] = []  # the ones of the running test


@dataclass
class FormulaSpinOrbitMaker(Maker):
    """K1·V as a sum over elements."""

    name: str = "formula"

    def make(self, candidate: Candidate, campaign: str) -> Job:
        made: Job = self.run(candidate, campaign)
        made.name = f"soc: {candidate.structure.hash()[:6]}"
        return made

    @job
    def run(self, candidate: Candidate, campaign: str) -> dict[str, Any]:
        symbols = candidate.structure.symbols
        document = formula_run(candidate.structure, sum(SHARE[symbol] for symbol in symbols), campaign=campaign)
        document = document.model_copy(update={"wall_seconds": 2.0})
        if "".join(symbols) == FAILS:
            document = document.model_copy(update={"status": "failed", "error": "SCF did not converge"})
        STORES[-1].spin_orbit.update([document.model_dump(mode="json")])
        return {"spin_orbit_key": document.spin_orbit_key, "status": document.status, "error": document.error}


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScreeningStores:
    made = ScreeningStores(tmp_path)
    STORES.append(made)
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: made)
    return made


def source(pairs: Sequence[str]) -> dict[str, Any]:
    found = [
        Candidate(
            structure=structure([pair[:2], pair[2:]], a=2.5 + 0.05 * number), operation="test", magnetic_state="FM"
        )
        for number, pair in enumerate(pairs)
    ]
    return {"candidates": [one.model_dump(mode="json") for one in found]}


def screen(tmp_path: Path, pairs: Sequence[str] = PAIRS, **rule: Any) -> list[ScreeningState]:
    maker = ScreeningMaker(
        spin_orbit_maker=FormulaSpinOrbitMaker(),
        train_maker=AnisotropyTrainMaker(potential=POTENTIAL, training=TRAINING, committee=2, validation_fraction=0.0),
        prediction=PredictionSettings(directions="lebedev:26"),
        rule=ScreeningRule(**{"top": 2, "initial": 3, "held_out": 1, "best": 1, "uncertain": 1, **rule}),
        chunk=4,
    )
    flow = maker.make("test", [source(pairs)])
    # through JSON, the way FireWorks hands jobs on
    flow = Flow.from_dict(json.loads(json.dumps(jsanitize(flow.as_dict()))))
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    run_locally(flow, store=store, ensure_success=True, root_dir=tmp_path, log=False)
    found = STORES[-1].screening_states.query({"campaign": "test"}, sort={"round": 1})
    return [ScreeningState.from_store(one) for one in found]


def test_rounds_until_everything_is_known(stores: ScreeningStores, tmp_path: Path) -> None:
    pairs = ("FePt", "FeCo", "CoPt", "CoNi", FAILS)
    states = screen(tmp_path, pairs, min_rounds=9, max_rounds=9)
    assert [state.round for state in states] == list(range(1, len(states) + 1))
    assert states[-1].decision == "stop"
    assert "every ordering" in states[-1].reason
    assert all(state.decision == "continue" for state in states[:-1])
    last = states[-1]
    computed = {row.formula: row.computed for row in last.ranking if row.computed is not None}
    assert set(computed) == {"FePt", "CoFe", "CoPt", "CoNi"}
    assert list(last.failed.values()) == ["SCF did not converge"]
    assert [row.formula for row in last.ranking][:2] == ["FePt", "CoPt"], "the largest shares of K1 come first"
    assert len(last.spin_orbit_keys) == len(pairs), "each ordering once"
    assert last.dft_core_seconds == pytest.approx(2.0 * len(pairs))
    rows = list(stores.anisotropy.query({}))
    assert len(rows) == 4
    assert {row["level"] for row in rows} == {"DFT"}
    told = [message for _, stage, message in stores.events if stage == "predict"]
    assert any("1 cannot be predicted" in line and "does not know the element Mn" in line for line in told)


def test_held_out_crystals_report_and_predictions(stores: ScreeningStores, tmp_path: Path) -> None:
    states = screen(tmp_path, held_out=1, initial=4, min_rounds=2, max_rounds=2)
    last = states[-1]
    held = [row for row in last.ranking if row.held_out]
    assert len(held) == 1
    assert last.held_out["count"] == 1
    assert not {last.runs[row.prospect_id] for row in held} & set(last.training_keys), "never trained on"
    assert set(states[0].training_keys) <= set(last.training_keys)
    assert set(states[0].spin_orbit_keys) < set(last.spin_orbit_keys)

    page = screening_page(ReportData(name="test", campaign=None, states=[], labels=[]), states)
    assert "Stopped after round 2" in page
    assert page.count("<h2>") >= 4
    assert "<script" not in page
    assert "MJ/m³" in page

    before = {one["prediction_key"]: one["values"]["created"] for one in stores.predictions.query({})}
    settings = PredictionSettings(directions="lebedev:26")
    ids = [row.prospect_id for row in last.ranking]
    keys = predict_prospects(stores, "test", ids, last.models, settings)
    after = {one["prediction_key"]: one["values"]["created"] for one in stores.predictions.query({})}
    assert set(keys.values()) <= set(before)
    assert after == before, "nothing is predicted twice"
