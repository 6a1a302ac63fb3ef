"""The figure of a convergence study: errors of every quantity over each parameter, in units of their tolerances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmace.plots.style import COLOURS, INK, MARKERS, STYLE, new_figure
from mmace_flows.labels.convergence import ConvergenceStudy
from mmace_flows.labels.convergence_settings import QUANTITIES, UNITS
from mmace_flows.labels.convergence_text import TITLES, amount, shown_quantities, value_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 1e-3  # of a tolerance: smaller errors are drawn there


def convergence_figure(study: ConvergenceStudy) -> Figure:
    """One panel per scan; the band below 1 is within tolerance, the ring is what is recommended."""
    import matplotlib

    settings = study.settings
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.9 * len(study.scans) + 1.2, 3.6, 1, len(study.scans), sharey=True)
        for axis, scan in zip(axes, study.scans, strict=True):
            good = [number for number, point in enumerate(scan.points) if point.failed is None]
            axis.axhspan(LEAST / 2, 1.0, color=COLOURS[2], alpha=0.12, linewidth=0)
            for name in shown_quantities(scan):
                number = QUANTITIES.index(name)
                off = [max(LEAST, scan.points[one].errors[name] / settings.tolerances[name]) for one in good[:-1]]
                label = f"{name}, {amount(name, settings.tolerances[name])} {UNITS[name][0]}"
                style = "-" if name in settings.quantities else ":"  # dotted: shown, but decides nothing
                axis.plot(good[:-1], off, style, marker=MARKERS[number], color=COLOURS[number], label=label)
                if scan.chosen in good[:-1]:
                    height = off[good.index(scan.chosen)]
                    axis.plot(scan.chosen, height, "o", markersize=13, markerfacecolor="none", color=INK)
            axis.set_yscale("log")
            axis.set_xticks(
                np.arange(len(scan.points)),
                [
                    value_text(scan.parameter, point.value).replace(" eV", "").replace(" Å⁻¹", "")
                    for point in scan.points
                ],
            )
            unit = "eV" if scan.parameter != "kpoints" else "" if isinstance(scan.points[0].value, tuple) else "Å⁻¹"
            axis.set_xlabel(f"{TITLES[scan.parameter]}{f' ({unit})' if unit else ''}")
        axes[0].set_ylabel("error / tolerance")
        axes[-1].legend(title="tolerance", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
