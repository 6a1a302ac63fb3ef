"""A structure in a magnetic state to start from, its atoms and cell untouched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import Candidate, MagneticState, MagneticStructure
from mmace_flows.structures.moments import NONMAGNETIC_BELOW, magnetic_state
from mmace_flows.structures.starting_moments import moment_lengths

STATES: tuple[MagneticState, ...] = ("NM", "FM", "AFM")
SAME_LAYER = 0.5  # Å: atoms that lie closer along the normal belong to one layer


def state_names(words: Sequence[str]) -> list[MagneticState]:
    """["FM", "AFM"] of ["fm", "afm"]. Raises UserError for a state that has no start."""
    found: list[MagneticState] = []
    for word in words:
        known = [state for state in STATES if state.lower() == word.lower()]
        if not known:
            raise UserError(f"--state {word}: no start for this state; known: {', '.join(STATES).lower()}")
        found += known
    return list(dict.fromkeys(found))


def in_state(candidate: Candidate, state: MagneticState) -> Candidate:
    """The candidate with moments along z in ``state``: none, all up, or layers up and down.

    Lengths are those that the structure has, else by element (`moment_lengths`). AFM: the layers of each element along
    the first of c, b and a for which alternating signs give no total moment. Raises UserError if there is none, or if
    nothing is magnetic.
    """
    structure = candidate.structure
    lengths = np.zeros(len(structure.symbols)) if state == "NM" else moment_lengths(structure)
    signs = np.ones(len(lengths)) if state != "AFM" else _alternating(structure, lengths)
    moments = np.zeros((len(lengths), 3))
    moments[:, 2] = signs * lengths
    started = structure.model_copy(update={"magmoms": (moments + 0.0).tolist()})
    return candidate.model_copy(update={"structure": started, "magnetic_state": state})


def _alternating(structure: MagneticStructure, lengths: np.ndarray) -> np.ndarray:
    cell = np.asarray(structure.cell, dtype=float)
    if abs(np.linalg.det(cell)) < 1e-6:
        raise UserError("--state afm: the structure has no cell to find layers in; give moments in the file")
    reciprocal = np.linalg.inv(cell).T
    places = np.asarray(structure.positions, dtype=float) @ reciprocal.T
    symbols = np.asarray(structure.symbols)
    for direction in (2, 1, 0):
        height = 1.0 / float(np.linalg.norm(reciprocal[direction]))
        signs = np.ones(len(lengths))
        for element in sorted(set(structure.symbols)):
            atoms = np.flatnonzero((symbols == element) & (lengths >= NONMAGNETIC_BELOW))
            if len(atoms):
                signs[atoms] = 1.0 - 2.0 * (_layers(places[atoms, direction] * height, height) % 2)
        along = np.zeros((len(lengths), 3))
        along[:, 2] = signs * lengths
        if magnetic_state(along) == "AFM":
            return signs
    raise UserError(
        "--state afm: in this cell no alternating layers have a total moment of zero; make a supercell, or orderings "
        "with `mmace structures enumerate`"
    )


def _layers(heights: np.ndarray, period: float) -> np.ndarray:
    """Number of each atom's layer, from the bottom. ``heights`` [n] Å along a normal, periodic with ``period``."""
    # atoms just below the top belong to the layer at the bottom
    wrapped = np.mod(heights + 0.5 * SAME_LAYER, period)
    order = np.argsort(wrapped)
    layers = np.zeros(len(heights), dtype=int)
    steps = np.diff(wrapped[order]) > SAME_LAYER
    layers[order[1:]] = np.cumsum(steps)
    return layers
