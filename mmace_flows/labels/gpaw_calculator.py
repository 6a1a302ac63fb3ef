"""GPAW's calculator, set up so that the same calculation gives the same numbers to the last bit."""

from __future__ import annotations

from typing import Any

from mmace.errors import UserError
from mmace_flows.labels.gpaw_failures import one_line

NOT_INSTALLED = "GPAW is not installed; run 'make install' or 'pip install gpaw'"


def gpaw_calculator(*arguments: Any, **settings: Any) -> Any:
    """``GPAW(...)``. Raises UserError if GPAW is not there."""
    try:
        from gpaw import GPAW
        from gpaw.fftw import ESTIMATE, FFTWPlans
    except ImportError as error:
        raise UserError(f"{NOT_INSTALLED} (import failed: {one_line(error)})") from error
    # By default FFTW times several plans and takes the fastest, so that rounding differs from run to run. A loosely
    # converged SCF cycle makes visible differences of that, and models trained on the labels other models.
    FFTWPlans._overwrite_flags = ESTIMATE  # type: ignore[assignment]
    return GPAW(*arguments, **settings)
