"""Structures whose total moment DFT is to hold: moments between and beyond the self-consistent ones.

Self-consistent labels tell the energy of a few lengths of the moments only, and that it is stationary there. What the
energy does in between, and that it rises beyond, a potential has to learn from calculations at fixed spin moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import Candidate, MagneticState
from mmace_flows.structures.distort import DistortSettings, distort, spawn_seeds
from mmace_flows.structures.moments import as_vectors, common_axis, magnetic_state


def with_total_moment(magmoms: Any, total: float) -> np.ndarray:
    """Collinear moments [N,3] μB changed so that they add up to ``total`` μB along their axis.

    Each moment takes a share of what is missing in proportion to its length: the moments of a ferromagnet are scaled,
    and in an antiferromagnet one sublattice grows as the other one shrinks.
    Raises UserError for moments that are not along one axis, or are all zero.
    """
    moments = as_vectors(magmoms)
    axis = common_axis(moments)
    if axis is None or not np.any(moments):
        raise UserError("total moment: give moments along one axis that are not all zero")
    along = moments @ axis
    lengths = np.abs(along)
    return np.outer(along + lengths * (total - along.sum()) / lengths.sum(), axis) + 0.0


def fixed_moment_candidates(
    parents: Sequence[Candidate],
    fractions: Mapping[MagneticState, Sequence[float]],
    seed: int,
    settings: DistortSettings | None = None,
    group: str = "train",
) -> list[Candidate]:
    """Every parent, distorted, in the pattern of each state, with each total moment: a fraction of Σ|m|.

    ``details`` have ``total_magmom`` (μB). The engine has to be told to hold it (`GPAWSettings.fix_total_magmom`).
    """
    wanted = [(parent, state, one) for parent in parents for state, several in fractions.items() for one in several]
    candidates = []
    for (parent, state, fraction), own in zip(wanted, spawn_seeds(seed, len(wanted)), strict=True):
        made = distort(parent.structure, own, settings, state, operation="fixed moment", group=group)
        moments = as_vectors(made.structure.magmoms)
        total = fraction * float(np.linalg.norm(moments, axis=1).sum())
        moments = with_total_moment(moments, total)
        base = {name: parent.details[name] for name in ("base",) if name in parent.details}
        candidates.append(
            made.model_copy(
                update={
                    "structure": made.structure.model_copy(update={"magmoms": moments.tolist()}),
                    "magnetic_state": magnetic_state(moments),
                    "details": {**made.details, **base, "total_magmom": total},
                }
            )
        )
    return candidates
