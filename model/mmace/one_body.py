"""E0_mag(|m|): the energy of an isolated atom as a function of its moment [25, A1].

Fitted before, and apart from, the rest of the potential: gradient training of a one-dimensional function overfits it.
Two fits, both even in m and shifted to zero at m = 0, so that the potential without moments is the non-magnetic one.
Past the last data point the curve rises, whatever the data do at their end: a moment must not run away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import BSpline, CubicSpline
from torch import Tensor, nn

from mmace.errors import UserError

PIECES = 64  # cubic pieces a curve is stored in
LEAST_TAIL_CURVATURE = 0.05  # eV/μB⁴: how fast the tail turns upwards, at least


@dataclass(frozen=True)
class OneBodyCurve:
    """A curve in s = m²: cubic pieces of equal width on [0, PIECES·width], and a parabola behind.

    ``coefficients`` [PIECES, 4], constant term first, in the distance from the left end of the piece.
    """

    width: float  # μB²
    coefficients: np.ndarray

    @classmethod
    def sample(cls, function: Callable[[np.ndarray], np.ndarray], m_end: float) -> OneBodyCurve:
        """Pieces through a callable E(s), s in μB², on [0, m_end²], shifted to zero at s = 0.

        A function that still falls at its end is bent flat there: behind the data the curve must never fall, or moments
        would run away.
        """
        s = np.linspace(0.0, m_end**2, PIECES + 1)
        values = function(s)
        spline = CubicSpline(s, values - values[0], bc_type="not-a-knot")
        if spline(s[-1], 1) < 0:
            spline = CubicSpline(s, values - values[0], bc_type=("not-a-knot", (1, 0.0)))
        return cls(float(s[1]), spline.c[::-1].T.copy())

    def __call__(self, magnitudes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Energies, eV, at moments |m|, μB."""
        module = OneBody(1, torch.float64)
        module.set(0, self)
        s = torch.as_tensor(np.asarray(magnitudes, dtype=float) ** 2)
        return module(s, torch.zeros(s.shape, dtype=torch.int64)).numpy()


def _checked(magnitudes: Sequence[float], energies: Sequence[float], least: int) -> tuple[np.ndarray, np.ndarray]:
    m, e = np.abs(np.asarray(magnitudes, dtype=float)), np.asarray(energies, dtype=float)
    if m.shape != e.shape or m.ndim != 1:
        raise UserError(f"one-body fit: {m.size} moments and {e.size} energies; give one energy per moment")
    if not (np.isfinite(m).all() and np.isfinite(e).all()):
        raise UserError("one-body fit: moments and energies must be finite numbers; take the others out")
    if len(np.unique(m)) < least:
        raise UserError(f"one-body fit: {len(np.unique(m))} different moments; at least {least} are needed")
    return m, e


def fit_chebyshev(
    magnitudes: Sequence[float], energies: Sequence[float], m_max: float, degree: int = 8, strength: float = 1e-8,
    power: int = 4,
) -> OneBodyCurve:  # fmt: skip
    """Regularised least squares in T_k(1 − 2(m/m_max)²): (XᵀX + strength·Γ²) c = Xᵀy, Γ = diag(k^power + 1) [A1, A2].

    ``magnitudes`` μB, ``energies`` eV of one element at fixed spin moments. Raises UserError for unusable data.
    """
    m, e = _checked(magnitudes, energies, 2)
    if m.max() > m_max:
        raise UserError(f"one-body fit: a moment of {m.max():.3g} μB exceeds m_max = {m_max:.3g} μB; raise m_max")

    def basis(s: np.ndarray) -> np.ndarray:
        return np.polynomial.chebyshev.chebvander(1.0 - 2.0 * s / m_max**2, degree)

    design = basis(m**2)
    penalty = np.diag((np.arange(degree + 1.0) ** power + 1.0) ** 2)
    penalty[0, 0] = 0.0  # the constant is only the zero of energy
    coefficients = np.linalg.solve(design.T @ design + strength * penalty, design.T @ e)
    return OneBodyCurve.sample(lambda s: basis(s) @ coefficients, float(m.max()))


def fit_spline(
    magnitudes: Sequence[float], energies: Sequence[float], knots: int = 16, smoothness: float = 1e-4
) -> OneBodyCurve:
    """Even cubic spline E = f(m²) with a penalty on second differences of its coefficients [A3].

    ``magnitudes`` μB, ``energies`` eV. Raises UserError for unusable data.
    """
    m, e = _checked(magnitudes, energies, 2)
    top = float(m.max() ** 2)
    inner = np.linspace(0.0, top, knots)
    step = inner[1] - inner[0]
    grid = np.concatenate([inner[0] - step * np.arange(3, 0, -1), inner, inner[-1] + step * np.arange(1, 4)])
    design = BSpline.design_matrix(np.clip(m**2, 0.0, top), grid, 3).toarray()
    difference = np.diff(np.eye(design.shape[1]), n=2, axis=0)
    system = np.vstack([design, np.sqrt(smoothness) * difference])
    coefficients = np.linalg.lstsq(system, np.concatenate([e, np.zeros(len(difference))]), rcond=None)[0]
    return OneBodyCurve.sample(BSpline(grid, coefficients, 3), float(m.max()))


class OneBody(nn.Module):
    """E0_mag of every element, differentiable in m². Zero where no curve is set."""

    width: Tensor  # [elements] μB²
    coefficients: Tensor  # [elements, PIECES, 4]

    def __init__(self, elements: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("width", torch.ones(elements, dtype=dtype))
        self.register_buffer("coefficients", torch.zeros(elements, PIECES, 4, dtype=dtype))

    def set(self, element: int, curve: OneBodyCurve) -> None:
        """Take a fitted curve for the element with this index."""
        self.width[element] = curve.width
        self.coefficients[element] = torch.as_tensor(curve.coefficients, dtype=self.coefficients.dtype)

    def forward(self, squares: Tensor, species: Tensor) -> Tensor:
        """``squares`` |m|² [N] μB², ``species`` [N] → energies [N], eV."""
        if not bool(self.coefficients.any()):
            return torch.zeros_like(squares)
        width = self.width[species]
        end = width * PIECES
        inside = torch.minimum(squares, end)
        piece = (inside.detach() / width).floor().clamp(0, PIECES - 1).to(torch.int64)
        c = self.coefficients[species, piece]
        x = inside - piece * width
        value = c[:, 0] + x * (c[:, 1] + x * (c[:, 2] + x * c[:, 3]))
        # Behind the data: a parabola with the slope of the end, turned up within a piece if that slope falls.
        last = self.coefficients[species, PIECES - 1]
        slope = last[:, 1] + width * (2 * last[:, 2] + 3 * width * last[:, 3])
        known = (last != 0).any(1) | (slope != 0)
        curvature = torch.where(slope < 0, -slope / width, 0.0) + LEAST_TAIL_CURVATURE
        beyond = (squares - end).clamp(min=0.0)
        return value + torch.where(known, slope * beyond + curvature * beyond**2, 0.0)
