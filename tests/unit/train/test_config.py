"""Settings of a training run."""

from __future__ import annotations

import pytest

from mmace.errors import UserError
from mmace.train import TrainingConfig
from mmace.train.optimise import Progress


def test_from_dict_converts_what_yaml_reads_as_text():
    config = TrainingConfig.from_dict({"learning_rate": "1e-3", "epochs": 5.0, "weights": {"forces": 3}, "clip": None})
    assert config.learning_rate == 1e-3
    assert config.epochs == 5
    assert isinstance(config.epochs, int)
    assert config.weights == {**TrainingConfig().weights, "forces": 3.0}
    assert config.clip is None
    assert TrainingConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "file.yaml: unknown setting 'epoch'; did you mean 'epochs'?"),
        ({"weights": {"force": 3}}, "unknown setting 'force'; did you mean 'forces'?"),
        ({"weights": {"forces": -3}}, "forces is -3"),
        ({"weights": 3}, "weights is 3"),
        ({"epochs": "many"}, "epochs is 'many'; give a whole number"),
        ({"epochs": 2.5}, "epochs is 2.5; give a whole number"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": 0}, "epochs is 0; give at least 1"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"amsgrad": "perhaps"}, "amsgrad is 'perhaps'; give true or false"),
        ({"schedule": "linear"}, "schedule is 'linear'; give one of constant, plateau, cosine"),
        ({"learning_rate": None}, "learning_rate is None"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError) as caught:
        TrainingConfig.from_dict(settings, "file.yaml")
    assert message in str(caught.value)


def test_identity_leaves_out_what_only_decides_when_to_stop():
    config = TrainingConfig()
    assert TrainingConfig(epochs=7, num_threads=1, max_seconds=3).identity() == config.identity()
    assert TrainingConfig(learning_rate=0.1).identity() != config.identity()
    cosine = TrainingConfig(schedule="cosine")
    assert TrainingConfig(schedule="cosine", epochs=7).identity() != cosine.identity()


def test_plateau_lowers_the_learning_rate_and_a_better_loss_resets_the_wait():
    config = TrainingConfig(learning_rate=1.0, plateau_factor=0.5, plateau_epochs=2, minimum_learning_rate=0.2)
    progress, rates = Progress(), []
    for epoch, loss in enumerate([5.0, 6.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0], start=1):
        progress.update(loss, epoch, config)
        rates.append(progress.learning_rate(config, epoch))
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2]
    assert (progress.best_loss, progress.best_epoch) == (4.0, 3)


def test_cosine_falls_from_the_learning_rate_to_the_minimum():
    config = TrainingConfig(learning_rate=1.0, schedule="cosine", epochs=10, minimum_learning_rate=0.1)
    rates = [Progress().learning_rate(config, epoch) for epoch in (0, 5, 10)]
    assert rates == pytest.approx([1.0, 0.55, 0.1])
