"""What moves the weights: every setting of the steps against a few lines of torch."""

from __future__ import annotations

import pytest
import torch

from mmace import Potential
from mmace.train import TrainingConfig, train
from mmace.train.batches import prepare, training_batches
from mmace.train.loss import batch_loss
from mmace.train.optimise import Progress
from mmace.train.state import load_state

from .conftest import small_config


def by_hand(model: Potential, config: TrainingConfig, data) -> tuple[dict, dict]:
    """Weights and their moving average after a training, in the plainest words."""
    singles = prepare(data, ["Fe", "Ni"], 3.5, torch.float64)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, amsgrad=config.amsgrad)
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    steps, per_epoch = 0, -(-len(data) // config.batch_size)
    for epoch in range(config.epochs):
        for number, batch in enumerate(training_batches(singles, config, epoch)):
            optimiser.zero_grad()
            batch_loss(model, batch, config).backward()
            if config.clip is not None:
                norm = torch.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
                for p in model.parameters():
                    p.grad *= min(1.0, config.clip / float(norm))
            optimiser.param_groups[0]["lr"] = Progress().learning_rate(config, epoch + number / per_epoch)
            optimiser.step()
            steps += 1
            decay = min(config.ema_decay or 0.0, (1 + steps) / (10 + steps))
            for name, p in model.named_parameters():
                average[name] = decay * average[name] + (1 - decay) * p.detach()
    return dict(model.named_parameters()), average


SETTINGS = [
    {},
    {"amsgrad": False},
    {"clip": 0.5},
    {"clip": None},
    {"ema_decay": None},
    {"ema_decay": 0.5},
    {"schedule": "cosine"},
    {"huber_delta": 0.05},
    {"rotate_moments": True},
]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, torch.Tensor]:
    """Kept weights of each setting, to see that the settings are not without effect."""
    return {}


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_the_steps_are_what_the_settings_say(tmp_path, make_data, teacher, changes, outcomes):
    data = make_data(5, 4)
    start = {"schedule": "constant", "epochs": 3, "batch_size": 2, "learning_rate": 0.01, "num_threads": 1}
    config = TrainingConfig(**{**start, **changes})
    model = Potential(small_config(seed=8, m_max={"Fe": 4.0, "Ni": 4.0}))
    train(None, config, data, data, tmp_path, initial_model=model)
    tensors = load_state(tmp_path).tensors
    weights, average = by_hand(model, config, data)
    for name in weights:
        torch.testing.assert_close(tensors["model"][name], weights[name].detach(), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(tensors["average"][name], average[name], rtol=1e-6, atol=1e-8)
    outcomes[str(changes)] = tensors["average"]["embedding"]
    others = [value for key, value in outcomes.items() if key != str(changes)]
    assert all(float((value - outcomes[str(changes)]).abs().max()) > 1e-7 for value in others)
