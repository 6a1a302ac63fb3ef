"""Data sets of the accuracy benchmark: read where they lie, cut into training and test structures by a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace.train import Configuration, read_configurations

OWN = Path(__file__).resolve().parents[1] / "workflows" / "data"
TEST_FRACTION = 0.2  # where one file serves both


@dataclass(frozen=True)
class DataSet:
    """Files of one data set and what is particular about it."""

    train_file: str  # in the folder that is given, or a whole path
    test_file: str | None  # None: a part of the training file, chosen by seed
    elements: tuple[str, ...]
    r_max: float  # Å
    m_max: dict[str, float]  # μB; from the data where not given
    magnetic_scale: float  # what magnetic-force labels are multiplied by
    note: str


DATA_SETS = {
    "fe": DataSet(
        "fe_train.extxyz", "fe_valid.extxyz", ("Fe",), 4.5, {"Fe": 4.0}, 1.0,
        "Fe (Nikolov et al. 2021): bcc, hcp, strained, liquid, defects; no magnetic forces",
    ),
    "feni": DataSet(
        str(OWN / "feni.extxyz"), None, ("Fe", "Ni"), 5.0, {}, 1.0,
        "FeNi (workflows/data of this project): Bain path, distorted cells and held moments, NM, FM, AFM and FiM",
    ),
    "nio": DataSet(
        "nio_spin.extxyz", None, ("Ni", "O"), 5.0, {}, 1.285,
        "NiO (deepmd-kit examples): constrained non-collinear moments on a nearly frozen lattice; its magnetic forces "
        "are multiplied by 1.285, which makes them −∂E/∂m of its energies",
    ),
}  # fmt: skip


@dataclass
class Split:
    """Structures of one case, and where they stand in the files, for a program that reads them itself."""

    train: list[Configuration]
    test: list[Configuration]
    train_file: Path
    test_file: Path
    train_indices: list[int]
    test_indices: list[int]


class Reader:
    """Reads each file once. Raises UserError for a folder without the files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, list[Configuration]] = {}

    def _read(self, name: str) -> tuple[Path, list[Configuration]]:
        path = (self.folder / name).resolve()
        if not path.exists():
            raise UserError(f"{path}: no such file; give the folder with the data sets (--data FOLDER)")
        if path not in self._files:
            self._files[path] = read_configurations(path)
        return path, self._files[path]

    def split(self, name: str, count: int | None, seed: int, magnetic_scale: float | None = None) -> Split:
        """``count`` training structures (None: all) and the test structures of a data set.

        Smaller sets are parts of larger ones of the same seed. A fixed test file does not depend on the seed.
        """
        data = DATA_SETS[name]
        scale = data.magnetic_scale if magnetic_scale is None else magnetic_scale
        train_file, pool = self._read(data.train_file)
        order = np.random.default_rng([seed, 80]).permutation(len(pool)).tolist()
        if data.test_file is None:
            cut = round(TEST_FRACTION * len(pool))
            test_file, test_pool, test = train_file, pool, sorted(order[:cut])
            order = order[cut:]
        else:
            test_file, test_pool = self._read(data.test_file)
            test = list(range(len(test_pool)))
        if count is not None and count > len(order):
            raise UserError(f"{name}: {count} training structures asked for, {len(order)} are there")
        train = sorted(order[: count or len(order)])
        return Split(
            train=[scaled(pool[index], scale) for index in train],
            test=[scaled(test_pool[index], scale) for index in test],
            train_file=train_file,
            test_file=test_file,
            train_indices=train,
            test_indices=test,
        )


def scaled(configuration: Configuration, scale: float) -> Configuration:
    """Copy with magnetic forces multiplied by ``scale``."""
    if configuration.magnetic_forces is None or scale == 1.0:
        return configuration
    return replace(configuration, magnetic_forces=scale * configuration.magnetic_forces)


def label_spread(train: list[Configuration], test: list[Configuration]) -> list[Any]:
    """Predictions of somebody who knows nothing: mean energy per atom and mean stress of the training structures, no
    forces. Their errors are what any model has to beat."""
    from mmace.train.evaluate import Prediction

    energy = float(np.mean([c.energy / len(c) for c in train if c.energy is not None]))
    stresses = [c.stress for c in train if c.stress is not None]
    stress = np.mean(stresses, axis=0) if stresses else np.zeros((3, 3))
    return [Prediction(energy * len(c), np.zeros((len(c), 3)), stress, np.zeros((len(c), 3))) for c in test]


def magnetic_slope(predictions: list[Any], test: list[Configuration]) -> float | None:
    """The number a that makes predicted magnetic forces closest to a · label: 1 where labels belong to the energy."""
    pairs = [
        (p.magnetic_forces.ravel(), c.magnetic_forces.ravel())
        for p, c in zip(predictions, test, strict=True)
        if c.magnetic_forces is not None
    ]
    if not pairs:
        return None
    predicted, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return float(predicted @ labels / (labels @ labels)) if labels.any() else None
