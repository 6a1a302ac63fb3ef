"""A convergence study as a flow: a label job per structure and setting, and a job per scan that decides.

>>> from mmace_flows.labels.convergence import probes
>>> from mmace_flows.labels.convergence_maker import ConvergenceMaker
>>> from mmace_flows.labels.convergence_settings import ConvergenceSettings
>>> from mmace_flows.structures.base_cells import base_candidates
>>> settings = ConvergenceSettings(cutoffs=[300, 400], kpoints=[0.1, 0.08], smearings=[0.1])
>>> flow = ConvergenceMaker(settings=settings).make(probes(base_candidates(bases=["fcc"], states=["FM"])), "study")
>>> [job.name for job in flow.jobs][1:4:2]
['cutoff 300 eV: train compressed and displaced FM fcc seed 0', \
'cutoff 400 eV: train compressed and displaced FM fcc seed 0']
>>> flow.jobs[-1].name
'decide: cutoff'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobflow import Flow, Job, Maker, Response, job

from mmace_flows.labels.convergence import (
    ConvergenceScan,
    PointResults,
    candidate_name,
    judge,
    next_scan,
    spin_orbit_probes,
    summarise,
)
from mmace_flows.labels.convergence_run import spin_orbit_settings
from mmace_flows.labels.convergence_settings import ConvergenceSettings
from mmace_flows.labels.convergence_text import scan_line, study_lines, value_text
from mmace_flows.labels.labelling import as_label
from mmace_flows.labels.makers import label_maker
from mmace_flows.labels.spin_orbit_maker import SpinOrbitMaker
from mmace_flows.labels.spin_orbit_runs import read_runs
from mmace_flows.schemas.structure import Candidate


@dataclass
class ConvergenceMaker(Maker):
    """Flow: the scans one after the other. The output of its last job is a `ConvergenceStudy` as a dictionary."""

    settings: ConvergenceSettings
    name: str = "convergence"
    stage: str = "decide"

    def make(self, candidates: Sequence[Candidate], campaign: str, done: Sequence[ConvergenceScan] = ()) -> Flow:
        """The next scan and, by its last job, all that follow. ``candidates`` as `convergence.probes` gives them."""
        settings = ConvergenceSettings.model_validate(self.settings)
        scan = next_scan(settings, done)
        assert scan is not None  # settings that scan nothing are refused
        parameter, values = scan
        jobs: list[Job] = []
        points: list[dict[str, Any]] = []
        for value, dft in values:
            stage = f"{parameter} {value_text(parameter, value)}"
            labels = [
                label_maker(settings.engine, settings=dft, stage=stage).make(one, campaign)
                for one in (candidates if settings.labels else ())
            ]
            turned = [
                SpinOrbitMaker(settings=spin_orbit_settings(dft), stage=f"soc, {stage}").make(one, campaign)
                for one in (spin_orbit_probes(candidates) if settings.anisotropy else ())
            ]
            jobs += [*labels, *turned]
            points.append(
                {
                    "value": value,
                    "dft": dft,
                    "labels": [one.output["label_key"] for one in labels],
                    "spin_orbit": [one.output["spin_orbit_key"] for one in turned],
                }
            )
        deciding = self.decide(list(candidates), campaign, parameter, points, list(done))
        deciding.name = f"{self.stage}: {parameter}"
        return Flow([*jobs, deciding], output=deciding.output, name=f"{self.name}: {parameter}")

    @job
    def decide(
        self,
        candidates: list[Candidate],
        campaign: str,
        parameter: Any,
        points: list[dict[str, Any]],
        done: list[ConvergenceScan],
    ) -> Response[dict[str, Any]]:
        """Judge one scan, and go into the next one or end with the study."""
        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
        settings = ConvergenceSettings.model_validate(self.settings)
        results = []
        version = ""
        for point in points:
            result = PointResults(
                labels=[as_label(stores.labels.query_one({"label_key": key})) for key in point["labels"]],
                spin_orbit=read_runs(stores.spin_orbit, point["spin_orbit"]),
            )
            version = next((one.engine_version for one in result.documents), "")
            value = point["value"]
            results.append((tuple(value) if isinstance(value, list) else value, point["dft"], result))
        scans = [*(ConvergenceScan.model_validate(one) for one in done), judge(settings, parameter, results)]
        stores.event(campaign, self.stage, scan_line(settings, scans[-1]), ends_job=f"{self.stage}: {parameter}")
        known = [Candidate.model_validate(one) for one in candidates]
        if next_scan(settings, scans) is not None:
            return Response(replace=self.make(known, campaign, scans))
        study = summarise(settings, [candidate_name(one) for one in known], scans, version)
        for line in study_lines(study):
            stores.event(campaign, self.stage, line)
        return Response(output=study.model_dump(mode="json"))
