"""The report of a campaign: one HTML file, made from the documents in the store, at any moment of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.execution.outputs import LABELS, keys_in_outputs
from mmace_flows.learning.state import read_states
from mmace_flows.report import data as make
from mmace_flows.report import errors_section, sections
from mmace_flows.report.data import ReportData
from mmace_flows.report.figures import bain_figure
from mmace_flows.report.html import page
from mmace_flows.report.screening import screening_page
from mmace_flows.report.style import to_png
from mmace_flows.schemas.campaign import Campaign
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.screening import ScreeningState

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores


def build_report(campaign: str, output: Path, figures: Path | None = None, stores: Stores | None = None) -> Path:
    """Write the report of ``campaign`` to ``output``, as far as the campaign has come; returns ``output``.

    Parameters: ``figures`` a folder that also gets the Bain figure as ``bain.png``; ``stores`` default: this machine's.
    Raises UserError for an unknown campaign or a file that cannot be written.
    """
    from mmace_flows.execution.stores import open_stores

    found = stores or open_stores()
    rounds = read_rounds(found, campaign)
    data = collect(found, campaign)
    if rounds:
        return write_page(screening_page(data, rounds), Path(output))
    return write_report(data, Path(output), figures)


def collect(stores: Stores, campaign: str) -> ReportData:
    """Documents of ``campaign`` from the stores. Raises UserError if there are none."""
    document = stores.campaigns.query_one({"campaign": campaign})
    states = read_states(stores.loop_states, campaign)
    if document is None and not states:
        known = sorted(str(name) for name in stores.campaigns.distinct("campaign"))
        raise UserError(f"campaign '{campaign}' is unknown; known: {', '.join(known) or 'none yet'}")
    # labels that an earlier campaign computed carry its name, so they are found by key
    keys = {key for state in states for key in (*state.training_keys, *state.test_keys, *state.bain_keys)}
    keys |= {key for state in states for key in state.failed_keys}
    keys |= set(keys_in_outputs(stores, campaign, LABELS))
    labels = [
        LabelDocument(**_fields(found, LabelDocument))
        for found in stores.labels.query({"$or": [{"campaign": campaign}, {"label_key": {"$in": sorted(keys)}}]})
    ]
    return ReportData(
        name=campaign,
        campaign=Campaign(**_fields(document, Campaign)) if document else None,
        states=states,
        labels=labels,
        jobs=count_jobs(stores, campaign),
    )


def count_jobs(stores: Stores, campaign: str) -> dict[str, dict[str, int]]:
    """Stage → state of the queue → number of jobs."""
    from mmace_flows.execution.queue import jobs

    counts: dict[str, dict[str, int]] = {}
    for queued in jobs(stores, campaign):
        states = counts.setdefault(queued.stage, {})
        states[queued.state] = states.get(queued.state, 0) + 1
    return counts


def _fields(document: dict[str, Any], schema: type[Document]) -> dict[str, Any]:
    return {key: document[key] for key in schema.model_fields if key in document}


def write_report(data: ReportData, output: Path, figures: Path | None = None) -> Path:
    """Write the page for ``data``. Raises UserError if it cannot be written; an older report is then untouched."""
    write_page(render(data), output)
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        panels = make.bain_panels(data)
        if panels:
            to_png(bain_figure(panels), figures / "bain.png")
    return output


def write_page(text: str, output: Path) -> Path:
    """Write the file, which anybody may read. Raises UserError if it cannot be written; an older one is untouched."""
    from mmace.checkpoint import write_atomically

    write_atomically(output, text.encode())
    output.chmod(0o644)  # a report is to be shown around
    return output


def read_rounds(stores: Stores, campaign: str) -> list[ScreeningState]:
    """States of a screening campaign by round; empty for any other."""
    found = stores.screening_states.query({"campaign": campaign}, sort={"round": 1})
    return [ScreeningState.from_store(one) for one in found]


def render(data: ReportData) -> str:
    """The whole page as text. Sections without data are left out."""
    parts = [
        sections.bain(data),
        sections.coverage(data),
        errors_section.errors(data),
        sections.parity(data),
        sections.learning(data),
        sections.set_aside(data),
        sections.provenance(data),
    ]
    return page(f"{data.name}: active-learning report", sections.lead(data), [part for part in parts if part])
