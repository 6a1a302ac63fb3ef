"""The report of a campaign: one HTML file, made from the documents in the store, at any moment of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace_flows.report import data as make
from mmace_flows.report import sections
from mmace_flows.report.data import ReportData
from mmace_flows.report.figures import bain_figure
from mmace_flows.report.html import page
from mmace_flows.report.style import to_png

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores


def build_report(campaign: str, output: Path, figures: Path | None = None) -> Path:
    """Write the report of ``campaign`` to ``output``, as far as the campaign has come; returns ``output``.

    Parameters: ``figures`` a folder that also gets the Bain figure as ``bain.png``.
    Raises UserError for an unknown campaign or a file that cannot be written.
    """
    from mmace_flows.execution.stores import open_stores

    return write_report(collect(open_stores(), campaign), Path(output), figures)


def write_report(data: ReportData, output: Path, figures: Path | None = None) -> Path:
    """Write the page for ``data``. Raises UserError if it cannot be written; an older report is then untouched."""
    from mmace.checkpoint import write_atomically

    write_atomically(output, render(data).encode())
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        panels = make.bain_panels(data)
        if panels:
            to_png(bain_figure(panels), figures / "bain.png")
    return output


def render(data: ReportData) -> str:
    """The whole page as text. Sections without data are left out."""
    parts = [
        sections.bain(data),
        sections.coverage(data),
        sections.errors(data),
        sections.parity(data),
        sections.learning(data),
        sections.set_aside(data),
        sections.provenance(data),
    ]
    return page(f"{data.name}: active-learning report", sections.lead(data), [part for part in parts if part])
