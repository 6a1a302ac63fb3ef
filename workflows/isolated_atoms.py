"""Isolated Fe, Co, Ni and Mn atoms with their total moment held: energies, both fits of E0_mag(|m|), and their plot.

One atom in a box that is not periodic, by GPAW, for a grid of total moments. The last job fits the spline and the
Chebyshev form and writes both, with plots, into the campaign's folder: `mmace train --one-body` takes either.
"""

from __future__ import annotations

import numpy as np
from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field

from mmace_flows.labels.atom_curves import AtomCurvesMaker
from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
from mmace_flows.labels.isolated_atoms import atom_candidates, atom_settings
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.structure import Candidate


class AtomsSettings(BaseModel):
    """Everything that decides the campaign's numbers."""

    model_config = ConfigDict(extra="forbid")

    elements: list[str] = Field(default=["Fe", "Co", "Ni", "Mn"], min_length=1, description="chemical symbols")
    largest_moment: dict[str, float] = Field(
        default={"Fe": 6.0, "Co": 5.0, "Ni": 4.0, "Mn": 7.0},
        description="end of the grid per element, μB; 5 for those that are not named",
    )
    step: float = Field(default=0.5, gt=0.0, description="of the grid, μB")
    cutoff: float = Field(default=340.0, gt=0.0, description="plane-wave cutoff, eV: that of the crystals' labels")
    box: float = Field(default=8.0, ge=4.0, description="side of the box, Å")
    max_iterations: int = Field(
        default=120, gt=0, description="SCF iterations before a moment counts as not converged; most take 30"
    )
    seconds_per_label: float = Field(gt=0.0, description="core-seconds of one label, for the estimate only")


PRESETS: dict[str, AtomsSettings] = {
    "small": AtomsSettings(box=7.0, seconds_per_label=40.0),
    "paper": AtomsSettings(step=0.1, cutoff=600.0, box=12.0, seconds_per_label=600.0),
    "tiny": AtomsSettings(
        elements=["Fe"],
        largest_moment={"Fe": 5.0},
        step=1.0,
        cutoff=250.0,
        box=5.0,
        max_iterations=60,
        seconds_per_label=8.0,
    ),
}


def candidates(settings: AtomsSettings) -> list[Candidate]:
    """One atom per element and moment."""
    found = []
    for element in settings.elements:
        largest = settings.largest_moment.get(element, 5.0)
        grid = np.arange(0.0, largest + 1e-9, settings.step)
        found += atom_candidates(element, [round(float(moment), 6) for moment in grid], settings.box)
    return found


def build(settings: AtomsSettings, campaign: str) -> Flow:
    """A label per element and moment, and the fits."""
    maker = GPAWLabelMaker(settings=atom_settings(settings.cutoff, settings.max_iterations), stage="atom")
    labels = [maker.make(candidate, campaign) for candidate in candidates(settings)]
    fits = AtomCurvesMaker().make([label.output for label in labels], campaign)
    return Flow([*labels, fits], output=fits.output, name=campaign)


def estimate(settings: AtomsSettings) -> CostEstimate:
    """Jobs and core-seconds of each stage."""
    labels = StageEstimate(
        stage="atom", jobs=len(candidates(settings)), core_seconds_per_job=settings.seconds_per_label
    )
    return CostEstimate(stages=[labels, StageEstimate(stage="fit", jobs=1, core_seconds_per_job=5.0)])
