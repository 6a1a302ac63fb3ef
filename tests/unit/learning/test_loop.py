"""The loop from labels to decision, run by jobflow on stores in memory, with labels from a formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore
from memory_stores import STORES, FormulaLabelMaker, MemoryStores
from monty.json import jsanitize

from mmace import from_bytes
from mmace.uncertainty.selection import scores
from mmace_flows.learning.dataset import DataSetSettings, read_labels
from mmace_flows.learning.loop import ActiveLearningMaker, label_keys
from mmace_flows.learning.sampling import SamplingSettings, propose
from mmace_flows.learning.selection import uncertainty_for
from mmace_flows.learning.state import read_states
from mmace_flows.learning.stop_rule import StopRule
from mmace_flows.learning.train_maker import TrainMaker, thinned
from mmace_flows.properties.bain import BainPathMaker
from mmace_flows.structures.base_cells import bain_candidates, base_candidates
from mmace_flows.structures.distort import DistortSettings, distortions
from mmace_flows.structures.metropolis import MetropolisSettings

POTENTIAL = {
    "elements": ["Fe", "Ni"], "symmetry": "soc", "r_max": 3.2, "hidden": "4x0e", "l_pos": 1, "l_mag": 1,
    "correlation": 2, "num_bessel": 4, "num_chebyshev": 3, "radial_hidden": [8], "readout_hidden": 4,
    "m_max": {"Fe": 4.0, "Ni": 2.0},
}  # fmt: skip
TRAINING = {"epochs": 2, "batch_size": 8, "num_threads": 1, "ema_decay": None}


def loop(**changes: object) -> ActiveLearningMaker:
    settings = {
        "label_maker": FormulaLabelMaker(),
        "dataset": DataSetSettings(test_fraction=0.25),
        "train_maker": TrainMaker(potential=POTENTIAL, training=TRAINING, fine_tuning={"learning_rate": 5e-4}),
        "bain_maker": BainPathMaker(curve_points=3),
        "sampling": SamplingSettings(
            metropolis=MetropolisSettings(steps=10, sample_every=2),
            bases=["fcc"], states=["FM"], rattled=2, path_points=2,
        ),
        "stop_rule": StopRule(min_iterations=2, max_iterations=2),
    }  # fmt: skip
    return ActiveLearningMaker(**{**settings, **changes})


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStores:
    stores = MemoryStores(tmp_path)
    STORES.append(stores)
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: stores)
    return stores


def run(maker: ActiveLearningMaker, tmp_path: Path) -> dict:
    bases = base_candidates(volume=11.4, states=("FM",))
    initial = distortions(bases, 3, 0, DistortSettings(volume_scale=(0.9, 1.1)), states=("NM", "FM", "AFM"))
    labels = maker.label_jobs(initial, "test")
    bain = maker.label_jobs(bain_candidates([0.95, 1.2, 1.45], volume=11.4), "test", "reference")
    rest = maker.make("test", [one.output for one in labels], [one.output for one in bain])
    flow = Flow([*bain, *labels, rest], output=rest.output)
    # through JSON, the way FireWorks hands jobs on
    flow = Flow.from_dict(json.loads(json.dumps(jsanitize(flow.as_dict()))))
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    responses = run_locally(flow, store=store, ensure_success=True, root_dir=tmp_path, log=False)
    return {"store": store, "flow": flow, "responses": responses}


def test_two_iterations_end_in_a_decision(stores: MemoryStores, tmp_path: Path) -> None:
    found = run(loop(), tmp_path)
    first, second = read_states(stores.loop_states, "test")
    assert (first.iteration, first.decision) == (1, "continue")
    assert (second.iteration, second.decision) == (2, "stop")
    assert second.reason
    assert first.test_keys == second.test_keys
    assert set(first.training_keys) < set(second.training_keys)
    assert len(second.training_keys) == len(first.training_keys) + 4
    assert not set(second.bain_keys) & set(second.training_keys + second.test_keys)
    assert len(second.bain_keys) == 9
    assert {"NM", "FM", "AFM", "all"} == set(second.bain_errors)
    assert second.details["fresh_errors"]["all"]["count"] == 4
    assert second.symmetry_error is not None and second.symmetry_error > 0.0
    # every number about the model can be made again from the stored model
    model, metadata = from_bytes(stores.load_model(second.model_hash))
    assert metadata["parent"] == first.model_hash
    assert metadata["dataset_hash"] == second.dataset_hash
    assert stores.metadata[second.model_hash]["iteration"] == 2
    assert model.config.elements == ["Fe", "Ni"]
    # the flow's output is the last state
    output = found["flow"].output.resolve(found["store"])
    assert output["iteration"] == 2
    stages = {stage for _, stage, _ in stores.events}
    assert {"train", "sample", "evaluate"} <= stages


def test_failed_labels_are_set_aside_and_the_loop_goes_on(stores: MemoryStores, tmp_path: Path) -> None:
    run(loop(label_maker=FormulaLabelMaker(fail_operation="metropolis")), tmp_path)
    second = read_states(stores.loop_states, "test")[1]
    assert len(second.failed_keys) == 2
    assert all("by request" in reason for reason in second.details["set_aside"].values())
    assert not set(second.failed_keys) & set(second.training_keys)


def test_a_committee_has_different_members_and_a_spread(stores: MemoryStores, tmp_path: Path) -> None:
    trainer = TrainMaker(potential=POTENTIAL, training=TRAINING, committee=2, start="scratch")
    run(loop(train_maker=trainer, stop_rule=StopRule(min_iterations=1, max_iterations=1)), tmp_path)
    (state,) = read_states(stores.loop_states, "test")
    assert len(set(state.details["committee"])) == 2
    assert state.details["committee_spread"] > 0.0
    assert len(state.details["histories"]) == 2


def test_proposals_repeat_and_differ_between_iterations(stores: MemoryStores, tmp_path: Path) -> None:
    maker = loop(stop_rule=StopRule(min_iterations=1, max_iterations=1))
    run(maker, tmp_path)
    state = read_states(stores.loop_states, "test")[0]
    model, _ = from_bytes(stores.load_model(state.model_hash))
    first, details = propose(model, maker.sampling, 2)
    again, _ = propose(model, maker.sampling, 2)
    other, _ = propose(model, maker.sampling, 3)
    hashes = [candidate.structure.hash() for candidate in first]
    assert hashes == [candidate.structure.hash() for candidate in again]
    assert not set(hashes) & {candidate.structure.hash() for candidate in other}
    assert [candidate.operation for candidate in first] == ["metropolis"] * 2 + ["perturb"] * 2
    assert all(candidate.iteration == 2 for candidate in first)
    assert details["walks"][0]["tried"] == 10


def test_label_keys_of_every_kind_of_output() -> None:
    relaxation = {"labels": [{"label_key": "d"}, {"label_key": "a"}], "status": "converged"}
    assert label_keys(["a", {"label_key": "b", "status": "failed"}, [["c"], "a"], relaxation]) == ["a", "b", "c", "d"]
    with pytest.raises(TypeError):
        label_keys([None])


def test_histories_are_thinned_but_keep_their_ends() -> None:
    history = [{"epoch": epoch} for epoch in range(1, 1001)]
    rows = thinned(history, 100)
    assert len(rows) <= 101
    assert rows[0]["epoch"] == 1
    assert rows[-1]["epoch"] == 1000
    assert thinned(history[:5]) == history[:5]


@pytest.mark.parametrize("committee", [1, 2])
def test_the_least_certain_structures_are_chosen(stores: MemoryStores, tmp_path: Path, committee: int) -> None:
    sampling = loop().sampling.model_copy(update={"selection": "uncertainty", "pool": 2})
    trainer = TrainMaker(potential=POTENTIAL, training=TRAINING, committee=committee, start="scratch")
    run(loop(train_maker=trainer, sampling=sampling), tmp_path)
    first, second = read_states(stores.loop_states, "test")
    assert len(second.training_keys) + len(second.test_keys) > len(first.training_keys) + len(first.test_keys)

    model, _ = from_bytes(stores.load_model(second.model_hash))
    members = [from_bytes(stores.load_model(key))[0] for key in second.details["committee"]]
    uncertainty = uncertainty_for(model, members, read_labels(stores.labels, second.training_keys))
    pool, _ = propose(model, sampling.model_copy(update={"selection": "spread", "rattled": 4, "path_points": 0}), 3)
    kept, _ = propose(model, sampling.model_copy(update={"path_points": 0}), 3, uncertainty=uncertainty)
    assert len(kept) == 2
    assert {candidate.structure.hash() for candidate in kept} <= {candidate.structure.hash() for candidate in pool}
    values = scores([candidate.structure.to_atoms() for candidate in pool], uncertainty)
    assert kept[0].details["energy_uncertainty_per_atom"] == pytest.approx(values.max())
