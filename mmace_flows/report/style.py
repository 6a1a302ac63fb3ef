"""Look of the report's figures: the common style of `mmace.plots`, colours of its sets, figures as inline SVG."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from mmace.plots.style import COLOURS, INK, MARKERS, STATE_COLOURS, STYLE, new_figure, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SET_COLOURS = {"train": "#8a8f98", "test": "#d55e00", "Bain path": "#2b83ba"}
OPERATION_COLOURS = COLOURS

__all__ = [
    "INK",
    "MARKERS",
    "OPERATION_COLOURS",
    "SET_COLOURS",
    "STATE_COLOURS",
    "STYLE",
    "new_figure",
    "to_png",
    "to_svg",
]


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
