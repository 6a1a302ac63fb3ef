"""Makers of VASP jobs: a label, a relaxation whose frames are labels, and labels of atomate2's own jobs.

>>> from mmace_flows.labels.vasp_makers import VaspLabelMaker
>>> from mmace_flows.labels.vasp_settings import VaspSettings
>>> from mmace_flows.structures.base_cells import bain_candidates
>>> VaspLabelMaker(settings=VaspSettings.small(spin_orbit=True)).make(bain_candidates([1.0], ["FM"])[0], "feni").name
'dft: bain FM c/a 1.000'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from jobflow import Flow, Job, Maker, job

from mmace_flows.labels.labelling import candidate_title
from mmace_flows.labels.makers import LabelMaker, RelaxMaker
from mmace_flows.labels.vasp_settings import VaspSettings
from mmace_flows.schemas.structure import Candidate


@dataclass
class VaspLabelMaker(LabelMaker):
    """Job: the label of one candidate by VASP."""

    engine: ClassVar[str] = "vasp"

    name: str = "vasp label"
    settings: VaspSettings = field(default_factory=VaspSettings.small)


@dataclass
class VaspRelaxMaker(RelaxMaker):
    """Job: a relaxation by VASP, every step a label of its own: see `mmace_flows.labels.relaxation`."""

    engine: ClassVar[str] = "vasp"

    name: str = "vasp relax"
    settings: VaspSettings = field(default_factory=VaspSettings.small)


@dataclass
class VaspTaskMaker(Maker):
    """Flow: atomate2's StaticMaker for a candidate, then a job that turns its task document into a label.

    For those who run VASP through atomate2 elsewhere: its job stands in their store as they know it.
    """

    name: str = "vasp task"
    stage: str = "dft"
    settings: VaspSettings = field(default_factory=VaspSettings.small)

    def make(self, candidate: Candidate, campaign: str) -> Flow:
        """Both jobs. Raises UserError for moments that these settings cannot treat."""
        from mmace_flows.labels.vasp_input import magnetism_of, static_maker, to_pymatgen

        settings = VaspSettings.model_validate(self.settings)
        maker: Any = static_maker(candidate.structure, settings)
        static = maker.make(to_pymatgen(candidate.structure, magnetism_of(candidate.structure, settings)))
        label: Job = self.convert(candidate, static.output, campaign)
        label.name = f"{self.stage}: {candidate_title(candidate)}"
        return Flow([static, label], output=label.output, name=label.name)

    @job
    def convert(self, candidate: Candidate, task: Any, campaign: str) -> dict[str, Any]:
        """What a worker does: convert, store, tell."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.labels.labelling import label_summary, summary_line
        from mmace_flows.labels.vasp_import import label_of_task

        stores = open_stores()
        candidate = Candidate.model_validate(candidate)
        document = label_of_task(candidate, task, VaspSettings.model_validate(self.settings), campaign)
        stores.labels.update([document.model_dump(mode="json")], key="label_key")
        summary = label_summary(document)
        stores.event(campaign, self.stage, summary_line(document), **summary)
        return summary
