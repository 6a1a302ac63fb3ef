"""The covariance of the last layer from training data, its ridge and its scale from held-out data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmace.errors import UserError
from mmace.potential import Potential
from mmace.train.configuration import Configuration
from mmace.train.reading import check_elements
from mmace.uncertainty.calibration import Agreement, Calibration, agreement, calibrate
from mmace.uncertainty.features import graphs_of, last_layer_features, structure_means
from mmace.uncertainty.last_layer import LastLayer

RIDGES = tuple(10.0**power for power in range(-9, 1))  # tried on held-out data, relative to the mean eigenvalue
DEFAULT_RIDGE = 1e-5


@dataclass
class FitReport:
    """What a fit found. Errors and standard deviations are of the energy per atom, eV."""

    held_out: bool  # scale from data that the model was not trained on?
    before: Agreement  # with the covariance alone, scaled to the training errors
    after: Agreement  # with ridge and scale from the held-out data
    ridge: float
    errors: np.ndarray  # [n] prediction − label
    sigmas: np.ndarray  # [n] calibrated standard deviations
    branches: list[str]  # [n]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the single errors."""
        return {
            "held_out": self.held_out,
            "ridge": self.ridge,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }


def fit_last_layer(
    model: Potential,
    training: Sequence[Configuration],
    held_out: Sequence[Configuration] | None = None,
    ridge: float | None = None,
    power_law: bool = False,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LastLayer, FitReport]:
    """Uncertainty of ``model`` from the structures it was trained on.

    The scale (and ``ridge``, unless given) maximise the likelihood of the energy errors of ``held_out``. Without it the
    errors of the training structures stand in, which are smaller than errors of new ones: the scale is then too small,
    and the report says so. ``progress(done, all)`` is called per batch.

    Raises UserError for data without energies, too little data, unknown elements, a ridge that is not positive.
    """
    if ridge is not None and not ridge > 0:
        raise UserError(f"uncertainty: ridge is {ridge:g}; it must be positive, for example 1e-5")
    training = [configuration for configuration in training if configuration.energy is not None]
    other = [configuration for configuration in held_out or [] if configuration.energy is not None]
    if not training:
        raise UserError("uncertainty: no training structure has an energy; give the data that the model was trained on")
    if held_out and not other:
        raise UserError("uncertainty: no held-out structure has an energy; give labelled structures")
    check_elements([*training, *other], model.config.elements)
    total = len(training) + len(other)
    rows, errors = _features(model, training, batch_size, progress, 0, total)
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    values = values.clamp(min=0.0)
    mean = float(values.mean())
    if not mean > 0:
        raise UserError("uncertainty: all last-layer features vanish; the model is untrained or its last readout is 0")

    def whitening(relative: float) -> Tensor:
        return vectors / torch.sqrt(values + relative * mean)

    first = ridge or DEFAULT_RIDGE
    seen = _lengths(rows, whitening(first))
    rough = calibrate(errors, seen)
    if not other:
        same = agreement(errors, rough(seen))
        branches = [configuration.branch for configuration in training]
        fitted = LastLayer(model, whitening(first), rough, first, len(training))
        return fitted, FitReport(False, same, same, first, errors, np.asarray(rough(seen)), branches)

    new_rows, new_errors = _features(model, other, batch_size, progress, len(training), total)
    best: tuple[float, float, Calibration] | None = None
    for candidate in (ridge,) if ridge else RIDGES:
        spreads = _lengths(new_rows, whitening(candidate))
        found = calibrate(new_errors, spreads, power_law)
        nll = agreement(new_errors, found(spreads)).nll
        if best is None or nll < best[0]:
            best = (nll, candidate, found)
    assert best is not None
    _, chosen, calibration = best
    sigmas = np.asarray(calibration(_lengths(new_rows, whitening(chosen))))
    report = FitReport(
        held_out=True,
        before=agreement(new_errors, rough(_lengths(new_rows, whitening(first)))),
        after=agreement(new_errors, sigmas),
        ridge=chosen,
        errors=new_errors,
        sigmas=sigmas,
        branches=[configuration.branch for configuration in other],
    )
    return LastLayer(model, whitening(chosen), calibration, chosen, len(training)), report


def _lengths(rows: Tensor, whitening: Tensor) -> np.ndarray:
    return (rows @ whitening).norm(dim=1).cpu().numpy()


def _features(
    model: Potential,
    configurations: Sequence[Configuration],
    batch_size: int,
    progress: Callable[[int, int], None] | None,
    done: int,
    total: int,
) -> tuple[Tensor, np.ndarray]:
    """Mean features [n,P] and errors of the energy per atom [n] of structures that all have energies."""
    rows, errors = [], []
    device = next(model.parameters()).device
    position = 0
    for graph in graphs_of(model.config, [c.to_atoms() for c in configurations], batch_size, device):
        rows.append(structure_means(last_layer_features(model, graph), graph))
        output = model(graph, forces=False, stress=False, magnetic_forces=False)
        predicted = (output["energy"].double() / graph.num_atoms).cpu().numpy()
        chunk = configurations[position : position + graph.num_structures]
        errors.append(predicted - np.array([c.energy / len(c) for c in chunk if c.energy is not None]))
        position += graph.num_structures
        if progress is not None:
            progress(done + position, total)
    return torch.cat(rows), np.concatenate(errors)
