"""Sizes of uncertainties fitted to errors that were seen, and how well the two then agree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import erf, erfinv

from mmace.errors import UserError

LEVELS = np.linspace(0.0, 1.0, 101)  # confidence levels of the reliability curve
LEAST = 3  # errors that a scale is fitted to, at least
LARGEST_POWER = 3.0


@dataclass(frozen=True)
class Calibration:
    """σ = scale · unit · (s/unit)^power: from a raw spread s to a standard deviation σ, in one unit (eV/atom)."""

    scale: float = 1.0
    power: float = 1.0
    unit: float = 1.0  # where the power law turns: the geometric mean of the spreads it was fitted to

    def __call__(self, spread: Any) -> Any:
        """``spread`` of any shape, array or tensor; keeps its kind."""
        if self.power == 1.0:
            return self.scale * spread
        return self.scale * self.unit * (spread / self.unit) ** self.power

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Agreement:
    """How well standard deviations describe errors. A perfect Gaussian has 0.683, 0.954 and an area of 0."""

    count: int
    coverage_68: float  # fraction of errors within σ
    coverage_95: float  # fraction of errors within 2σ
    miscalibration_area: float  # ∫ |observed − expected fraction| over confidence levels; 0 to 0.5
    nll: float  # mean negative log-likelihood of the errors, with them in eV (per atom)
    rank_correlation: float  # Spearman's ρ of σ and |error|: does it know which predictions are bad?

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def _checked(errors: Any, spreads: Any) -> tuple[np.ndarray, np.ndarray]:
    e, s = np.asarray(errors, dtype=float).ravel(), np.asarray(spreads, dtype=float).ravel()
    if e.shape != s.shape:
        raise UserError(f"calibration: {e.size} errors and {s.size} uncertainties; give one for one")
    if e.size < LEAST:
        raise UserError(f"calibration: {e.size} errors; at least {LEAST} labelled structures are needed")
    if not (np.isfinite(e).all() and np.isfinite(s).all() and (s >= 0).all()):
        raise UserError("calibration: errors and uncertainties must be finite, and uncertainties not negative")
    return e, s


def calibrate(errors: Any, spreads: Any, power_law: bool = False) -> Calibration:
    """Scale (and power) under which Gaussians of width σ(spread) make ``errors`` most likely.

    One scale has a closed form, √⟨(e/s)²⟩. With a power the likelihood is maximised over the power, the scale following
    it. Raises UserError for fewer than three errors, or spreads that are all zero.
    """
    e, s = _checked(errors, spreads)
    if not s.max() > 0:
        raise UserError("calibration: all uncertainties are zero; the members or features do not differ")
    s = np.maximum(s, 1e-6 * s.max())  # an exact zero would call any error impossible
    if not power_law:
        return Calibration(float(np.sqrt(np.mean((e / s) ** 2))))
    from scipy.optimize import minimize_scalar

    unit = float(np.exp(np.mean(np.log(s))))
    logs = np.log(s / unit)

    def squared_scale(power: float) -> float:
        return float(np.mean((e / unit) ** 2 * np.exp(-2.0 * power * logs)))

    # the likelihood with the best scale put in: ½ log(scale²) + power·⟨log s⟩, and ⟨log s/unit⟩ = 0
    found = minimize_scalar(lambda p: np.log(squared_scale(p) + 1e-300), bounds=(0.0, LARGEST_POWER), method="bounded")
    return Calibration(float(np.sqrt(squared_scale(found.x))), float(found.x), unit)


def agreement(errors: Any, sigmas: Any) -> Agreement:
    """How well standard deviations ``sigmas`` describe ``errors``. Raises UserError as `calibrate` does."""
    from scipy.stats import spearmanr

    e, s = _checked(errors, sigmas)
    s = np.maximum(s, 1e-6 * s.max(initial=0.0) + 1e-300)
    z = np.abs(e) / s
    expected, observed = reliability(e, s)
    constant = np.ptp(s) == 0 or np.ptp(e) == 0
    return Agreement(
        count=e.size,
        coverage_68=float(np.mean(z <= 1.0)),
        coverage_95=float(np.mean(z <= 2.0)),
        miscalibration_area=float(np.trapezoid(np.abs(observed - expected), expected)),
        nll=float(np.mean(0.5 * z**2 + np.log(s) + 0.5 * np.log(2.0 * np.pi))),
        rank_correlation=0.0 if constant else float(spearmanr(s, np.abs(e)).statistic),
    )


def reliability(errors: np.ndarray, sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence levels, and the fraction of errors inside the central interval of each level."""
    inside = np.sort(erf(np.abs(errors) / np.maximum(sigmas, 1e-300) / np.sqrt(2.0)))
    return LEVELS, np.searchsorted(inside, LEVELS, side="right") / inside.size


def interval(level: float) -> float:
    """Half width, in σ, of the central interval that holds ``level`` of a Gaussian."""
    return float(np.sqrt(2.0) * erfinv(level))


def binned(errors: np.ndarray, sigmas: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square of σ and of the errors in bins of equal numbers, by growing σ: on a straight line if right."""
    parts = np.array_split(np.argsort(sigmas, kind="stable"), min(bins, max(1, len(sigmas) // 5)))
    return (
        np.array([np.sqrt(np.mean(sigmas[part] ** 2)) for part in parts]),
        np.array([np.sqrt(np.mean(errors[part] ** 2)) for part in parts]),
    )
