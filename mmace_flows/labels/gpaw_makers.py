"""Makers of GPAW jobs: one label, or one relaxation whose frames are labels.

>>> from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
>>> from mmace_flows.structures.base_cells import bain_candidates
>>> job = GPAWLabelMaker().make(bain_candidates([1.0], ["FM"])[0], campaign="feni")
>>> job.name
'dft: bain FM c/a 1.000'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.makers import LabelMaker, RelaxMaker


@dataclass
class GPAWLabelMaker(LabelMaker):
    """Job: the label of one candidate by GPAW."""

    engine: ClassVar[str] = "gpaw"

    name: str = "gpaw label"
    settings: GPAWSettings = field(default_factory=GPAWSettings.small)


@dataclass
class GPAWRelaxMaker(RelaxMaker):
    """Job: a relaxation by GPAW."""

    engine: ClassVar[str] = "gpaw"

    name: str = "gpaw relax"
    settings: GPAWSettings = field(default_factory=GPAWSettings.small)
