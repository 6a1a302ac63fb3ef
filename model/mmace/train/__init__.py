"""Training of the potential: configurations from files, training, errors per magnetic branch.

>>> from mmace.train import TrainingConfig, read_configurations, train
>>> configurations = read_configurations("train.extxyz")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    # torch takes a second to import: only when something that needs it is asked for
    if name not in _HOMES:
        raise AttributeError(f"module 'mmace.train' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"mmace.train.{_HOMES[name]}"), name)
