"""What a set of configurations is like: counts, labels, magnetic classes, ranges and histograms."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mmace.fields import LABELS, MAGNETIC_FORCES
from mmace.train.configuration import CLASSES, Configuration, magnetic_class

QUANTITIES = ("moment", "force", "magnetic_force")  # lengths per atom, by element


class DataStatistics:
    """Grows with every configuration. Per atom only lengths are kept, so that large sets fit."""

    def __init__(self, configurations: Iterable[Configuration] = ()) -> None:
        self.configurations = self.atoms = self.smallest = self.largest = 0
        self.labels: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.lengths: dict[str, dict[str, array[float]]] = {
            name: defaultdict(lambda: array("f")) for name in QUANTITIES
        }
        self.compositions: list[dict[int, int]] = []
        self.energies = array("d")  # eV, NaN where there is none
        self.volumes = array("d")  # Å³ per atom of periodic configurations
        self.stresses = array("d")  # largest component, eV/Å³
        self.info_keys: Counter[str] = Counter()
        for configuration in configurations:
            self.add(configuration)

    def add(self, configuration: Configuration) -> str:
        """Counts one more. Returns its magnetic class."""
        count = len(configuration)
        self.configurations += 1
        self.atoms += count
        self.smallest = min(self.smallest or count, count)
        self.largest = max(self.largest, count)
        for label in LABELS:
            self.labels[label.name] += getattr(configuration, label.name) is not None
        kind = magnetic_class(configuration.magmoms)
        self.classes[kind] += 1
        vectors = (configuration.magmoms, configuration.forces, configuration.magnetic_forces)
        numbers, counts = np.unique(configuration.numbers, return_counts=True)
        for name, values in zip(QUANTITIES, vectors, strict=True):
            if values is None:
                continue
            lengths = np.linalg.norm(values, axis=1).astype(np.float32)
            for number in numbers:
                self.lengths[name][chemical_symbols[number]].frombytes(
                    lengths[configuration.numbers == number].tobytes()
                )
        self.compositions.append(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        self.energies.append(math.nan if configuration.energy is None else configuration.energy)
        if configuration.pbc.all():
            self.volumes.append(abs(np.linalg.det(configuration.cell)) / count)
        if configuration.stress is not None:
            self.stresses.append(np.abs(configuration.stress).max())
        self.info_keys.update(configuration.info.keys())
        return kind

    @property
    def elements(self) -> dict[str, int]:
        """Element → number of atoms, in the order of the periodic table."""
        totals: Counter[int] = Counter()
        for composition in self.compositions:
            totals.update(composition)
        return {chemical_symbols[number]: totals[number] for number in sorted(totals)}

    def residual_energies(self) -> np.ndarray:
        """[configurations] eV per atom off the sum of one energy per element; NaN without energy.

        The energies per element have the smallest sum of absolute deviations, so that single wrong labels do not
        bend them.
        """
        energies = np.frombuffer(self.energies, dtype=float) if self.configurations else np.zeros(0)
        sizes = np.array([sum(composition.values()) for composition in self.compositions], dtype=float)
        there = np.isfinite(energies)
        residuals = np.full(len(energies), np.nan)
        if not there.any():
            return residuals
        numbers = sorted({number for composition in self.compositions for number in composition})
        matrix = np.array([[c.get(number, 0) for number in numbers] for c in self.compositions], dtype=float)
        matrix, target = matrix[there] / sizes[there, None], energies[there] / sizes[there]
        left, weights = target, np.ones(len(target))
        for _ in range(30):  # least squares, reweighted towards least absolute deviations
            solution = np.linalg.lstsq(matrix * weights[:, None], target * weights, rcond=None)[0]
            left = target - matrix @ solution
            weights = 1.0 / np.sqrt(np.maximum(np.abs(left), 1e-3))
        residuals[there] = left
        return residuals

    def per_element(self, name: str) -> dict[str, dict[str, float]]:
        """Element → least, mean and greatest length of a quantity."""
        return {
            element: {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}
            for element, values in self._sorted(name)
        }

    def _sorted(self, name: str) -> list[tuple[str, np.ndarray]]:
        values = self.lengths[name]
        return [(e, np.frombuffer(values[e], dtype=np.float32)) for e in self.elements if len(values.get(e, ()))]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON. eV, Å, μB."""
        residuals = self.residual_energies()
        return {
            "configurations": self.configurations,
            "atoms": self.atoms,
            "atoms_per_configuration": {"min": self.smallest, "max": self.largest},
            "elements": self.elements,
            "labels": {label.name: self.labels[label.name] for label in LABELS},
            "classes": {name: self.classes[name] for name in CLASSES},
            "class_fractions": {name: self.classes[name] / max(self.configurations, 1) for name in CLASSES},
            "moments": self.per_element("moment"),
            "forces": self.per_element("force"),
            MAGNETIC_FORCES.name: self.per_element("magnetic_force"),
            "energy_per_atom_off_elements": _range(residuals),
            "volume_per_atom": _range(np.array(self.volumes)),
            "largest_stress_component": _range(np.array(self.stresses)),
            "info_keys": dict(sorted(self.info_keys.items())),
        }

    def histograms(self, bins: int = 20) -> dict[str, dict[str, Any]]:
        """Title → edges, counts and unit, for every quantity that is there."""
        found = {
            "energy off the sum of elements": (self.residual_energies(), "eV/atom"),
            "volume": (np.array(self.volumes), "Å³/atom"),
        }
        for name, title, unit in (
            ("moment", "|m| of", "μB"),
            ("force", "|F| of", "eV/Å"),
            ("magnetic_force", "|magnetic force| of", "eV/μB"),
        ):
            found |= {f"{title} {element}": (values, unit) for element, values in self._sorted(name)}
        return {title: histogram(values, unit, bins) for title, (values, unit) in found.items() if _finite(values).size}


def histogram(values: np.ndarray, unit: str, bins: int) -> dict[str, Any]:
    """Edges and counts of evenly spaced bins over the range of the values."""
    values = _finite(values)
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):  # all the same: one bin around it
        return {"unit": unit, "edges": [low, high], "counts": [int(values.size)]}
    counts, edges = np.histogram(values.astype(float), bins=bins, range=(low, high))
    return {"unit": unit, "edges": edges.tolist(), "counts": counts.tolist()}


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _range(values: np.ndarray) -> dict[str, float] | None:
    values = _finite(values)
    return {"min": float(values.min()), "max": float(values.max())} if values.size else None
