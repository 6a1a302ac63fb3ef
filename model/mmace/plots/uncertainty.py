"""Are the error bars honest? Reliability, and errors against their standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmace.fields import BRANCHES
from mmace.plots.style import COLOURS, INK, STATE_COLOURS, STATE_MARKERS, STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def calibration_figure(errors: np.ndarray, sigmas: np.ndarray, branches: Sequence[str], title: str) -> Figure:
    """Left: observed against expected confidence. Right: |error| against σ, with their means in bins.

    Parameters: ``errors`` and ``sigmas`` [n] of the energy per atom, eV; ``branches`` n magnetic branches.
    """
    import matplotlib

    from mmace.uncertainty.calibration import agreement, binned, reliability

    values = agreement(errors, sigmas)
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = new_figure(8.0, 3.8, 1, 2)
        expected, observed = reliability(errors, sigmas)
        left.plot([0, 1], [0, 1], color=INK, linewidth=0.8, alpha=0.6)
        left.plot(expected, observed, color=COLOURS[0])
        left.fill_between(expected, expected, observed, color=COLOURS[0], alpha=0.2, linewidth=0)
        left.set_xlabel("expected fraction within the interval")
        left.set_ylabel("observed fraction")
        left.annotate(
            f"within σ {100 * values.coverage_68:.0f} % (68)\nwithin 2σ {100 * values.coverage_95:.0f} % (95)\n"
            f"area {values.miscalibration_area:.3f}",
            (0.04, 0.96), xycoords="axes fraction", va="top", fontsize=9,
        )  # fmt: skip
        absolute = np.maximum(np.abs(errors), 1e-3 * np.median(np.abs(errors)) + 1e-12)
        named = np.asarray(branches)
        for branch in BRANCHES:
            chosen = named == branch
            if chosen.any():
                right.plot(
                    1000 * sigmas[chosen], 1000 * absolute[chosen], STATE_MARKERS[branch], markersize=3.5, alpha=0.5,
                    markeredgewidth=0, color=STATE_COLOURS[branch], label=branch,
                )  # fmt: skip
        centre, error = binned(errors, sigmas)
        right.plot(1000 * centre, 1000 * error, "-", color=INK, marker="D", markersize=4, label="RMS in bins")
        low, high = 1000 * sigmas.min(), 1000 * sigmas.max()
        right.plot([low, high], [low, high], color=INK, linewidth=0.8, alpha=0.6)
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_xlabel("predicted σ (meV/atom)")
        right.set_ylabel("|error| of the energy (meV/atom)")
        right.legend(loc="lower right")
        figure.suptitle(title, fontsize=11)
    return figure
