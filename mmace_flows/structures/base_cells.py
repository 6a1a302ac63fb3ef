"""Base cells of the Bain path: ordered Fe–Ni–Fe–Ni layers along c, four atoms.

The cell is the body-centred tetragonal one (a, a, c) doubled along c: layers Fe (0,0,0), Ni (½,½,¼), Fe (0,0,½),
Ni (½,½,¾) of (a, a, 2c). c/a is that of the body-centred tetragonal cell: 1 is bcc (B2), √2 is fcc (L1_0). The doubling
gives room for the double-layer antiferromagnet, in which the two Fe layers point against each other.

The paper names a third base structure "with cell ratio a/c = 1.6". Its figure draws the Bain path over the same "a/c
ratio", on which bcc is 1 and fcc is √2, so it is read here as c/a = 1.6: just past fcc on the same axis. (Read
literally, c/a = 0.625 would lie far outside the range that the Bain path ever visits.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite, sqrt

import numpy as np
from ase import Atoms

from mmace.errors import UserError
from mmace_flows.schemas.structure import Candidate, MagneticState, MagneticStructure
from mmace_flows.structures.moments import pattern_moments

BCC_RATIO = 1.0
FCC_RATIO = sqrt(2.0)
BASE_RATIOS: dict[str, float] = {"fcc": FCC_RATIO, "bcc": BCC_RATIO, "bct1.6": 1.6}

FENI_VOLUME_PER_ATOM = 11.4  # Å³, near the PBE equilibrium of ferromagnetic fcc and bcc FeNi (a = 3.57, 3.59 Å)


def bain_structure(
    volume_per_atom: float,
    c_over_a: float,
    state: MagneticState,
    elements: Sequence[str] = ("Fe", "Ni"),
) -> MagneticStructure:
    """The four-atom layered cell at one point of the Bain path.

    Parameters: ``volume_per_atom`` Å³, ``c_over_a`` of the body-centred tetragonal cell, ``state`` NM, FM or AFM: the
    pattern of the initial moments, ``elements`` the two that alternate along c.
    Raises UserError for a volume or ratio that is not a positive number, or a state without a pattern.
    """
    for name, value in (("volume_per_atom", volume_per_atom), ("c_over_a", c_over_a)):
        if not (isfinite(value) and value > 0):
            raise UserError(f"Bain structure: {name} is {value}; give a positive number")
    first, second = elements
    a = (2.0 * volume_per_atom / c_over_a) ** (1.0 / 3.0)  # the tetragonal cell holds two atoms
    atoms = Atoms(
        [first, second, first, second],
        cell=np.diag([a, a, 2.0 * a * c_over_a]),
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]],
        pbc=True,
    )
    return MagneticStructure.from_atoms(atoms, pattern_moments(state, len(atoms)))


def tetragonal_ratio(cell: np.ndarray | list[list[float]], num_layers: int = 4) -> float:
    """c/a of the body-centred tetragonal cell, for a (strained) cell of ``num_layers`` layers along its third vector.

    The height of a pair of layers over the base, by the side of a square of the base's area: well defined for sheared
    cells too. ``cell`` [3,3] Å.
    """
    vectors = np.asarray(cell, dtype=float)
    area = float(np.linalg.norm(np.cross(vectors[0], vectors[1])))
    height = abs(float(np.linalg.det(vectors))) / area
    return height / (num_layers / 2) / sqrt(area)


def volume_per_atom(structure: MagneticStructure) -> float:
    """Å³ per atom."""
    return abs(float(np.linalg.det(np.asarray(structure.cell)))) / len(structure.symbols)


def base_candidates(
    volume: float = FENI_VOLUME_PER_ATOM,
    states: Iterable[MagneticState] = ("FM",),
    bases: Iterable[str] = tuple(BASE_RATIOS),
    group: str = "train",
) -> list[Candidate]:
    """The base cells, each in each state: parents of distortions and starts of relaxations.

    Parameters: ``volume`` Å³ per atom. Raises UserError for an unknown base.
    """
    candidates = []
    for base in bases:
        if base not in BASE_RATIOS:
            raise UserError(f"base cell '{base}' is unknown; known: {', '.join(BASE_RATIOS)}")
        for state in states:
            candidates.append(_candidate(volume, BASE_RATIOS[base], state, "base", group, {"base": base}))
    return candidates


def bain_candidates(
    ratios: Iterable[float],
    states: Iterable[MagneticState] = ("NM", "FM", "AFM"),
    volume: float = FENI_VOLUME_PER_ATOM,
    group: str = "bain",
) -> list[Candidate]:
    """Points of the Bain path at one volume per atom (Å³): every ratio in every state. Never trained on."""
    states = tuple(states)
    return [_candidate(volume, ratio, state, "bain", group, {}) for ratio in ratios for state in states]


def _candidate(
    volume: float, ratio: float, state: MagneticState, operation: str, group: str, details: dict[str, str]
) -> Candidate:
    return Candidate(
        structure=bain_structure(volume, ratio, state),
        operation=operation,
        magnetic_state=state,
        group=group,
        details={"c_over_a": float(ratio), "volume_per_atom": float(volume), "pattern": state, **details},
    )
