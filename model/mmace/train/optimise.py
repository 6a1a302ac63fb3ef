"""What moves the weights besides the gradient: their moving average and the learning rate's schedule."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mmace.train.config import TrainingConfig
from mmace.train.stages import schedule_span
from mmace.train.trainable import Trainable


class MovingAverage:
    """Exponential moving average of a model's weights, kept in a copy of the model.

    ``decay`` None or 0 keeps the copy equal to the model. At the start the average follows faster:
    decay(n) = min(decay, (1 + n)/(10 + n)).
    """

    def __init__(self, trainable: Trainable, decay: float | None) -> None:
        self.trainable = trainable.copied()
        self.model = self.trainable.model
        self.decay = decay or 0.0

    @torch.no_grad()
    def update(self, trainable: Trainable, steps_done: int) -> None:
        """Takes in the trained numbers after step number ``steps_done`` (from 1)."""
        decay = min(self.decay, (1 + steps_done) / (10 + steps_done))
        for average, parameter in zip(self.trainable.parameters(), trainable.parameters(), strict=True):
            average.lerp_(parameter, 1.0 - decay)
        self.trainable.push_weights()


@dataclass
class Progress:
    """Best validation loss so far and the plateau counters; a few numbers that are written with the state."""

    best_loss: float = math.inf
    best_epoch: int = 0
    plateaus: int = 0  # how often the learning rate has been lowered
    waited: int = 0  # epochs since the last better loss or lowering
    stage: int = 0  # that the loss and the learning rate belong to
    stage_start: int = 0  # epochs that were done when it began

    def enter(self, stage: int, epoch: int, config: TrainingConfig) -> None:
        """Begins a stage after ``epoch``: losses of other weights are not compared with those to come."""
        self.stage, self.stage_start = stage, epoch
        self.best_loss, self.waited = math.inf, 0
        if config.stages[stage - 1].learning_rate is not None:
            self.plateaus = 0

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
        rate, begin, end = schedule_span(config, self.stage)
        lowest = min(config.minimum_learning_rate, rate)
        if config.schedule == "plateau":
            return max(lowest, rate * config.plateau_factor**self.plateaus)
        if config.schedule == "cosine":
            done = min(1.0, (epochs_done - begin) / max(end - begin, 1))
            return lowest + 0.5 * (rate - lowest) * (1.0 + math.cos(math.pi * done))
        return rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
