"""Fine-tuning: a trained potential goes on learning from other data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace.heads import with_heads
from mmace.potential import Potential
from mmace.train.atomic_energies import shift_atomic_energies
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.evaluate import predict
from mmace.train.loop import train
from mmace.train.reading import check_elements
from mmace.train.run import ProgressCallback, TrainingResult

logger = logging.getLogger("mmace")

DEFAULTS: dict[str, Any] = {"learning_rate": 0.0005, "clip": 10.0}  # that differ from those of a new training
REPLAY_WEIGHT = 0.1
SAMPLE = 64  # structures that the offset of the energies is judged by
OFFSET = 0.3  # eV/atom: E0 of another code or functional, hardly an error of the model


def finetuning_config(settings: dict[str, Any] | None = None, where: str = "training") -> TrainingConfig:
    """Settings of a fine-tuning: those of a training, with learning rate 0.0005 and clip 10 by default."""
    return TrainingConfig.from_dict({**DEFAULTS, **(settings or {})}, where)


def finetune(
    model: Potential,
    training_config: TrainingConfig,
    train_configurations: Sequence[Configuration],
    valid_configurations: Sequence[Configuration],
    output_dir: str | Path,
    progress: ProgressCallback | None = None,
    *,
    replay: Sequence[Configuration] = (),
    replay_weight: float = REPLAY_WEIGHT,
    head: str | None = None,
    overwrite: bool = False,
    tensorboard: bool = False,
) -> TrainingResult:
    """Trains ``model`` further, with the guarantees of `train`: the same call goes on where it was stopped.

    ``replay``: configurations the model has learned before, trained on too, their weights times ``replay_weight``, so
    that they are not forgotten; they take no part in validation. ``head``: level of theory of the new configurations
    that name none; one that the model does not know is added, with the weights of the first head and E0 shifted to fit
    the new energies. Which weights move is `TrainingConfig.trainable`; the result is an ordinary model in any case.

    Raises `UserError` as `train` does, and for a replay weight that is not positive.
    """
    if not 0 < replay_weight:
        raise UserError(f"fine-tuning: replay_weight is {replay_weight}; give a positive number")
    new, valid = _of_head(train_configurations, head), _of_head(valid_configurations, head)
    for part in (new, valid, replay):
        check_elements(part, model.config.elements)
    if head is not None and head not in model.config.heads:
        model = with_heads(model, [head])
        shift_atomic_energies(model, new, (head,))
    elif training_config.atomic_energies is None:
        _warn_of_offset(model, new)
    old = [replace(configuration, weight=configuration.weight * replay_weight) for configuration in replay]
    return train(
        None,
        training_config,
        [*new, *old] if old else new,
        valid or new,
        output_dir,
        model,
        progress,
        overwrite=overwrite,
        tensorboard=tensorboard,
    )


def _of_head(configurations: Sequence[Configuration], head: str | None) -> Sequence[Configuration]:
    if head is None:
        return configurations
    return [replace(c, head=head) if c.head is None else c for c in configurations]


def _warn_of_offset(model: Potential, configurations: Sequence[Configuration]) -> None:
    """Says so if the energies are of another origin than the model's."""
    known = [configuration for configuration in configurations[:SAMPLE] if configuration.energy is not None]
    errors = [(float(c.energy or 0.0) - p.energy) / len(c) for c, p in zip(known, predict(model, known), strict=True)]
    if errors and abs(np.median(errors)) > OFFSET:
        logger.warning(
            "the new energies differ from the model's by %.2f eV/atom: if they come from another code or functional, "
            "set atomic_energies to shift, or give them a head of their own",
            float(np.median(errors)),
        )
