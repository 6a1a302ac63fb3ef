"""Training of the potential: configurations from files, training, errors per magnetic branch.

>>> from mmace.train import TrainingConfig, read_configurations, train
>>> configurations = read_configurations("train.extxyz")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmace.lazy import importer

if TYPE_CHECKING:
    from mmace.train.config import TrainingConfig
    from mmace.train.configuration import Configuration, magnetic_branch
    from mmace.train.evaluate import (
        Prediction,
        errors_of,
        errors_of_heads,
        evaluate_configurations,
        moment_rotation_error,
        parity,
        predict,
    )
    from mmace.train.loop import train
    from mmace.train.reading import check_elements, check_moments, read_configurations
    from mmace.train.run import TrainingResult

_HOMES = {
    "Configuration": "configuration",
    "Prediction": "evaluate",
    "TrainingConfig": "config",
    "TrainingResult": "run",
    "check_elements": "reading",
    "check_moments": "reading",
    "errors_of": "evaluate",
    "errors_of_heads": "evaluate",
    "evaluate_configurations": "evaluate",
    "magnetic_branch": "configuration",
    "moment_rotation_error": "evaluate",
    "parity": "evaluate",
    "predict": "evaluate",
    "read_configurations": "reading",
    "train": "loop",
}

__all__ = [
    "Configuration",
    "Prediction",
    "TrainingConfig",
    "TrainingResult",
    "check_elements",
    "check_moments",
    "errors_of",
    "errors_of_heads",
    "evaluate_configurations",
    "magnetic_branch",
    "moment_rotation_error",
    "parity",
    "predict",
    "read_configurations",
    "train",
]

__getattr__ = importer(__name__, _HOMES)
