"""Stages: other weights and learning rates from some epoch on; losses of different weights are never compared."""

from __future__ import annotations

import json
import math

import pytest

from mmace import Potential, load, model_hash
from mmace.errors import UserError
from mmace.train import TrainingConfig, train
from mmace.train.optimise import Progress
from mmace.train.stages import stage_at, stage_weights

from .conftest import labelled, random_structures, small_config
from .test_resume import train_in_a_process_that_is_killed

STAGES = [{"start": 3, "weights": {"energy": 1e6}, "learning_rate": 0.0005}]


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 6, "batch_size": 2, "num_threads": 1, "stages": STAGES, **changes})


def test_weights_of_a_stage_build_on_those_before():
    given = config(stages=[*STAGES, {"start": 5, "weights": {"forces": 0}}])
    assert [stage_at(given, epoch) for epoch in range(7)] == [0, 0, 0, 1, 1, 2, 2]
    assert stage_weights(given, 0) == given.weights
    assert stage_weights(given, 2) == {**given.weights, "energy": 1e6, "forces": 0.0}


def test_schedules_begin_anew_only_with_a_learning_rate():
    cosine = config(epochs=10, schedule="cosine", learning_rate=1.0, minimum_learning_rate=0.0, stages=[
        {"start": 4, "learning_rate": 0.5}, {"start": 6, "weights": {"energy": 1}}])  # fmt: skip
    progress, rates = Progress(), []
    for epoch in range(10):
        if stage_at(cosine, epoch) != progress.stage:
            progress.enter(stage_at(cosine, epoch), epoch, cosine)
        rates.append(progress.learning_rate(cosine, epoch))
    assert rates[:4] == pytest.approx([0.5 * (1 + math.cos(math.pi * e / 4)) for e in range(4)])
    assert rates[4:] == pytest.approx([0.25 * (1 + math.cos(math.pi * e / 6)) for e in range(6)])
    plateau = config(learning_rate=1.0, plateau_factor=0.5, stages=[{"start": 2}, {"start": 3, "learning_rate": 0.3}])
    progress = Progress(plateaus=2)
    progress.enter(1, 2, plateau)
    assert progress.learning_rate(plateau, 2) == 0.25
    progress.enter(2, 3, plateau)
    assert progress.learning_rate(plateau, 3) == 0.3


def test_the_best_is_sought_anew_in_each_stage(tmp_path, make_data):
    data = make_data(6)
    result = train(small_config(seed=2), config(), data, data[:2], tmp_path)
    losses = [event["valid_loss"] for event in result.history]
    assert [event["stage"] for event in result.history] == [1, 1, 1, 2, 2, 2]
    assert min(losses[3:]) > max(losses[:3])  # the weight of the energy alone makes it so
    assert result.best_epoch == 4 + losses[3:].index(min(losses[3:]))
    assert [event["learning_rate"] for event in result.history[3:]] == [0.0005] * 3
    before = train(small_config(seed=2), config(stages=[], epochs=3), data, data[:2], tmp_path / "first")
    assert model_hash(load(tmp_path / "model-stage-1.safetensors")) == model_hash(before.model)
    assert model_hash(result.model) != model_hash(before.model)
    train(small_config(seed=2), config(stages=[]), data, data[:2], tmp_path, overwrite=True)
    assert not (tmp_path / "model-stage-1.safetensors").exists()


@pytest.mark.parametrize("deadly", [8, 10, 11])  # of 18 steps, 3 per epoch; states after epochs 2, 4, 6
def test_killed_around_the_change_it_gives_the_same_weights(tmp_path, make_data, deadly):
    data = make_data(6)
    arguments = (small_config(seed=2), config(checkpoint_every=2, patience=2), data, data[:2])
    unbroken = train(*arguments, tmp_path / "unbroken")
    train_in_a_process_that_is_killed(arguments, tmp_path / "run", deadly)
    resumed = train(*arguments, tmp_path / "run")
    assert resumed.continued
    assert model_hash(resumed.model) == model_hash(unbroken.model)
    losses = [[event["valid_loss"] for event in run.history] for run in (resumed, unbroken)]
    assert losses[0] == losses[1]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == len(losses[0])


def test_patience_waits_for_the_last_stage(tmp_path, make_data):
    model = Potential(small_config())
    data = labelled(model, random_structures(4))  # nothing can become better
    still = config(epochs=20, patience=2, learning_rate=1e-12, ema_decay=None, schedule="constant",
                   stages=[{"start": 6, "weights": {"forces": 1}}])  # fmt: skip
    result = train(None, still, data, data, tmp_path, initial_model=model)
    assert result.reason == "no better validation loss for 2 epochs"
    assert 8 <= len(result.history) < 20


def test_stages_are_read_and_refused():
    read = TrainingConfig.from_dict({"stages": [{"start": 3, "learning_rate": "1e-4"}]}, "file.yaml")
    assert read.stages[0].learning_rate == 1e-4
    assert TrainingConfig.from_dict(json.loads(json.dumps(read.to_dict()))) == read
    for stages, message in [
        ([{"begin": 3}], "file.yaml: stages: unknown setting 'begin'"),
        ([{"learning_rate": 0.1}], "a stage has no start"),
        ([{"start": 0}], "start is 0"),
        ([{"start": 4}, {"start": 3}], "stages start at 4, 3"),
        ([{"start": 4, "weights": {"energie": 1}}], "did you mean 'energy'"),
        ([{"start": 4, "learning_rate": "fast"}], "learning_rate is 'fast'"),
        (7, "stages is 7"),
        ([7], "7 is no stage"),
    ]:
        with pytest.raises(UserError) as caught:
            TrainingConfig.from_dict({"stages": stages}, "file.yaml")
        assert message in str(caught.value)
