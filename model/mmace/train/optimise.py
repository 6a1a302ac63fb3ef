"""What moves the weights besides the gradient: their moving average and the learning rate's schedule."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mmace.potential import Potential
from mmace.train.config import TrainingConfig


class MovingAverage:
    """Exponential moving average of a model's weights, kept in a copy of the model.

    ``decay`` None or 0 keeps the copy equal to the model. At the start the average follows faster:
    decay(n) = min(decay, (1 + n)/(10 + n)).
    """

    def __init__(self, model: Potential, decay: float | None) -> None:
        self.model = copy.deepcopy(model)
        self.decay = decay or 0.0
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    @torch.no_grad()
    def update(self, model: Potential, steps_done: int) -> None:
        """Takes in the weights of ``model`` after its step number ``steps_done`` (from 1)."""
        decay = min(self.decay, (1 + steps_done) / (10 + steps_done))
        for average, parameter in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(parameter, 1.0 - decay)


@dataclass
class Progress:
    """Best validation loss so far and the plateau counters; a few numbers that are written with the state."""

    best_loss: float = math.inf
    best_epoch: int = 0
    plateaus: int = 0  # how often the learning rate has been lowered
    waited: int = 0  # epochs since the last better loss or lowering

    def update(self, loss: float, epoch: int, config: TrainingConfig) -> bool:
        """Takes in the validation loss after ``epoch`` (from 1). True if it is the best so far."""
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.waited = loss, epoch, 0
            return True
        self.waited += config.validate_every
        if self.waited >= config.plateau_epochs:
            self.plateaus, self.waited = self.plateaus + 1, 0
        return False

    def learning_rate(self, config: TrainingConfig, epochs_done: float) -> float:
        """Learning rate after ``epochs_done`` (fractions count)."""
        lowest = min(config.minimum_learning_rate, config.learning_rate)
        if config.schedule == "plateau":
            return max(lowest, config.learning_rate * config.plateau_factor**self.plateaus)
        if config.schedule == "cosine":
            done = min(1.0, epochs_done / config.epochs)
            return lowest + 0.5 * (config.learning_rate - lowest) * (1.0 + math.cos(math.pi * done))
        return config.learning_rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
