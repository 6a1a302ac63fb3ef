"""Documents as a campaign would leave them, from formulas instead of DFT; for tests of what comes after DFT."""

from __future__ import annotations

import numpy as np

from mmace_flows.schemas.label import LabelDocument, label_key
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.base_cells import bain_structure
from mmace_flows.structures.moments import magnetic_state

SETTINGS = {"engine": "formula"}
STATE_ENERGY = {"NM": 0.30, "FM": 0.0, "AFM": 0.12}


def label_of(
    structure: MagneticStructure,
    state: str,
    operation: str = "distort",
    group: str = "train",
    iteration: int = 0,
    **changes: object,
) -> LabelDocument:
    """A converged label whose energy depends on c/a and state, with harmonic forces."""
    positions = np.asarray(structure.positions)
    cell = np.asarray(structure.cell)
    ratio = cell[2, 2] / 2 / np.sqrt(abs(np.linalg.det(cell[:2, :2])))
    energy = 4 * (-8.0 + STATE_ENERGY[state] + 0.3 * (ratio - 1.3) ** 2)
    ideal = np.array([[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]]) @ cell
    document = {
        "label_key": label_key(structure, "formula", SETTINGS),
        "status": "converged",
        "structure": structure,
        "energy": energy,
        "free_energy": energy,
        "forces": (-2.0 * (positions - ideal)).tolist(),
        "stress": (0.01 * np.eye(3)).tolist(),
        "magmoms": structure.magmoms,
        "magnetic_state_asked": state,
        "magnetic_state_reached": magnetic_state(structure.magmoms),
        "ordering_changed": False,
        "engine": "formula",
        "engine_version": "1",
        "settings": SETTINGS,
        "wall_seconds": 10.0,
        "created": "2026-01-01T00:00:00Z",
        "code_version": "0",
        "candidate": Candidate(
            structure=structure, operation=operation, magnetic_state=state, group=group, iteration=iteration,
            details={"c_over_a": float(ratio)},
        ),
    }  # fmt: skip
    return LabelDocument(**{**document, **changes})


def moved(structure: MagneticStructure, seed: int, sigma: float = 0.05) -> MagneticStructure:
    """``structure`` with Gaussian displacements."""
    noise = np.random.default_rng(seed).normal(0.0, sigma, (len(structure.symbols), 3))
    return structure.model_copy(update={"positions": (np.asarray(structure.positions) + noise).tolist()})


def training_labels(count: int = 6) -> list[LabelDocument]:
    """``count`` distorted structures in each of NM, FM, AFM."""
    return [
        label_of(moved(bain_structure(11.4 + 0.2 * index, 1.0 + 0.08 * index, state), 10 * index), state)
        for index in range(count)
        for state in ("NM", "FM", "AFM")
    ]


def bain_labels(ratios: tuple[float, ...] = (0.95, 1.1, 1.25, 1.4)) -> list[LabelDocument]:
    """Undistorted structures along the path."""
    return [
        label_of(bain_structure(11.4, ratio, state), state, "bain", "bain")
        for ratio in ratios
        for state in ("NM", "FM", "AFM")
    ]
