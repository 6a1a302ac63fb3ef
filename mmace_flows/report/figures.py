"""Figures of the report, each a function of plain data to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mmace_flows.report.style import INK, MARKERS, OPERATION_COLOURS, SET_COLOURS, STATE_COLOURS, STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[Sequence[float], Sequence[float]]


@dataclass
class BainPanel:
    """One iteration's Bain path; energies in meV per atom relative to the lowest ferromagnetic DFT point."""

    title: str
    model: Mapping[str, Curve]  # state → (c/a, energy), moments relaxed
    dft: Mapping[str, Curve]  # state → (c/a, energy)
    at_dft_moments: Mapping[str, Curve] = field(default_factory=dict)


@dataclass
class CoveragePoint:
    """Where one labelled structure lies, and what made it."""

    c_over_a: float
    volume: float  # Å³ per atom
    group: str  # what colours it: operation and iteration


@dataclass
class Parity:
    """DFT against model for one quantity."""

    quantity: str  # axis title with unit
    sets: Mapping[str, Curve]  # "train", "test", "Bain path" → (DFT, model)
    error_unit: str
    error_scale: float = 1.0  # from the axis unit to ``error_unit``


def bain_figure(panels: Sequence[BainPanel]) -> Figure:
    """One panel per iteration: lines are the model, markers DFT."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.6 * max(len(panels), 1) + 0.8, 4.4, 1, max(len(panels), 1), sharey=True)
        for axis, panel in zip(axes, panels, strict=False):
            for state, (ratios, energies) in panel.model.items():
                axis.plot(ratios, energies, color=_state_colour(state), label=f"{state}, model")
            for state, (ratios, energies) in panel.at_dft_moments.items():
                axis.plot(ratios, energies, "x", color=_state_colour(state), markersize=6, markeredgewidth=1.3)
            for state, (ratios, energies) in panel.dft.items():
                axis.plot(
                    ratios, energies, "o", color=_state_colour(state), markersize=6.5,
                    markeredgecolor=INK, markeredgewidth=0.7, label=f"{state}, DFT",
                )  # fmt: skip
            _mark_lattices(axis)
            axis.set_title(panel.title)
            axis.set_xlabel("c/a")
        axes[0].set_ylabel("energy above DFT's FM minimum (meV/atom)")
        _limit_to_dft(axes, panels)
        handles, labels = axes[0].get_legend_handles_labels()
        if any(panel.at_dft_moments for panel in panels):
            from matplotlib.lines import Line2D

            handles.append(Line2D([], [], marker="x", linestyle="none", color=INK, markersize=6))
            labels.append("model at DFT's moments")
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure


def _mark_lattices(axis: Axes) -> None:
    """Faint verticals at bcc and fcc."""
    for ratio, name in ((1.0, "bcc"), (np.sqrt(2.0), "fcc")):
        axis.axvline(ratio, color=INK, alpha=0.25, linewidth=0.8, linestyle=":")
        axis.annotate(
            name, (ratio, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -2), textcoords="offset points",
            va="top", fontsize=8, alpha=0.65,
        )  # fmt: skip


def _limit_to_dft(axes: Sequence[Axes], panels: Sequence[BainPanel]) -> None:
    """Keep the DFT range readable when an early model is far off: its line may leave the panel."""
    values = [energy for panel in panels for _, energies in panel.dft.values() for energy in energies]
    if len(values) < 2:
        return
    span = max(values) - min(values)
    drawn = [
        energy for panel in panels
        for curves in (panel.model, panel.at_dft_moments) for _, energies in curves.values() for energy in energies
    ]  # fmt: skip
    low = max(min([*values, *drawn]), min(values) - 0.8 * span)
    high = min(max([*values, *drawn]), max(values) + 0.8 * span)
    margin = 0.06 * (high - low)
    for axis in axes:
        axis.set_ylim(low - margin, high + margin)


def coverage_figure(points: Sequence[CoveragePoint], bain: Sequence[tuple[float, float]]) -> Figure:
    """Volume against c/a of the labelled structures, coloured by what made them; Bain points as open diamonds."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, (axis,) = new_figure(7.2, 4.2)
        groups = list(dict.fromkeys(point.group for point in points))
        for index, group in enumerate(groups):
            own = [point for point in points if point.group == group]
            axis.plot(
                [point.c_over_a for point in own], [point.volume for point in own], MARKERS[index % len(MARKERS)],
                color=OPERATION_COLOURS[index % len(OPERATION_COLOURS)], markersize=6, alpha=0.85,
                label=f"{group} ({len(own)})",
            )  # fmt: skip
        if bain:
            axis.plot(
                [ratio for ratio, _ in bain], [volume for _, volume in bain], "D", markersize=8, markerfacecolor="none",
                markeredgecolor=INK, markeredgewidth=1.1, label=f"Bain path, never trained on ({len(bain)})",
            )  # fmt: skip
        _mark_lattices(axis)
        axis.set_xlabel("c/a")
        axis.set_ylabel("volume (Å³/atom)")
        figure.legend(loc="outside right upper")
    return figure


def parity_figure(parities: Sequence[Parity]) -> Figure:
    """Model against DFT, one panel per quantity, with the root mean square error of each set."""
    import matplotlib

    columns = 2
    rows = max(1, -(-len(parities) // columns))
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(7.6, 3.6 * rows, rows, columns)
        for axis, parity in zip(axes, parities, strict=False):
            _parity_panel(axis, parity)
        for axis in axes[len(parities) :]:
            axis.set_visible(False)
    return figure


def _parity_panel(axis: Axes, parity: Parity) -> None:
    values: list[float] = []
    for name, (dft, model) in parity.sets.items():
        if len(dft) == 0:
            continue
        error = float(np.sqrt(np.mean((np.asarray(model) - np.asarray(dft)) ** 2))) * parity.error_scale
        axis.plot(
            dft, model, "o", markersize=3.2 if name == "train" else 5, alpha=0.45 if name == "train" else 0.85,
            color=SET_COLOURS.get(name, "#8c6bb1"), markeredgewidth=0,
            label=f"{name}: RMSE {error:.3g} {parity.error_unit}",
        )  # fmt: skip
        values.extend([*dft, *model])
    if values:
        low, high = float(np.min(values)), float(np.max(values))
        axis.axline(((low + high) / 2, (low + high) / 2), slope=1.0, color=INK, linewidth=0.8, alpha=0.6)
        axis.legend(loc="upper left", handletextpad=0.2, borderaxespad=0.2)
    axis.set_xlabel(f"DFT {parity.quantity}")
    axis.set_ylabel(f"model {parity.quantity}")


def learning_figure(histories: Mapping[str, Sequence[Mapping[str, float]]], quantities: Mapping[str, str]) -> Figure:
    """Errors against epoch, one panel per quantity, one line per iteration.

    Parameters: ``histories`` title → list of epochs with "epoch" and the keys of ``quantities``;
    ``quantities`` key → axis title with unit.
    """
    import matplotlib
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with matplotlib.rc_context(STYLE):
        count = max(len(quantities), 1)
        columns = min(count, 2)
        rows = -(-count // columns)
        figure, axes = new_figure(7.6, 2.9 * rows + 0.3, rows, columns)
        for axis in axes[count:]:
            axis.set_visible(False)
        for axis, (key, title) in zip(axes, quantities.items(), strict=False):
            for index, (name, history) in enumerate(histories.items()):
                points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None and row[key] > 0.0]
                if points:
                    epochs, errors = zip(*points, strict=True)
                    axis.plot(epochs, errors, color=OPERATION_COLOURS[index % len(OPERATION_COLOURS)], label=name)
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel("epoch")
            axis.set_ylabel(title)
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure


def _state_colour(state: str) -> str:
    return STATE_COLOURS.get(state, "#8a8f98")
