"""Model against reference, coloured by magnetic branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmace.fields import BRANCHES, ENERGY, FORCES, MAGNETIC_FORCES, STRESS
from mmace.plots.style import INK, STATE_COLOURS, STATE_MARKERS, STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GPA = 160.21766208
# label name → title of the axes, factor from eV, Å, μB to that, factor of the error, unit of the error
QUANTITIES: dict[str, tuple[str, float, float, str]] = {
    ENERGY.name: ("energy (eV/atom)", 1.0, 1000.0, "meV/atom"),
    FORCES.name: ("forces (eV/Å)", 1.0, 1000.0, "meV/Å"),
    STRESS.name: ("stress (GPa)", GPA, 1.0, "GPa"),
    MAGNETIC_FORCES.name: ("magnetic forces (eV/μB)", 1.0, 1000.0, "meV/μB"),
}
MOST_POINTS = 20_000  # drawn per branch; errors are of all


def parity_figure(sets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figure | None:
    """One row per set ("train", "validation"), one panel per quantity that has labels; None without any.

    Parameters: ``sets`` title → what `mmace.train.parity` gives: label name → label, prediction, branch.
    """
    import matplotlib

    names = [name for name in QUANTITIES if any(len(points[name]["label"]) for points in sets.values())]
    if not names:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.5 * len(names), 4.0 * len(sets), len(sets), len(names))
        for row, (title, points) in enumerate(sets.items()):
            for column, name in enumerate(names):
                axis = axes[row * len(names) + column]
                _panel(axis, points[name], name)
                axis.set_title(title)
        handles, labels = _legend(axes)
        figure.legend(handles, labels, loc="outside lower center", ncols=max(len(labels), 1))
    return figure


def _panel(axis: Axes, points: Mapping[str, Any], name: str) -> None:
    title, factor, error_factor, unit = QUANTITIES[name]
    axis.set_xlabel(f"reference {title}")
    axis.set_ylabel(f"model {title}")
    label, prediction = np.asarray(points["label"]) * factor, np.asarray(points["prediction"]) * factor
    if label.size == 0:
        axis.annotate("no labels", (0.5, 0.5), xycoords="axes fraction", ha="center")
        return
    branches = np.asarray(points["branch"])
    for branch in BRANCHES:
        chosen = np.flatnonzero(branches == branch)
        if chosen.size == 0:
            continue
        chosen = chosen[:: -(-chosen.size // MOST_POINTS)]
        axis.plot(
            label[chosen], prediction[chosen], STATE_MARKERS[branch], markersize=3.5, alpha=0.6, markeredgewidth=0,
            color=STATE_COLOURS[branch], label=branch, rasterized=True,
        )  # fmt: skip
    low, high = float(min(label.min(), prediction.min())), float(max(label.max(), prediction.max()))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    # both axes alike: with ranges of their own a poor model would look like a good one
    axis.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), box_aspect=1)
    axis.axline(((low + high) / 2, (low + high) / 2), slope=1.0, color=INK, linewidth=0.8, alpha=0.6)
    # points are the six independent components of a stress, errors in tables are of all nine
    weights = np.tile([1, 2, 2, 1, 2, 1], label.size // 6) if name == STRESS.name else np.ones(label.size)
    error = float(np.sqrt(np.average((prediction - label) ** 2, weights=weights))) * error_factor
    axis.annotate(
        f"RMSE {error:.3g} {unit}", (0.04, 0.96), xycoords="axes fraction", va="top", fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
    )  # fmt: skip


def _legend(axes: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    ordered = [branch for branch in BRANCHES if branch in found]
    return [found[branch] for branch in ordered], ordered
