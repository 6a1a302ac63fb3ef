"""Stages of a training: from some epoch on other loss weights and another learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError, unknown_key_message
from mmace.fields import LABELS

if TYPE_CHECKING:
    from mmace.train.config import TrainingConfig


@dataclass
class Stage:
    """What changes at one point of the training. Raises `UserError` for values that cannot be meant."""

    start: int
    """Epochs that are done when the stage begins."""
    weights: dict[str, float] | None = None
    """Weights of the loss from then on; those not named stay as they are; None: all stay."""
    learning_rate: float | None = None
    """The schedule begins anew with this learning rate; None: it goes on as it was."""

    def __post_init__(self) -> None:
        if isinstance(self.start, bool) or not isinstance(self.start, int) or self.start < 1:
            raise UserError(f"training: stages: start is {self.start!r}; give the number of epochs before, at least 1")
        if self.weights is not None:
            self.weights = checked_weights(self.weights, "training: stages: weights")
        rate = self.learning_rate
        if rate is not None and not (isinstance(rate, int | float) and 0 < rate < math.inf):
            raise UserError(f"training: stages: learning_rate is {rate!r}; give a positive number or null")

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Stage:
        """From a mapping. Raises `UserError` for unknown keys and a missing start."""
        if not isinstance(data, dict):
            raise UserError(
                f"{where}: stages: {data!r} is no stage; write it like {{start: 150, learning_rate: 0.0005}}"
            )
        known = [f.name for f in fields(cls)]
        for key in data:
            if key not in known:
                raise UserError(unknown_key_message(str(key), known, f"{where}: stages"))
        if "start" not in data:
            raise UserError(f"{where}: stages: a stage has no start; give the number of epochs before it")
        values = dict(data)
        if isinstance(values.get("learning_rate"), str):  # YAML reads "1e-3" as text
            try:
                values["learning_rate"] = float(values["learning_rate"])
            except ValueError:
                pass  # refused below, as it was written
        return cls(**values)


def checked_weights(weights: Any, where: str) -> dict[str, float]:
    """Weights of the loss as numbers. Raises `UserError` for unknown labels and for what is no weight."""
    known = [label.name for label in LABELS]
    if not isinstance(weights, dict):
        raise UserError(f"{where} is {weights!r}; give a mapping of label to weight")
    for name, value in weights.items():
        if name not in known:
            raise UserError(unknown_key_message(str(name), known, where))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"{where}: {name} is {value!r}; give a number that is not negative")
    return {name: float(value) for name, value in weights.items()}


def checked_stages(stages: Any, where: str = "training") -> list[Stage]:
    """Stages in the order of their starts. Raises `UserError` for two that start at once and for what is no list."""
    if not isinstance(stages, list | tuple):
        raise UserError(f"{where}: stages is {stages!r}; give a list of stages, each with start and what changes")
    made = [stage if isinstance(stage, Stage) else Stage.from_dict(stage, where) for stage in stages]
    starts = [stage.start for stage in made]
    if starts != sorted(set(starts)):
        raise UserError(f"{where}: stages start at {', '.join(map(str, starts))}; give every stage a later start")
    return made


def stage_at(config: TrainingConfig, epochs_done: int) -> int:
    """Number of the stage that the next epoch belongs to; 0 is what comes before the first of ``config.stages``."""
    return sum(stage.start <= epochs_done for stage in config.stages)


def stage_weights(config: TrainingConfig, number: int) -> dict[str, float]:
    """Weights of the loss in stage ``number``: those of the settings, with what the stages up to it change."""
    weights = dict(config.weights)
    for stage in config.stages[:number]:
        weights |= stage.weights or {}
    return weights


def schedule_span(config: TrainingConfig, number: int) -> tuple[float, int, int]:
    """Learning rate at which the schedule of stage ``number`` began, and its first and last epoch.

    Stages without a learning rate of their own go on with the schedule that runs.
    """
    rate, begin, end = config.learning_rate, 0, config.epochs
    for stage in config.stages[:number]:
        if stage.learning_rate is not None:
            rate, begin = stage.learning_rate, stage.start
    for stage in config.stages[number:]:
        if stage.learning_rate is not None:
            return rate, begin, min(end, stage.start)
    return rate, begin, end
