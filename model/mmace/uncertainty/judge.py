"""An uncertainty held against labelled structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmace.fields import ENERGY, FORCES, MAGNETIC_FORCES
from mmace.potential import Potential
from mmace.train.configuration import Configuration
from mmace.train.evaluate import predict
from mmace.uncertainty.calibration import LEAST, agreement
from mmace.uncertainty.resolve import resolve
from mmace.uncertainty.selection import uncertainties


def judge(
    model: Potential, configurations: Sequence[Configuration], given: Any | str | Path, batch_size: int = 16
) -> dict[str, dict[str, float]]:
    """How well the standard deviations of ``given`` (as `resolve` takes it) describe the errors of ``model``.

    Returns energy_per_atom, forces, magnetic_forces → coverage, miscalibration area, NLL, rank correlation; only what
    the uncertainty estimates and at least three labels exist for. Raises UserError as `resolve` does.
    """
    uncertainty = resolve(given, model)
    predictions = predict(model, configurations, batch_size)
    estimates = uncertainties([configuration.to_atoms() for configuration in configurations], uncertainty, batch_size)
    sigmas: dict[str, list[np.ndarray]] = {ENERGY.name: [], FORCES.name: [], MAGNETIC_FORCES.name: []}
    for estimate in estimates:
        sizes = estimate.num_atoms.tolist()
        sigmas[ENERGY.name] += [value.reshape(1) for value in estimate.energy_per_atom.cpu().double().numpy()]
        for name, values in ((FORCES.name, estimate.forces), (MAGNETIC_FORCES.name, estimate.magnetic_forces)):
            if values is not None:
                sigmas[name] += [part.cpu().double().numpy().ravel() for part in values.split(sizes)]
    found = {}
    for name, own in sigmas.items():
        pairs = [
            (_error(prediction, configuration, name), sigma)
            for prediction, configuration, sigma in zip(predictions, configurations, own, strict=False)
            if getattr(configuration, name) is not None
        ]
        if not own or sum(sigma.size for _, sigma in pairs) < LEAST:
            continue
        errors, spreads = (np.concatenate(part) for part in zip(*pairs, strict=True))
        shown = "energy_per_atom" if name == ENERGY.name else name
        found[shown] = agreement(errors, spreads).to_dict()
    return found


def _error(prediction: Any, configuration: Configuration, name: str) -> np.ndarray:
    error = np.asarray(getattr(prediction, name)) - np.asarray(getattr(configuration, name))
    return (error / len(configuration) if name == ENERGY.name else error).reshape(-1)
