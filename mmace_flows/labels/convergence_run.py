"""A convergence study through the stores of labels and of energies with spin–orbit coupling: nothing computed twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mmace_flows.labels.batch import EngineSet, label_all
from mmace_flows.labels.convergence import (
    ConvergenceScan,
    ConvergenceStudy,
    PointResults,
    candidate_name,
    judge,
    next_scan,
    spin_orbit_probes,
    summarise,
)
from mmace_flows.labels.convergence_settings import (
    PARAMETERS,
    ConvergenceSettings,
    Parameter,
    Value,
    checked,
    fields_of,
)
from mmace_flows.labels.engine import settings_class
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings, find_or_compute_spin_orbit
from mmace_flows.labels.labelling import LabelStore
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import Candidate

DENSITY_OF_ANISOTROPY = 1e-5  # electrons per electron: energies of directions differ by far less than those of states


@dataclass
class Progress:
    """One calculation of the study that is there."""

    parameter: Parameter
    value: Value
    settings: dict[str, Any]
    candidate: Candidate
    document: LabelDocument | SpinOrbitDocument
    computed: bool


def spin_orbit_settings(dft: dict[str, Any]) -> SpinOrbitSettings:
    """E(±x), E(±y) and E(±z) on a ground state with these settings of GPAW."""
    ground = GPAWSettings.model_validate(dft)
    tight = min(ground.density_convergence, DENSITY_OF_ANISOTROPY)
    ground = ground.model_copy(update={"density_convergence": tight, "bands": None})
    return SpinOrbitSettings(dft=ground, directions="lebedev:6", cuts=0)


def run_study(
    settings: ConvergenceSettings,
    candidates: Sequence[Candidate],
    labels: LabelStore,
    spin_orbit: LabelStore,
    folder: Path,
    campaign: str | None = None,
    retry_failed: bool = False,
    on_result: Callable[[Progress], None] = lambda progress: None,
    on_scan: Callable[[ConvergenceScan], None] = lambda scan: None,
) -> ConvergenceStudy:
    """The whole study; what the stores have is not computed again, so that the same call goes on after a break.

    Parameters: ``candidates`` as `probes` gives them; ``folder`` for the engine's files; ``on_result`` is called after
    every calculation, ``on_scan`` after every scan. Raises UserError for settings or structures that cannot be used.
    """
    done: list[ConvergenceScan] = []
    version = ""
    while (scan := next_scan(settings, done)) is not None:
        parameter, values = scan
        results = []
        for value, dft in values:
            result = PointResults()
            if settings.labels:
                engines = EngineSet(settings.engine, dft)

                def tell(position: int, document: LabelDocument, computed: bool) -> None:
                    on_result(Progress(parameter, value, dft, candidates[position], document, computed))  # noqa: B023

                result.labels = label_all(candidates, engines, labels, folder, campaign, retry_failed, tell)
                version = result.labels[0].engine_version
            for one in spin_orbit_probes(candidates) if settings.anisotropy else []:
                document, computed = find_or_compute_spin_orbit(
                    one.structure, spin_orbit_settings(dft), spin_orbit, folder / "soc", campaign,
                    retry_failed=retry_failed,
                )  # fmt: skip
                result.spin_orbit.append(document)
                version = document.engine_version
                on_result(Progress(parameter, value, dft, one, document, computed))
            results.append((value, dft, result))
        done.append(judge(settings, parameter, results))
        on_scan(done[-1])
    return summarise(settings, [candidate_name(one) for one in candidates], done, version)


def check_study(settings: ConvergenceSettings, candidates: Sequence[Candidate]) -> None:
    """Raises UserError for what the engine can never compute, before anything is."""
    if settings.labels:
        EngineSet(settings.engine, settings.start()).check([(candidate_name(one), one) for one in candidates])


def expected_costs(settings: ConvergenceSettings, candidates: Sequence[Candidate]) -> list[float]:
    """Relative cost of every calculation of the study in its order, parameters not yet scanned taken where they start.

    Plane waves go with cutoff^1.5, and there is a Hamiltonian per k-point and spin. A ground state of the anisotropy
    has three times the bands, and its directions come on top.
    """
    kind: Any = settings_class(settings.engine)
    costs = []
    for parameter in PARAMETERS:
        values = settings.values(parameter)
        for value in values if len(values) > 1 else ():
            dft = kind.model_validate(checked(settings.engine, settings.start() | fields_of(parameter, value)))

            def one(candidate: Candidate, dft: Any = dft) -> float:
                spins = 2.0 if np.any(candidate.structure.magmoms) else 1.0
                return float(dft.cutoff**1.5 * prod(dft.grid(candidate.structure.cell)) * spins)

            costs += [one(candidate) for candidate in candidates if settings.labels]
            costs += [4.0 * one(candidate) for candidate in spin_orbit_probes(candidates) if settings.anisotropy]
    return costs
