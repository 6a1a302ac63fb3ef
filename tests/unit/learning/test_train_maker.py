"""The training job: the settings and the code of `mmace train` and `mmace finetune`, models and data by hash."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jobflow import Flow, run_locally
from memory_stores import STORES, MemoryStores
from synthetic import training_labels

from mmace import from_bytes
from mmace.train.trainable import select
from mmace_flows.learning.dataset import DataSet, read_labels
from mmace_flows.learning.train_maker import TrainMaker

POTENTIAL = {
    "elements": ["Fe", "Ni"], "r_max": 3.2, "hidden": "4x0e", "l_pos": 1, "l_mag": 1, "correlation": 2,
    "num_bessel": 4, "num_chebyshev": 3, "radial_hidden": [8], "readout_hidden": 4, "m_max": {"Fe": 4.0, "Ni": 2.0},
}  # fmt: skip
TRAINING = {"epochs": 2, "batch_size": 4, "num_threads": 1, "ema_decay": None}


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStores:
    stores = MemoryStores(tmp_path)
    STORES.append(stores)
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: stores)
    return stores


@pytest.fixture
def data(stores: MemoryStores) -> DataSet:
    """Eight labels, of which the last two are new."""
    labels = training_labels(3)[:8]
    stores.labels.update([label.model_dump() for label in labels], key="label_key")
    keys = [label.label_key for label in labels]
    return DataSet(
        iteration=2, training_keys=sorted(keys), test_keys=[], bain_keys=[], fresh_keys=keys[-2:], set_aside={},
        dataset_hash="d", branches={},
    )  # fmt: skip


def trained(maker: TrainMaker, data: DataSet, parent: str | None = None, member: int = 0):
    job = maker.make("test", data.model_dump(), member, parent)
    responses = run_locally(Flow([job]), ensure_success=True, log=False)
    return responses[job.uuid][1].output


def model_of(stores: MemoryStores, output: dict):
    return from_bytes(stores.load_model(output["model_hash"]))[0]


def test_settings_of_a_training_are_passed_on(stores, data):
    stages = [{"start": 1, "weights": {"energy": 1e5}, "learning_rate": 1e-4}]
    energies = {"Fe": -3.0, "Ni": -1.0}
    output = trained(
        TrainMaker(potential=POTENTIAL, training={**TRAINING, "stages": stages, "atomic_energies": energies}), data
    )
    assert [row["stage"] for row in output["history"]] == [1, 2]
    assert output["history"][1]["learning_rate"] == 1e-4
    assert model_of(stores, output).atomic_energies.tolist() == [[-3.0, -1.0]]
    assert stores.metadata[output["model_hash"]]["training"]["stages"][0]["start"] == 1


def test_fine_tuning_moves_the_last_weights_only_and_says_where_it_came_from(stores, data):
    first = trained(TrainMaker(potential=POTENTIAL, training=TRAINING), data)
    maker = TrainMaker(potential=POTENTIAL, training=TRAINING, fine_tuning={"trainable": "last"}, replay_weight=0.1)
    output = trained(maker, data, first["model_hash"])
    before, after = model_of(stores, first), model_of(stores, output)
    pairs = zip(before.named_parameters(), after.parameters(), strict=True)
    moved = {name for (name, one), other in pairs if not torch.equal(one, other)}
    assert moved == set(select(before, "last", 4).whole)
    assert output["parent"] == first["model_hash"]
    assert stores.metadata[output["model_hash"]]["parent"] == first["model_hash"]
    equally = trained(TrainMaker(potential=POTENTIAL, training=TRAINING, fine_tuning={"trainable": "last"}), data,
                      first["model_hash"])  # fmt: skip
    assert equally["model_hash"] != output["model_hash"]


def test_old_labels_are_replayed_with_their_weight(stores, data):
    labels = read_labels(stores.labels, data.training_keys)
    maker = TrainMaker(potential=POTENTIAL, training=TRAINING, replay_weight=0.25, validation_fraction=0.25)
    config = type("Seeded", (), {"seed": 0})()
    new, old, validation = maker._configurations(labels, data, config, fine_tuning=True)
    assert {one.name for one in new} <= set(data.fresh_keys)
    assert {one.name for one in [*new, *old, *validation]} == set(data.training_keys)
    assert len(validation) == 2
    everything, none, _ = maker._configurations(labels, data, config, fine_tuning=False)
    assert (len(everything), none) == (6, [])


def test_a_foundation_model_is_where_the_first_iteration_starts(stores, data):
    first = trained(TrainMaker(potential=POTENTIAL, training=TRAINING), data)["model_hash"]
    maker = TrainMaker(potential=POTENTIAL, training=TRAINING, foundation=first, head="pbe", committee=2)
    jobs = maker.make_committee("test", data.model_dump(), [])
    responses = run_locally(Flow(jobs), ensure_success=True, log=False)
    outputs = [responses[job.uuid][1].output for job in jobs]
    assert [output["parent"] for output in outputs] == [first, first]
    assert outputs[0]["model_hash"] != outputs[1]["model_hash"]
    model = model_of(stores, outputs[0])
    assert model.config.heads == ("default", "pbe")
    following = maker.make_committee("test", data.model_dump(), [output["model_hash"] for output in outputs])
    assert [job.function_args[3] for job in following] == [output["model_hash"] for output in outputs]


def test_members_draw_their_own_samples(stores, data):
    labels = read_labels(stores.labels, data.training_keys)
    maker = TrainMaker(bootstrap=True)
    drawn = []
    for seed in (0, 1):
        config = type("Seeded", (), {"seed": seed})()
        drawn.append([one.name for one in maker._configurations(labels, data, config, fine_tuning=False)[0]])
    assert drawn[0] != drawn[1]
    assert all(len(names) == 8 and len(set(names)) < 8 for names in drawn)
