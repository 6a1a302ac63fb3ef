"""Makers of label jobs for any engine: one label, or one relaxation whose frames are labels.

An engine's own Makers (`GPAWLabelMaker`, `EspressoLabelMaker`) say which engine and which settings, and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from jobflow import Job, Maker, job

from mmace_flows.labels.labelling import candidate_title
from mmace_flows.labels.relaxation import RelaxSettings
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.structure import Candidate

if TYPE_CHECKING:
    from mmace_flows.labels.engine import Engine


@dataclass
class EngineMaker(Maker):
    """What label and relaxation jobs share: an engine's name, and its settings."""

    engine: ClassVar[str] = ""

    name: str = "engine"
    stage: str = "dft"
    settings: Document | dict[str, Any] = field(default_factory=dict)

    def make(self, candidate: Candidate, campaign: str) -> Job:
        """The job, named by its stage and the candidate."""
        made: Job = self.run(candidate, campaign)
        made.name = f"{self.stage}: {candidate_title(candidate)}"
        return made

    def run(self, candidate: Candidate, campaign: str) -> Any:
        """The work of the job."""
        raise NotImplementedError

    def _engine(self, candidate: Candidate) -> Engine:
        from mmace_flows.labels.engine import get_engine

        settings = self.settings if isinstance(self.settings, dict) else self.settings.model_dump(mode="json")
        return get_engine(self.engine, settings, candidate.structure.symbols)


@dataclass
class LabelMaker(EngineMaker):
    """Job: the label of one candidate; its output is ``label_summary``: label_key, status, energy_per_atom, ….

    The job asks the store first and computes only what is missing. A calculation that does not converge gives a label
    with status "failed", not an exception.
    """

    name: str = "label"
    retry_failed: bool = False

    @job
    def run(self, candidate: Candidate, campaign: str) -> dict[str, Any]:
        """What a worker does: find or compute, store, tell."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.labels.labelling import find_or_compute, label_summary, summary_line

        stores = open_stores()
        candidate = Candidate.model_validate(candidate)
        engine = self._engine(candidate)
        folder = stores.scratch(campaign, self.engine)
        document, computed = find_or_compute(candidate, engine, stores.labels, folder, campaign, self.retry_failed)
        summary = label_summary(document, computed)
        name = f"{self.stage}: {candidate_title(candidate)}"
        stores.event(campaign, self.stage, summary_line(document, computed), ends_job=name, **summary)
        return summary


@dataclass
class RelaxMaker(EngineMaker):
    """Job: a relaxation, every step of which is a label in the store, found there again if the job is run again.

    Its output has ``labels``, a list of ``label_summary`` of the kept frames, and how it ended.
    """

    name: str = "relax"
    stage: str = "relax"
    relax: RelaxSettings = field(default_factory=RelaxSettings.small)

    @job
    def run(self, candidate: Candidate, campaign: str) -> dict[str, Any]:
        """What a worker does: relax through the store, tell each step."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.labels.labelling import label_summary, summary_line
        from mmace_flows.labels.relaxation import relax

        stores = open_stores()
        candidate = Candidate.model_validate(candidate)
        engine = self._engine(candidate)
        folder = stores.scratch(campaign, self.engine)

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


def label_maker(engine: str, **fields: Any) -> LabelMaker:
    """The `LabelMaker` of an engine's name, with these fields. UserError for an unknown name."""
    from mmace_flows.labels.engine import settings_class

    kind = settings_class(engine)
    if "settings" in fields:
        fields["settings"] = kind.model_validate(fields["settings"])
    if engine == "gpaw":
        from mmace_flows.labels.gpaw_makers import GPAWLabelMaker

        return GPAWLabelMaker(**fields)
    if engine == "vasp":
        from mmace_flows.labels.vasp_makers import VaspLabelMaker

        return VaspLabelMaker(**fields)
    from mmace_flows.labels.espresso_makers import EspressoLabelMaker

    return EspressoLabelMaker(**fields)
