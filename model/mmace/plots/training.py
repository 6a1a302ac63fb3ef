"""The figures that a training and an evaluation leave behind. A figure that fails is a warning, never an error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmace.potential import Potential
    from mmace.train.configuration import Configuration

logger = logging.getLogger("mmace")

MOST_STRUCTURES = 500  # of each set that a parity plot evaluates
PARITY, LEARNING = "parity.png", "learning-curve.png"


def training_plots(
    model: Potential,
    training: Sequence[Configuration],
    validation: Sequence[Configuration],
    history: Sequence[Mapping[str, Any]],
    folder: str | Path,
) -> list[Path]:
    """Writes parity and learning-curve figures into ``folder`` and returns what was written.

    At most 500 structures of each set, evenly taken, are evaluated. Whatever goes wrong is one warning line.
    """
    from mmace.plots.learning import history_figure

    sets = {"training": training, "validation": validation}
    return _written(
        Path(folder), {PARITY: lambda: _parity(model, sets), LEARNING: lambda: history_figure(history)}
    )  # fmt: skip


def evaluation_plots(
    model: Potential, configurations: Sequence[Configuration], folder: str | Path, title: str = "evaluation"
) -> list[Path]:
    """Writes the parity figure of all ``configurations`` into ``folder``; what goes wrong is one warning line."""
    return _written(Path(folder), {PARITY: lambda: _parity(model, {title: configurations}, most=None)})


def write_figure(make: Callable[[], Figure | None], path: Path) -> Path | None:
    """Writes one figure as PNG; None, after one warning line, if that fails or there is nothing to draw."""
    from mmace.plots.style import to_png

    try:
        figure = make()
        if figure is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        to_png(figure, path)
        return path
    except Exception as error:  # fonts, memory, disk: no figure is worth a training
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning("%s: could not be drawn (%s); everything else is complete", path, reason)
        return None


def _written(folder: Path, figures: Mapping[str, Callable[[], Figure | None]]) -> list[Path]:
    paths = [write_figure(make, folder / name) for name, make in figures.items()]
    return [path for path in paths if path is not None]


def _parity(
    model: Potential, sets: Mapping[str, Sequence[Configuration]], most: int | None = MOST_STRUCTURES
) -> Figure | None:
    from mmace.plots.parity import parity_figure
    from mmace.train.evaluate import parity

    points = {}
    for title, configurations in sets.items():
        count = len(configurations)
        step = -(-count // most) if most else 1
        chosen = [configurations[index] for index in range(0, count, step)]
        shown = title if len(chosen) == count else f"{title} ({len(chosen)} of {count})"
        points[shown] = parity(model, chosen)
    return parity_figure(points)
