"""Look of all figures: colours that colour-blind readers tell apart, on light and dark pages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, told apart by colour-blind readers too; the blue is lightened for dark pages.
STATE_COLOURS = {"NM": "#009e73", "FM": "#d55e00", "AFM": "#2b83ba", "FiM": "#cc79a7", "non-collinear": "#8c6bb1"}
COLOURS = ("#2b83ba", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#8c6bb1", "#56b4e9", "#8a8f98")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STATE_MARKERS = {"NM": "o", "FM": "^", "AFM": "v", "FiM": "D", "non-collinear": "s"}  # not by colour alone

# Everything that is not data is drawn in this colour and becomes the page's own text colour in an SVG.
INK = "#010203"

STYLE: Any = {  # matplotlib types its keys one by one
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "axes.grid": True,
    "lines.linewidth": 1.8,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list]:
    """A figure of ``width`` × ``height`` inches on the Agg canvas and its axes, row by row. No global pyplot state."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **options)
        return figure, list(axes.ravel())


def to_png(figure: Figure, path: Path, dpi: int = 160) -> None:
    """Write ``figure`` as a PNG on white, to a temporary name first."""
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=dpi, facecolor="white")
    os.replace(temporary, path)
