"""Patterns of moments, random changes of them, and the magnetic state that a set of moments is in."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticState

# Fe, Ni, Fe, Ni along c, in μB: the values of bcc Fe and of Ni, from which DFT starts
PATTERNS: dict[str, tuple[float, ...]] = {
    "NM": (0.0, 0.0, 0.0, 0.0),
    "FM": (2.2, 0.6, 2.2, 0.6),
    "AFM": (2.2, 0.6, -2.2, -0.6),
}

# The same thresholds as mmace.train.magnetic_branch (a test holds them together); repeated so that DFT workers need
# not import torch.
NONMAGNETIC_BELOW = 0.1  # μB: every moment smaller than this counts as none
INDUCED_FRACTION = 0.1  # moments under this fraction of the largest are induced and decide nothing
COLLINEAR_WITHIN = 5.0  # degrees off the common axis
COMPENSATED_BELOW = 0.1  # |Σm|/Σ|m| of an antiferromagnet


def as_vectors(magmoms: Any) -> np.ndarray:
    """Moments as [N,3] μB; a flat list of N numbers means along z. Raises ValueError for any other shape."""
    moments = np.asarray(magmoms, dtype=float)
    if moments.ndim == 1:
        moments = np.column_stack([np.zeros((len(moments), 2)), moments])
    if moments.ndim != 2 or moments.shape[1] != 3:
        raise ValueError(f"moments of shape {moments.shape}; expected (N,) or (N, 3)")
    return moments


def pattern_moments(state: str, num_atoms: int) -> np.ndarray:
    """[N,3] μB along z: the pattern of ``state``, repeated over a multiple of four atoms. UserError without one."""
    if state not in PATTERNS:
        raise UserError(f"magnetic state '{state}' has no pattern of moments; known: {', '.join(PATTERNS)}")
    pattern = PATTERNS[state]
    if num_atoms % len(pattern):
        raise UserError(
            f"the {state} pattern has {len(pattern)} atoms; a cell of {num_atoms} is not a multiple of that"
        )
    return as_vectors(pattern * (num_atoms // len(pattern)))


def flip_spins(magmoms: Any, generator: np.random.Generator, probability: float = 0.5) -> np.ndarray:
    """Each atom's moment reversed with ``probability``, independently. [N,3] μB."""
    moments = as_vectors(magmoms)
    flipped = generator.random(len(moments)) < probability
    return np.where(flipped[:, None], -moments, moments) + 0.0


def scale_moments(magmoms: Any, generator: np.random.Generator, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Each atom's moment times its own uniform factor from [low, high]. [N,3] μB."""
    moments = as_vectors(magmoms)
    return moments * generator.uniform(low, high, size=(len(moments), 1))


def common_axis(magmoms: Any, within: float = COLLINEAR_WITHIN) -> np.ndarray | None:
    """The unit vector that all moments lie along (either way), or None if one is more than ``within`` degrees off.

    The sign is chosen so that the largest component is positive; z for moments that are all zero.
    Only moments longer than ``NONMAGNETIC_BELOW`` can be off the axis by direction.
    """
    moments = as_vectors(magmoms)
    lengths = np.linalg.norm(moments, axis=1)
    if not np.any(lengths > 0.0):
        return np.array([0.0, 0.0, 1.0])
    axis = np.linalg.eigh(moments.T @ moments)[1][:, -1]
    axis = axis * np.sign(axis[np.argmax(np.abs(axis))])
    long = lengths >= NONMAGNETIC_BELOW
    if np.any(np.abs(moments[long] @ axis) < lengths[long] * np.cos(np.deg2rad(within))):
        return None
    return axis


def magnetic_state(magmoms: Any) -> MagneticState:
    """The state that moments are in: NM, FM, AFM, FiM or non-collinear.

    Only moments of at least 0.1 μB and a tenth of the largest count, so that small induced moments (Ni between
    antiparallel Fe layers) decide nothing. None left: NM. One more than 5° off the common axis: non-collinear.
    All the same way: FM. Both ways: AFM if |Σm|/Σ|m| ≤ 0.1 (compensated), FiM otherwise (partly compensated).
    ``mmace.train.magnetic_branch``, which errors are reported by, knows no FiM and puts these with FM or AFM.

    Parameters: ``magmoms`` (N,) along z or (N,3), μB.
    """
    moments = as_vectors(magmoms)
    lengths = np.linalg.norm(moments, axis=1)
    largest = lengths.max(initial=0.0)
    if largest < NONMAGNETIC_BELOW:
        return "NM"
    moments = moments[lengths >= max(NONMAGNETIC_BELOW, INDUCED_FRACTION * largest)]
    axis = common_axis(moments)
    if axis is None:
        return "non-collinear"
    along = moments @ axis
    if np.all(along > 0) or np.all(along < 0):
        return "FM"
    return "AFM" if abs(along.sum()) <= COMPENSATED_BELOW * np.abs(along).sum() else "FiM"
