"""Maker of the jobs that compute anisotropy by the magnetic force theorem."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobflow import Job, Maker, job

from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings
from mmace_flows.labels.labelling import candidate_title
from mmace_flows.schemas.structure import Candidate


@dataclass
class SpinOrbitMaker(Maker):
    """Job: energies of many directions of one candidate's moments; found in the store, or computed by GPAW.

    The output has ``spin_orbit_key``, ``status``, ``error``, ``directions`` (their number) and ``computed``; arrays
    stay in the store.
    """

    name: str = "gpaw spin-orbit"
    stage: str = "soc"
    settings: SpinOrbitSettings = field(default_factory=SpinOrbitSettings.small)

    def make(self, candidate: Candidate, campaign: str) -> Job:
        """The job, named by its stage and the candidate."""
        made: Job = self.run(candidate, campaign)
        made.name = f"{self.stage}: {_title(candidate)}"
        return made

    @job
    def run(self, candidate: Candidate, campaign: str) -> dict[str, Any]:
        """What a worker does: find or compute, store, tell."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.labels.gpaw_spin_orbit import find_or_compute_spin_orbit

        stores = open_stores()
        candidate = Candidate.model_validate(candidate)
        settings = SpinOrbitSettings.model_validate(self.settings)
        title = _title(candidate)

        def tell(done: int, total: int, seconds: float) -> None:
            if done == 0:
                stores.event(campaign, self.stage, f"{title}: ground state, then {total} directions")
            elif done % 10 == 0 or done == total:
                stores.event(campaign, self.stage, f"{title}: direction {done} of {total}, {seconds:.0f} s each")

        folder = stores.scratch(campaign, "soc")
        document, computed = find_or_compute_spin_orbit(
            candidate.structure, settings, stores.spin_orbit, folder, campaign, tell
        )
        summary = {
            "spin_orbit_key": document.spin_orbit_key,
            "status": document.status,
            "error": document.error,
            "directions": len(document.directions),
            "computed": computed,
        }
        line = f"{title}: {document.error or f'{len(document.directions)} directions'}"
        stores.event(campaign, self.stage, line, ends_job=f"{self.stage}: {title}", **summary)
        return summary


def _title(candidate: Candidate) -> str:
    """Formula, what the candidate is, and the first letters of its hash: many crystals have the same formula."""
    formula = candidate.structure.to_atoms().get_chemical_formula(empirical=True)
    return f"{formula} {candidate_title(candidate)} {candidate.structure.hash()[:6]}"
