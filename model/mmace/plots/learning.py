"""Losses and validation errors against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmace.plots.parity import QUANTITIES
from mmace.plots.style import COLOURS, STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def history_figure(history: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Learning curve of one training from its history, one panel for the losses and one per label; None if empty.

    Parameters: ``history`` a mapping per epoch, as `mmace.train.train` returns it.
    """
    import matplotlib

    names = [name for name in QUANTITIES if _curve(history, f"{name}_rmse")[0]]
    if not _curve(history, "valid_loss")[0]:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.5 * (len(names) + 1), 3.2, 1, len(names) + 1)
        for index, (key, label) in enumerate((("loss", "training"), ("valid_loss", "validation"))):
            axes[0].plot(*_curve(history, key), color=COLOURS[index], linestyle=("-", "--")[index], label=label)
        axes[0].set_ylabel("loss")
        axes[0].legend()
        for axis, name in zip(axes[1:], names, strict=True):
            title, factor, error_factor, unit = QUANTITIES[name]
            epochs, errors = _curve(history, f"{name}_rmse")
            axis.plot(epochs, [factor * error_factor * error for error in errors], color=COLOURS[1], linestyle="--")
            axis.set_ylabel(f"{title.split(' (')[0]}, validation RMSE ({unit})")
        best = history[-1].get("best_epoch")
        for axis in axes:
            _finish(axis, best)
    return figure


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None and row[key] > 0]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _finish(axis: Axes, best: int | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("epoch")
    if best:
        axis.axvline(best, color="#8a8f98", linewidth=0.8, linestyle=":")
