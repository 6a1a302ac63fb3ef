"""Predictions next to labels, errors per magnetic branch, and the leftover symmetry error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmace.anisotropy import direction_energies
from mmace.fields import BRANCHES, ENERGY, LABELS, STRESS
from mmace.graph import Graph, build_graph, collate
from mmace.potential import Potential
from mmace.train.batches import LABEL_NAMES, Batch, random_rotations
from mmace.train.configuration import Configuration
from mmace.train.directions import ANISOTROPY
from mmace.train.heads import head_index
from mmace.train.reading import check_elements

ERROR_NAMES = (*LABEL_NAMES, ANISOTROPY)
PER_ATOM = (ENERGY.name, ANISOTROPY)

ParityPoints = dict[str, dict[str, Any]]
Errors = dict[str, Any]  # count, and label_mae, label_rmse for each label; None where there is no label


@dataclass
class Prediction:
    """What the model says about one configuration. N atoms."""

    energy: float  # eV
    forces: np.ndarray  # [N,3] eV/Å
    stress: np.ndarray | None  # [3,3] eV/Å³; None where the cell is not periodic
    magnetic_forces: np.ndarray  # [N,3] eV/μB
    anisotropy: np.ndarray | None = None  # [D] eV per cell, relative to their mean; None without directions


class ErrorSums:
    """Sums of absolute and squared errors, from which MAE and RMSE follow.

    Energy: per atom, one number per structure. Anisotropy: per atom, relative to the mean over directions, one number
    per direction. The others: every Cartesian component is one number.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums = {name: np.zeros(3) for name in ERROR_NAMES}  # numbers, Σ|error|, Σ error²

    def add(self, name: str, error: Any) -> None:
        """Takes in errors of the label ``name``, an array of any shape."""
        error = np.asarray(error, dtype=float)
        self.sums[name] += (error.size, np.abs(error).sum(), np.square(error).sum())

    def result(self) -> Errors:
        """count, energy_mae, energy_rmse, forces_mae, …; None where there was no label. Anisotropy, which few data
        have, is named only where it was."""
        errors: Errors = {"count": self.count}
        for name, (numbers, absolute, squared) in self.sums.items():
            if name == ANISOTROPY and not numbers:
                continue
            errors[f"{name}_mae"] = float(absolute / numbers) if numbers else None
            errors[f"{name}_rmse"] = float(np.sqrt(squared / numbers)) if numbers else None
        return errors


def predict(model: Potential, configurations: Sequence[Configuration], batch_size: int = 16) -> list[Prediction]:
    """Energy, forces, stress and magnetic forces of each configuration, in order.

    Raises `UserError` for elements the model does not know.
    """
    check_elements(configurations, model.config.elements)
    predictions = []
    for start in range(0, len(configurations), batch_size):
        chunk = configurations[start : start + batch_size]
        graph = _graph(chunk, model)
        output = model(graph, forces=True, stress=True, magnetic_forces=True)
        energies = _array(output["energy"])
        stresses = _array(output["stress"])
        sizes = [len(configuration) for configuration in chunk]
        forces = np.split(_array(output["forces"]), np.cumsum(sizes)[:-1])
        magnetic = np.split(_array(output["magnetic_forces"]), np.cumsum(sizes)[:-1])
        for index, configuration in enumerate(chunk):
            stress = stresses[index] if configuration.pbc.all() else None
            turned = _anisotropy(model, configuration)
            predictions.append(Prediction(float(energies[index]), forces[index], stress, magnetic[index], turned))
    return predictions


def evaluate_configurations(
    model: Potential, configurations: Sequence[Configuration], batch_size: int = 16
) -> dict[str, Errors]:
    """Errors of the model: {"all", "NM", "FM", "AFM", "non-collinear"} → count, energy_mae, energy_rmse (eV/atom),
    forces_* (eV/Å), stress_* (eV/Å³), magnetic_forces_* (eV/μB), None where there are no labels."""
    return errors_of(predict(model, configurations, batch_size), configurations)


def errors_of(predictions: Iterable[Prediction], configurations: Iterable[Configuration]) -> dict[str, Errors]:
    """Errors of ``predictions`` per branch, as `evaluate_configurations` gives them; see also `errors_of_heads`."""
    sums = {branch: ErrorSums() for branch in ("all", *BRANCHES)}
    for prediction, configuration in zip(predictions, configurations, strict=True):
        for branch in ("all", configuration.branch):
            sums[branch].count += 1
            for name in ERROR_NAMES:
                label, predicted = getattr(configuration, name), getattr(prediction, name)
                if label is not None and predicted is not None:
                    error = np.asarray(predicted) - np.asarray(label)
                    error = error - error.mean() if name == ANISOTROPY else error
                    sums[branch].add(name, error / len(configuration) if name in PER_ATOM else error)
    return {branch: total.result() for branch, total in sums.items()}


def errors_of_heads(
    predictions: Sequence[Prediction], configurations: Sequence[Configuration], heads: Sequence[str]
) -> dict[str, dict[str, Errors]]:
    """Errors per branch of the configurations of each head: head → as `errors_of`. Heads without any are left out."""
    parts: dict[str, tuple[list[Prediction], list[Configuration]]] = {head: ([], []) for head in heads}
    for prediction, configuration in zip(predictions, configurations, strict=True):
        part = parts[heads[head_index(configuration, heads)]]
        part[0].append(prediction)
        part[1].append(configuration)
    return {head: errors_of(*part) for head, part in parts.items() if part[1]}


def parity(
    model: Potential, configurations: Sequence[Configuration], batch_size: int = 16
) -> dict[str, dict[str, Any]]:
    """Predictions next to labels, flat, for parity plots.

    Returns label name → {"label": [n], "prediction": [n], "branch": n strings}; energy in eV/atom, one number per
    configuration, the others component by component; stress by its six independent components. Empty without labels.
    """
    points: dict[str, dict[str, list]] = {n: {"label": [], "prediction": [], "branch": []} for n in LABEL_NAMES}
    upper = np.triu_indices(3)
    for prediction, configuration in zip(predict(model, configurations, batch_size), configurations, strict=True):
        for name in LABEL_NAMES:
            label, predicted = getattr(configuration, name), getattr(prediction, name)
            if label is None or predicted is None:
                continue
            pair = [np.asarray(label, dtype=float), np.asarray(predicted, dtype=float)]
            if name == ENERGY.name:
                pair = [value / len(configuration) for value in pair]
            if name == STRESS.name:
                pair = [value[upper] for value in pair]
            points[name]["label"].append(pair[0].ravel())
            points[name]["prediction"].append(pair[1].ravel())
            points[name]["branch"].extend([configuration.branch] * pair[0].size)
    return {
        name: {
            "label": np.concatenate([np.zeros(0), *point["label"]]),
            "prediction": np.concatenate([np.zeros(0), *point["prediction"]]),
            "branch": point["branch"],
        }
        for name, point in points.items()
    }


def moment_rotation_error(
    model: Potential, configurations: Sequence[Configuration], seed: int = 0, batch_size: int = 16
) -> float:
    """Leftover symmetry error, eV/atom: RMS change of the energy when all moments of a structure are turned against
    the lattice by one random rotation. 0 for a model (and for exact data) without spin–orbit coupling.

    Non-magnetic structures have nothing to turn and are left out; without others the answer is 0.
    """
    magnetic = [configuration for configuration in configurations if configuration.branch != "NM"]
    generator = np.random.default_rng(seed)
    dtype = model.config.torch_dtype
    changes: list[float] = []
    for start in range(0, len(magnetic), batch_size):
        chunk = magnetic[start : start + batch_size]
        graph = _graph(chunk, model)
        device = graph.positions.device
        turn = torch.tensor(random_rotations(generator, len(chunk)), dtype=dtype, device=device)
        stay = torch.eye(3, dtype=dtype, device=device).expand(len(chunk), 3, 3)
        both = collate([graph, graph.rotated(stay, turn)])
        energies = _array(model(both, forces=False, stress=False, magnetic_forces=False)["energy"])
        sizes = np.array([len(configuration) for configuration in chunk])
        changes.extend((energies[len(chunk) :] - energies[: len(chunk)]) / sizes)
    return float(np.sqrt(np.mean(np.square(changes)))) if changes else 0.0


def batch_errors(output: dict[str, torch.Tensor], batch: Batch, sums: ErrorSums) -> None:
    """Adds the errors of one evaluated batch to ``sums``; for validation, where graphs are at hand."""
    sums.count += batch.num_structures
    atoms = batch.graph.structure
    for label in LABELS:
        predicted = output.get(label.name)
        if predicted is None or not batch.present[label.name]:
            continue
        error = (predicted - batch.labels[label.name]).detach()
        if label is ENERGY:
            error = error / batch.graph.num_atoms.to(error.dtype)
        known = batch.weights[label.name] > 0
        sums.add(label.name, error[known if label in (ENERGY, STRESS) else known[atoms]].cpu().numpy())
    if ANISOTROPY in output and batch.directions is not None:
        labels = batch.directions
        error = labels.relative(output[ANISOTROPY]) - labels.relative(labels.energies)
        error = error / batch.graph.num_atoms[labels.structure].to(error.dtype)
        sums.add(ANISOTROPY, error[labels.weight[labels.structure] > 0].cpu().numpy())


def _anisotropy(model: Potential, configuration: Configuration) -> np.ndarray | None:
    """E_A [D], eV per cell, relative to its mean, where the configuration names directions."""
    if configuration.directions is None or not model.config.rules.magnetic:
        return None
    energies = direction_energies(model, configuration.to_atoms(), configuration.directions)
    return energies - energies.mean()


def _graph(configurations: Sequence[Configuration], model: Potential) -> Graph:
    """One batch, every structure with its head. Raises `UserError` for an unknown head or element."""
    config = model.config
    return collate(
        [
            build_graph(
                configuration.to_atoms(),
                config.elements,
                config.r_max,
                dtype=config.torch_dtype,
                head=head_index(configuration, config.heads),
            )
            for configuration in configurations
        ]
    ).to(device=next(model.parameters()).device)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
