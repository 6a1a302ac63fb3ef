"""Maker of the job that reads anisotropy constants off force-theorem runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobflow import Job, Maker, job

from mmace_flows.labels.spin_orbit_runs import read_runs
from mmace_flows.properties.anisotropy_values import values_from_document


@dataclass
class AnisotropyMaker(Maker):
    """Job: `AnisotropyValues` of each run, in a dictionary by name, with the errors that came with the run.

    ``axis`` of uniaxial constants instead of the crystal's own.
    """

    name: str = "anisotropy"
    stage: str = "anisotropy"
    axis: tuple[float, float, float] | None = None

    def make(self, summaries: dict[str, Any], campaign: str) -> Job:
        """``summaries``: name of the structure → output of its `SpinOrbitMaker` job."""
        made: Job = self.run(list(summaries), list(summaries.values()), campaign)
        made.name = f"{self.stage}: {', '.join(summaries)}"
        return made

    @job
    def run(self, names: list[str], summaries: list[dict[str, Any]], campaign: str) -> dict[str, Any]:
        """What a worker does: read the runs, analyse, tell."""
        import numpy as np

        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
        results: dict[str, Any] = {}
        documents = read_runs(stores.spin_orbit, [summary["spin_orbit_key"] for summary in summaries])
        for name, document in zip(names, documents, strict=True):
            found = values_from_document(document, None if self.axis is None else np.array(self.axis))
            errors = {"opposite_error": document.opposite_error, "band_cut_error": document.band_cut_error}
            results[name] = {"error": document.error, **errors, **({} if found is None else found.model_dump())}
            line = f"{name}: failed, {document.error}"
            if found is not None:
                line = (
                    f"{name}: ΔE_A {found.strength_mev_per_atom:.3f} meV per atom, K1 {found.k1:.2f} MJ/m³ = "
                    f"{found.k1_mev_per_formula:.3f} meV per formula unit; cut of the bands "
                    f"±{1000 * (document.band_cut_error or 0.0):.3f} meV per cell"
                )
            stores.event(campaign, self.stage, line)
        return results
