"""Energies of isolated atoms, their fits, and how these go on behind the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmace.plots.style import COLOURS, INK, STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmace.one_body_file import OneBodyFit

BEYOND = 1.3  # the curve is drawn to this many times the largest moment


def one_body_figure(fits: Mapping[str, OneBodyFit]) -> Figure:
    """Per element: the curve with the data on it, and the residuals below."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9 * len(fits), 5.0, 2, len(fits), sharex="col", height_ratios=[3, 1])
        for column, (element, fit) in enumerate(fits.items()):
            top, bottom = axes[column], axes[len(fits) + column]
            largest = float(np.max(fit.moments))
            grid = np.linspace(0.0, BEYOND * largest, 400)
            values = fit.curve(grid)
            inside = grid <= largest
            top.plot(grid[inside], values[inside], color=COLOURS[0], label=f"{fit.method} fit")
            top.plot(grid[~inside], values[~inside], color=COLOURS[0], linestyle=":", label="behind the data")
            top.plot(fit.moments, fit.energies - fit.atomic_energy, "o", color=COLOURS[4], markersize=5, label="data")
            low, high = float(values[inside].min()), float(values[inside].max())
            top.set_ylim(low - 0.1 * (high - low), high + (high - low))  # the tail may leave: its steepness is no data
            top.set_title(element)
            top.set_ylabel("E0_mag (eV)")
            top.legend()
            bottom.axhline(0.0, color=INK, linewidth=0.8, alpha=0.6)
            bottom.plot(fit.moments, 1000 * fit.residuals, "o", color=COLOURS[4], markersize=4)
            bottom.set_ylabel("residual (meV)")
            bottom.set_xlabel("|m| (μB)")
    return figure
