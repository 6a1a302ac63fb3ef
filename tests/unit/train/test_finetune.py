"""Fine-tuning: defaults, replayed data, a new head, energies of another origin."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmace import load, model_hash
from mmace.errors import UserError
from mmace.train import TrainingConfig, evaluate_configurations, train
from mmace.train.finetune import finetune, finetuning_config

from .conftest import labelled, random_structures, small_config


def quick(**settings) -> TrainingConfig:
    return finetuning_config({"epochs": 3, "batch_size": 4, "num_threads": 1, **settings})


@pytest.fixture
def shifted(teacher):
    """Data of the teacher with forces 1.2 times as large and 0.05 eV more per atom."""
    data = labelled(teacher, random_structures(8, 5))
    for c in data:
        c.energy = 1.2 * (c.energy + 13.0) - 13.0 + 0.1
        c.forces, c.stress, c.magnetic_forces = 1.2 * c.forces, 1.2 * c.stress, 1.2 * c.magnetic_forces
    return data


def test_defaults_are_those_of_fine_tuning():
    assert (finetuning_config().learning_rate, finetuning_config().clip) == (0.0005, 10.0)
    assert finetuning_config({"clip": None, "learning_rate": 0.001}).clip is None


@pytest.mark.parametrize("trainable", ["all", "last", "low-rank"])
def test_it_learns_the_new_data(tmp_path, teacher, shifted, trainable):
    before = evaluate_configurations(teacher, shifted)["all"]
    config = quick(epochs=30, trainable=trainable, learning_rate=0.003, ema_decay=0.9)
    result = finetune(teacher, config, shifted, shifted, tmp_path)
    after = evaluate_configurations(load(result.checkpoint), shifted)["all"]
    assert after["forces_rmse"] < 0.7 * before["forces_rmse"]
    assert model_hash(result.model) == model_hash(load(result.checkpoint))


def test_replay_keeps_what_was_learned(tmp_path, teacher, shifted, make_data):
    old = make_data(8, 9)
    config = quick(epochs=60, learning_rate=0.01, ema_decay=0.9)
    without = finetune(teacher, config, shifted, shifted, tmp_path / "without").model
    equal = finetune(teacher, config, shifted, shifted, tmp_path / "equal", replay=old, replay_weight=1.0)
    errors = [evaluate_configurations(model, old)["all"]["forces_rmse"] for model in (without, equal.model)]
    assert errors[1] < 0.8 * errors[0]
    assert old[0].weight == 1.0  # the caller's data are as they were
    weighted = [replace(c, weight=0.25) for c in old]
    by_hand = train(None, config, [*shifted, *weighted], shifted, tmp_path / "hand", teacher)
    by_weight = finetune(teacher, config, shifted, shifted, tmp_path / "weight", replay=old, replay_weight=0.25)
    assert model_hash(by_hand.model) == model_hash(by_weight.model)
    with pytest.raises(UserError, match="replay_weight is 0"):
        finetune(teacher, config, shifted, shifted, tmp_path / "no", replay=old, replay_weight=0.0)


def test_a_new_head_learns_and_the_old_one_stays_by_replay(tmp_path, teacher, shifted, make_data):
    old = make_data(6, 9)
    for configuration in shifted:
        configuration.energy += 40.0  # another code counts from elsewhere
    config = quick(trainable="last")
    result = finetune(teacher, config, shifted, shifted, tmp_path, head="other", replay=old)
    model = result.model
    assert model.config.heads == ("default", "other")
    named = [replace(c, head="other") for c in shifted]
    assert evaluate_configurations(model, named)["all"]["energy_rmse"] < 0.1
    assert evaluate_configurations(model, old)["all"]["energy_rmse"] < 0.1
    assert torch.equal(model.atomic_energies[0], teacher.atomic_energies[0])
    again = finetune(teacher, config, shifted, shifted, tmp_path, head="other", replay=old)
    assert again.was_finished


def test_energies_of_another_origin_are_said_and_shifted(tmp_path, teacher, shifted, caplog):
    for configuration in shifted:
        configuration.energy += 40.0
    with caplog.at_level(logging.WARNING, logger="mmace"):
        finetune(teacher, quick(epochs=1), shifted, shifted, tmp_path / "keep")
    assert any(re.search(r"differ from the model's by (19|20)\.", record.getMessage()) for record in caplog.records)
    config = quick(epochs=1, atomic_energies="shift", learning_rate=1e-9)
    model = finetune(teacher, config, shifted, shifted, tmp_path / "shift").model
    assert evaluate_configurations(model, shifted)["all"]["energy_rmse"] < 0.1
    np.testing.assert_allclose((model.atomic_energies - teacher.atomic_energies).sum(), 40.0, atol=0.3)
    with pytest.raises(UserError, match="'shift', which needs a model to start from"):
        train(small_config(), TrainingConfig(atomic_energies="shift"), shifted, [], tmp_path / "new")
