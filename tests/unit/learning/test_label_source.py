"""Labels of the store as data to train on."""

from __future__ import annotations

import numpy as np
import pytest
from memory_stores import MemoryStores
from synthetic import bain_labels, training_labels

from mmace.errors import UserError
from mmace_flows.cli.app import run
from mmace_flows.learning.label_source import store_configurations


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """A campaign with labels, one of them failed, and a loop state; another campaign asked for one label first."""
    made = MemoryStores(tmp_path)
    labels = [label.model_copy(update={"campaign": "feni"}) for label in training_labels(4)]
    labels[0] = labels[0].model_copy(update={"campaign": "older"})
    labels[1] = labels[1].model_copy(update={"status": "failed", "error": "not converged"})
    labels += [label.model_copy(update={"campaign": "feni"}) for label in bain_labels()]
    made.labels.update([label.model_dump() for label in labels], key="label_key")
    keys = [label.label_key for label in labels]
    states = [
        {"loop_id": "feni/1", "campaign": "feni", "iteration": 1, "training_keys": keys[2:4], "test_keys": []},
        {
            "loop_id": "feni/2",
            "campaign": "feni",
            "iteration": 2,
            "training_keys": [keys[0], *keys[2:8]],
            "test_keys": keys[8:12],
            "bain_keys": keys[12:],
        },
    ]
    made.loop_states.update(states, key="loop_id")
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: made)
    return made


def keys_of(source, stores):
    return {configuration.info["label_key"] for configuration in store_configurations(source, stores)}


def test_all_labels_of_a_campaign_but_the_bain_path(stores, caplog):
    found = list(store_configurations("store:feni", stores))
    assert len(found) == 11
    assert {c.info["operation"] for c in found} == {"distort"}
    assert "1 of 12 labels are set aside; the first: store:feni: label " in caplog.text
    assert "DFT failed: not converged" in caplog.text
    one = found[0]
    assert one.name == f"store:feni: label {one.info['label_key']}"
    document = stores.labels.query_one({"label_key": one.info["label_key"]})
    assert one.energy == document["free_energy"]
    np.testing.assert_array_equal(one.forces, document["forces"])
    np.testing.assert_array_equal(one.magmoms, document["magmoms"])


def test_labels_that_a_campaign_found_in_the_store_are_its_too(stores):
    """A campaign other than active learning: what it did not compute again stands in the outputs of its jobs."""
    keys = sorted(one["label_key"] for one in stores.labels.query({"candidate.group": {"$ne": "bain"}}))
    outputs = [{"label_key": keys[5]}, [{"label_key": keys[6], "status": "converged"}], {"labels": keys[7:9]}, None]
    jobs = [
        {"uuid": str(number), "output": output, "metadata": {"campaign": "again"}}
        for number, output in enumerate(outputs)
    ]
    stores.jobs.docs_store.update(jobs, key="uuid")
    failed = {one["label_key"] for one in stores.labels.query({"status": "failed"})}
    assert keys_of("store:again", stores) == set(keys[5:9]) - failed


def test_parts_of_the_last_iteration(stores):
    state = stores.loop_states.query_one({"iteration": 2})
    for part in ("train", "test", "bain"):
        wanted = {"train": "training_keys"}.get(part, f"{part}_keys")
        assert keys_of(f"store:feni/{part}", stores) == set(state[wanted])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("store:", "which campaign"),
        ("store:fe-ni", "no labels of 'fe-ni' in the store; did you mean 'feni'?"),
        ("store:xyz", "campaigns with labels: feni, older"),
        ("store:feni/trian", "unknown part 'trian'; did you mean 'train'?"),
        ("store:older/train", "no iteration of active learning"),
    ],
)
def test_what_is_not_there_is_said(stores, source, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        list(store_configurations(source, stores))


def test_commands_take_the_store_for_a_file(stores, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["data", "convert", "store:feni/train", "-o", "labels.extxyz"]) == 0
    assert run(["data", "check", "labels.extxyz", "store:feni/test"]) == 0
    assert "11 configurations, 44 atoms" in capsys.readouterr().out
    assert run(["data", "split", "store:feni/train", "-o", "parts", "--group-by", "parent"]) == 2
    assert "no 'parent' to group by" in capsys.readouterr().err
    (tmp_path / "small.yaml").write_text(
        "data: store:feni/train\nvalid: store:feni/test\n"
        "model: {r_max: 3.5, hidden: 4x0e, l_pos: 1, correlation: 2, num_bessel: 4, num_chebyshev: 3}\n"
        "training: {epochs: 1, num_threads: 1}\n"
    )
    assert run(["train", "small.yaml", "--output", "out", "--no-plots"]) == 0
    said = capsys.readouterr().err
    assert "11 configurations, 44 atoms; " in said
    assert "7 structures to train on, 4 to validate" in said
    assert run(["evaluate", "out/model.safetensors", "store:feni/bain"]) == 0
