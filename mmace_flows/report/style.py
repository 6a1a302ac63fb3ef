"""Look of the report's figures: colours that read on light and dark pages, and figures as inline SVG or PNG."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, told apart by colour-blind readers too; the blue is lightened for dark pages.
STATE_COLOURS = {"NM": "#009e73", "FM": "#d55e00", "AFM": "#2b83ba", "FiM": "#cc79a7", "non-collinear": "#8c6bb1"}
SET_COLOURS = {"train": "#8a8f98", "test": "#d55e00", "Bain path": "#2b83ba"}
OPERATION_COLOURS = ("#2b83ba", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#8c6bb1", "#56b4e9", "#8a8f98")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Everything that is not data is drawn in this colour and becomes the page's own text colour in the SVG.
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


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Inline SVG of ``figure``: scales with the page, takes the page's text colour, ids distinct by ``name``."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor")
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+(_\d+)?"', "", text)  # group ids repeat between figures and nothing uses them
    text = re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg height="[^"]*" ([^>]*?)width="[^"]*"', r"<svg \1\2", text
    )
    label = description.replace("&", "and").replace('"', "'").replace("<", "").replace(">", "")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def to_png(figure: Figure, path: Path, dpi: int = 160) -> None:
    """Write ``figure`` as a PNG on white, to a temporary name first."""
    import os

    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=dpi, facecolor="white")
    os.replace(temporary, path)
