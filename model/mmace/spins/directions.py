"""Functions of a rigid rotation of all moments, and how few values decide all others.

An energy as a function of the rotation Q is smooth: it lies nearly in a space of small dimension. For collinear
moments along n that is the spherical harmonics Y_L(Q·n), else the elements of the matrices D_L(Q), L up to some degree.
Energies even in all moments have even L only for collinear moments; for others odd L are there too, but often small.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import sph_harm_y

from mmace.harmonics import recursion

CHECKS = 24  # values held back from each fit
SAMPLES = 1.25  # values per function
RIDGE = 1e-12  # of the mean square: rotations that lie on a curve leave functions undecided
ACCEPTED = 1.5e-7  # root mean square of the errors at the held-back values, of the spread of all values known
WORTH = 0.8  # a fit that needs a larger share of the values is not worth its trouble


class RotationFunctions:
    """The functions at ``rotations`` [B,3,3], by degree, for moments [N,3]."""

    def __init__(self, magmoms: np.ndarray, rotations: np.ndarray) -> None:
        self.axis = common_axis(magmoms)
        self.rotations = rotations
        self._matrices = [torch.ones(len(rotations), 1, 1, dtype=torch.float64)]
        if self.axis is not None:
            x, y, z = (rotations @ self.axis).T
            self._angles = np.arccos(np.clip(z, -1.0, 1.0)), np.arctan2(y, x)

    def count(self, degrees: list[int]) -> int:
        """Number of functions."""
        return sum((2 * L + 1) ** (2 if self.axis is None else 1) for L in degrees)

    def values(self, degrees: list[int]) -> np.ndarray:
        """[B, count], each of mean square one over all rotations."""
        return np.concatenate([self._degree(L) for L in degrees], axis=1)

    def _degree(self, L: int) -> np.ndarray:
        if self.axis is None:
            while len(self._matrices) <= L:
                self._matrices.append(_next_matrices(len(self._matrices), self._matrices[-1], self.rotations))
            return np.sqrt(2 * L + 1) * self._matrices[L].flatten(1).numpy()
        columns = []
        for m in range(L + 1):
            value = np.sqrt(4 * np.pi) * sph_harm_y(L, m, *self._angles)
            columns += [np.sqrt(2) * value.real, np.sqrt(2) * value.imag] if m else [value.real]
        return np.stack(columns, axis=1)


def from_few(
    functions: RotationFunctions, evaluate: Callable[[np.ndarray], np.ndarray], even: bool, noise: float
) -> np.ndarray:
    """Values [B] at all rotations, most of them from a fit to a few where that is exact enough.

    ``evaluate``: values at the rotations of these numbers; ``even``: values are even in all moments; ``noise``: their
    rounding. The degree of the fit grows until values held back from it come out with errors, root mean square, below
    ACCEPTED of the spread, or below ``noise``; where that would take nearly all values, all are evaluated.
    """
    total = len(functions.rotations)
    order = np.random.default_rng(0).permutation(total)
    known = np.empty(0)

    def need(degrees: list[int]) -> int:
        return int(SAMPLES * functions.count(degrees)) + CHECKS

    def degrees_to(top: int, all_degrees: bool) -> list[int]:
        return list(range(0, top + 1, 1 if all_degrees else 2))

    def evaluate_to(number: int) -> np.ndarray:
        return np.concatenate([known, evaluate(order[len(known) : number])])

    all_degrees, top, before = not even, 2, np.inf
    while need(degrees := degrees_to(top, all_degrees)) <= WORTH * total:
        known = evaluate_to(max(need(degrees), len(known)))
        matrix = functions.values(degrees)
        fitted, held = np.split(np.arange(len(known)), [len(known) - CHECKS])
        mean = known.mean()
        chosen = matrix[order[fitted]]
        normal = chosen.T @ chosen
        normal[np.diag_indices_from(normal)] += RIDGE * len(fitted)
        solution = np.linalg.solve(normal, chosen.T @ (known[fitted] - mean))
        errors = matrix[order[held]] @ solution + mean - known[held]
        error = float(np.sqrt(np.mean(errors**2)))
        wanted = max(ACCEPTED * np.ptp(known), noise)
        if error <= wanted:
            out = matrix @ solution + mean
            out[order[: len(known)]] = known
            return out
        if not all_degrees and functions.axis is None and error > 0.3 * before:
            all_degrees, before = True, np.inf  # even degrees alone lead no further
            continue
        largest = top
        while need(degrees_to(largest + 2, all_degrees)) <= WORTH * total:
            largest += 2
        if np.isfinite(before) and error * (error / before) ** ((largest - top) // 2) > 30 * wanted:
            break
        top, before = top + 2, error
    out = np.empty(total)
    out[order] = evaluate_to(total)
    return out


def _next_matrices(degree: int, below: torch.Tensor, rotations: np.ndarray) -> torch.Tensor:
    """D_l [B,2l+1,2l+1] from D_{l−1}; see `mmace.harmonics.rotation_matrices`."""
    matrix = torch.as_tensor(recursion(degree)).reshape(2 * degree - 1, 3, -1)
    half = torch.einsum("bxy,jyo->bxjo", torch.as_tensor(rotations), matrix)
    product = torch.bmm(below, half.transpose(1, 2).flatten(2))  # [B, i, (x, o)]
    product = product.reshape(len(below), 2 * degree - 1, 3, -1).flatten(1, 2)
    return torch.matmul(matrix.flatten(0, 1).T, product) / float((matrix * matrix).sum((0, 1))[0])


def common_axis(magmoms: np.ndarray) -> np.ndarray | None:
    """Unit vector along which all moments lie, up to their sign; None for non-collinear moments."""
    lengths = np.linalg.norm(magmoms, axis=1)
    if not lengths.any():
        return np.array([0.0, 0.0, 1.0])
    axis = magmoms[lengths.argmax()] / lengths.max()
    return axis if np.linalg.norm(np.cross(magmoms, axis)) < 1e-10 * lengths.max() else None
