"""What is a polynomial of a rigid rotation of all moments, known at all rotations from few: exactly, without a guess.

R_l(Q·m) = D_l(Q)·R_l(m), and up to the features of the first layer nothing but products is made of it: ν factors A
with R of degree l_mag at most, and one of the atom's own moment. So each component of each feature is a sum of elements
of D_L(Q), or for collinear moments of harmonics Y_L(Q·n), with L ≤ (ν + 1) l_mag and no more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmace.spins.directions import CHECKS, SAMPLES, RotationFunctions

PAYS = 0.5  # share of the rotations that may be needed
LARGEST = 2**26  # numbers held at once; half a gigabyte
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}  # of the largest value, at rotations that were held back


class RotationPolynomials:
    """Values [B, F] at the rotations of ``functions``, of degree ``top`` at most."""

    def __init__(self, functions: RotationFunctions, degrees: list[int], values: Tensor, chosen: np.ndarray) -> None:
        self._matrix = functions.values(degrees)
        held = len(chosen) - CHECKS
        known = values.detach().cpu().double().numpy()
        coefficients = np.linalg.lstsq(self._matrix[chosen[:held]], known[:held], rcond=None)[0]
        errors = self._matrix[chosen[held:]] @ coefficients - known[held:]
        self.error = float(np.abs(errors).max() / max(np.abs(known).max(), np.finfo(float).tiny))
        self._coefficients = torch.as_tensor(coefficients).to(values)

    def __call__(self, numbers: np.ndarray) -> Tensor:
        """[n, F] at the rotations of these numbers."""
        return torch.as_tensor(self._matrix[numbers]).to(self._coefficients) @ self._coefficients


def polynomials(
    functions: RotationFunctions, top: int, even: bool, width: int, compute: Callable[[np.ndarray], Tensor]
) -> RotationPolynomials | None:
    """Polynomials of degree ``top``, or None where that does not pay or, against the mathematics, is not exact.

    ``compute``: values [n, ``width``] at the rotations of these numbers; ``even``: they are even in all moments, so
    that for collinear ones no odd degree is in them.
    """
    total = len(functions.rotations)
    degrees = list(range(0, top + 1, 2 if even and functions.axis is not None else 1))
    needed = int(SAMPLES * functions.count(degrees)) + CHECKS
    if needed > PAYS * total or needed * width > LARGEST:
        return None
    chosen = np.random.default_rng(0).permutation(total)[:needed]
    values = compute(chosen)
    found = RotationPolynomials(functions, degrees, values, chosen)
    return found if found.error <= ROUNDING[values.dtype] else None
