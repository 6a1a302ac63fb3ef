"""Fits of one-body magnetic energies, judged, and kept in a JSON file that training takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmace.checkpoint import write_atomically
from mmace.errors import UserError, unknown_key_message
from mmace.one_body import PIECES, OneBodyCurve, fit_chebyshev, fit_spline
from mmace.one_body_data import AtomGrid

FORMAT = "mmace-one-body"
VERSION = 1
METHODS = ("chebyshev", "spline")
FAR = 3.0  # the tail is judged up to this many times the largest moment


@dataclass(frozen=True)
class FitOptions:
    """How curves are fitted; each method looks at its own. Defaults are those of `mmace.one_body`."""

    method: str = "spline"
    m_max: float | None = None  # μB, of the Chebyshev variable; None: 1.2·max|m| + 0.1
    degree: int = 8
    strength: float = 1e-8
    power: int = 4
    knots: int = 16
    smoothness: float = 1e-4


@dataclass(frozen=True)
class OneBodyFit:
    """A fitted curve and what it was fitted to. n energies."""

    method: str
    moments: np.ndarray  # [n] μB
    energies: np.ndarray  # [n] eV
    curve: OneBodyCurve  # zero at m = 0
    atomic_energy: float  # eV: energy of the atom at m = 0 by the fit; the E0 that belongs to the curve
    left_out_rms: float | None  # eV: error at each point of the fit to the others; None with too few points

    @property
    def residuals(self) -> np.ndarray:
        """[n] eV: fit − data."""
        return self.curve(self.moments) + self.atomic_energy - self.energies

    @property
    def falls_at_end(self) -> bool:
        """Do the energies still fall at the largest moment? Then the minimum lies outside the data."""
        end = float(self.moments.max())
        low, high = self.curve([0.98 * end, end])
        return bool(high < low)

    @property
    def rises_from(self) -> float | None:
        """|m|, μB, from which the curve rises all the way; None if it does not: a moment could run away."""
        end = float(self.moments.max())
        grid = np.linspace(0.0, FAR * end, 3001)
        falling = np.flatnonzero(np.diff(self.curve(grid)) <= 0)
        last = int(falling[-1]) + 1 if falling.size else 0
        return float(grid[last]) if last < grid.size - 1 else None


def fit_one_body(grid: AtomGrid, options: FitOptions, element: str = "element") -> OneBodyFit:
    """Fits one element. Raises UserError, naming ``element``, for options or data that cannot be fitted."""
    if options.method not in METHODS:
        raise UserError(unknown_key_message(options.method, METHODS, "fit-one-body: method"))
    for name, good in (
        ("m_max", options.m_max is None or options.m_max > 0),
        ("degree", options.degree >= 1),
        ("strength", options.strength >= 0),
        ("power", options.power >= 0),
        ("knots", options.knots >= 4),
        ("smoothness", options.smoothness > 0),
    ):
        if not good:
            raise UserError(f"fit-one-body: {name} is {getattr(options, name)}; give a larger number")
    fit = _fitter(options, float(grid.moments.max(initial=0.0)))
    try:
        curve = fit(grid.moments, grid.energies)
    except UserError as error:
        raise UserError(f"{element}: {error}") from None
    except np.linalg.LinAlgError:
        raise UserError(
            f"{element}: {len(grid.moments)} energies do not fix the curve; give more, or raise --strength"
        ) from None
    zero = float(np.mean(grid.energies - curve(grid.moments)))
    return OneBodyFit(options.method, grid.moments, grid.energies, curve, zero, _left_out(grid, fit))


def _fitter(options: FitOptions, largest: float) -> Callable[[np.ndarray, np.ndarray], OneBodyCurve]:
    if options.method == "spline":
        return lambda m, e: fit_spline(m.tolist(), e.tolist(), options.knots, options.smoothness)
    m_max = options.m_max or 1.2 * largest + 0.1
    return lambda m, e: fit_chebyshev(m.tolist(), e.tolist(), m_max, options.degree, options.strength, options.power)


def _left_out(grid: AtomGrid, fit: Callable[[np.ndarray, np.ndarray], OneBodyCurve]) -> float | None:
    """RMS error at inner points of the fits that have not seen them."""
    errors = []
    inner = (grid.moments > grid.moments.min()) & (grid.moments < grid.moments.max())
    for index in np.flatnonzero(inner):
        keep = np.arange(len(grid.moments)) != index
        try:
            curve = fit(grid.moments[keep], grid.energies[keep])
        except (UserError, np.linalg.LinAlgError):
            return None
        zero = float(np.mean(grid.energies[keep] - curve(grid.moments[keep])))
        errors.append(float(curve([grid.moments[index]])[0]) + zero - grid.energies[index])
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None


def save_one_body(fits: Mapping[str, OneBodyFit], path: str | Path) -> Path:
    """Writes the fits of all elements. Raises UserError when the file cannot be written."""
    path = Path(path)
    elements = {
        element: {
            "method": fit.method,
            "atomic_energy": fit.atomic_energy,
            "moments": fit.moments.tolist(),
            "energies": fit.energies.tolist(),
            "residual_rms": float(np.sqrt(np.mean(fit.residuals**2))),
            "curve": curve_to_dict(fit.curve),
        }
        for element, fit in fits.items()
    }
    units = {"moments": "μB", "energies": "eV", "curve": "eV, pieces in m² of equal width (μB²)"}
    data = {"format": FORMAT, "version": VERSION, "units": units, "elements": elements}
    write_atomically(path, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def load_one_body(path: str | Path) -> dict[str, dict[str, Any]]:
    """Element → {width, coefficients}, the value of the training setting ``one_body``.

    Raises UserError for a file that is missing, damaged or of another kind.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path}: not a file of one-body energies; give the one that `mmace fit-one-body` wrote")
    if data.get("version") != VERSION:
        raise UserError(f"{path}: written by another version (format {data.get('version')}, known {VERSION})")
    found = {}
    for element, entry in (data.get("elements") or {}).items():
        curve = entry.get("curve") if isinstance(entry, dict) else None
        found[str(element)] = curve_to_dict(curve_from_dict(curve, f"{path}: {element}"))
    return found


def curve_to_dict(curve: OneBodyCurve) -> dict[str, Any]:
    """Plain numbers."""
    return {"width": curve.width, "coefficients": np.asarray(curve.coefficients).tolist()}


def curve_from_dict(data: Any, where: str) -> OneBodyCurve:
    """From `curve_to_dict`. Raises UserError, beginning with ``where``, for anything else."""
    try:
        width, coefficients = float(data["width"]), np.array(data["coefficients"], dtype=float)
        if coefficients.shape != (PIECES, 4) or not np.isfinite(coefficients).all() or not width > 0:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{where}: not a one-body curve (width and {PIECES} × 4 coefficients); write it with `mmace fit-one-body`"
        ) from None
    return OneBodyCurve(width, coefficients)
