"""Makers of Quantum ESPRESSO jobs: one label, or one relaxation whose frames are labels.

>>> from mmace_flows.labels.espresso_makers import EspressoLabelMaker
>>> from mmace_flows.labels.espresso_settings import EspressoSettings
>>> from mmace_flows.structures.base_cells import bain_candidates
>>> maker = EspressoLabelMaker(settings=EspressoSettings.small(constraint="atomic"))
>>> maker.make(bain_candidates([1.0], ["FM"])[0], campaign="feni").name
'dft: bain FM c/a 1.000'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.labels.makers import LabelMaker, RelaxMaker


@dataclass
class EspressoLabelMaker(LabelMaker):
    """Job: the label of one candidate by pw.x."""

    engine: ClassVar[str] = "espresso"

    name: str = "espresso label"
    settings: EspressoSettings = field(default_factory=EspressoSettings.small)


@dataclass
class EspressoRelaxMaker(RelaxMaker):
    """Job: a relaxation by pw.x, with our own optimiser: see `mmace_flows.labels.relaxation`.

    pw.x's own ``relax`` and ``vc-relax`` are not used: their frames would not be labels that can be found, resumed and
    made again one by one, each frame would start from the moments of the frame before it, and ``vc-relax`` keeps the
    plane waves of the first cell, so that energies of later frames belong to another cutoff than the settings say.
    """

    engine: ClassVar[str] = "espresso"

    name: str = "espresso relax"
    settings: EspressoSettings = field(default_factory=EspressoSettings.small)
