"""Makers of GPAW jobs: one label, or one relaxation whose frames are labels.

>>> from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
>>> from mmace_flows.structures.base_cells import bain_candidates
>>> job = GPAWLabelMaker().make(bain_candidates([1.0], ["FM"])[0], campaign="feni")
>>> job.name
'dft: bain FM c/a 1.000'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobflow import Job, Maker, job

from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.labelling import candidate_title
from mmace_flows.labels.relaxation import RelaxSettings
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.structure import Candidate


@dataclass
class GPAWLabelMaker(Maker):
    """Job: the label of one candidate.

    The job asks the store first and computes only what is missing. A calculation that does not converge gives a label
    with status "failed", not an exception.
    """

    name: str = "gpaw label"
    stage: str = "dft"
    settings: GPAWSettings = field(default_factory=GPAWSettings.small)
    retry_failed: bool = False

    def make(self, candidate: Candidate, campaign: str) -> Job:
        """The job; its output is ``label_summary``: label_key, status, energy_per_atom, operation, state, group."""
        made: Job = self.run(candidate, campaign)
        made.name = f"{self.stage}: {candidate_title(candidate)}"
        return made

    @job
    def run(self, candidate: Candidate, campaign: str) -> dict[str, Any]:
        """What a worker does: find or compute, store, tell."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.labels.gpaw_engine import GPAWEngine
        from mmace_flows.labels.labelling import find_or_compute, label_summary, summary_line

        stores = open_stores()
        candidate = Candidate.model_validate(candidate)
        engine = GPAWEngine(GPAWSettings.model_validate(self.settings))
        folder = stores.scratch(campaign, "gpaw")
        document, computed = find_or_compute(candidate, engine, stores.labels, folder, campaign, self.retry_failed)
        summary = label_summary(document, computed)
        name = f"{self.stage}: {candidate_title(candidate)}"
        stores.event(campaign, self.stage, summary_line(document, computed), ends_job=name, **summary)
        return summary


@dataclass
class GPAWRelaxMaker(Maker):
    """Job: a relaxation, every step of which is a label in the store, found there again if the job is run again."""

    name: str = "gpaw relax"
    stage: str = "relax"
    settings: GPAWSettings = field(default_factory=GPAWSettings.small)
    relax: RelaxSettings = field(default_factory=RelaxSettings.small)

    def make(self, candidate: Candidate, campaign: str) -> Job:
        """The job; its output has ``labels``, a list of ``label_summary`` of the kept frames, and how it ended."""
        made: Job = self.run(candidate, campaign)
        made.name = f"{self.stage}: {candidate_title(candidate)}"
        return made

    @job
    def run(self, candidate: Candidate, campaign: str) -> dict[str, Any]:
        """What a worker does: relax through the store, tell each step."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.labels.gpaw_engine import GPAWEngine
        from mmace_flows.labels.labelling import label_summary, summary_line
        from mmace_flows.labels.relaxation import relax

        stores = open_stores()
        candidate = Candidate.model_validate(candidate)
        engine = GPAWEngine(GPAWSettings.model_validate(self.settings))
        folder = stores.scratch(campaign, "gpaw")

        def tell(document: LabelDocument, computed: bool) -> None:
            stores.event(campaign, self.stage, summary_line(document, computed), **label_summary(document, computed))

        settings = RelaxSettings.model_validate(self.relax)
        relaxation = relax(candidate, engine, settings, stores.labels, folder, campaign, tell)
        return {
            "labels": [label_summary(frame, computed=False) for frame in relaxation.frames],
            "status": "failed" if relaxation.error else "converged" if relaxation.converged else "unfinished",
            "error": relaxation.error,
            "steps": relaxation.steps,
            "computed": relaxation.computed,
            "group": candidate.group,
            "operation": "relax",
        }
