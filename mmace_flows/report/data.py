"""What the report shows, as plain data made from the campaign's documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mmace_flows.learning.evaluation import ParityData
from mmace_flows.properties.bain import BainPath
from mmace_flows.report.figures import BainPanel, CoveragePoint, Parity
from mmace_flows.schemas.campaign import Campaign
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.loop import LoopState
from mmace_flows.structures.base_cells import tetragonal_ratio, volume_per_atom

GPA_PER_EV_A3 = 160.21766208
STATES = ("NM", "FM", "AFM")
NO_FORCE = 1e-4  # eV/Å: forces below are zero by symmetry and noise of DFT


@dataclass
class ReportData:
    """Documents of one campaign, as far as it has come."""

    name: str
    campaign: Campaign | None
    states: list[LoopState]  # by iteration
    labels: list[LabelDocument]
    jobs: dict[str, dict[str, int]] = field(default_factory=dict)  # stage → job state → count

    @property
    def last(self) -> LoopState | None:
        """The latest iteration, if there is one."""
        return self.states[-1] if self.states else None

    @property
    def bain_labels(self) -> list[LabelDocument]:
        """Labels of the Bain path."""
        return [label for label in self.labels if label.candidate.group == "bain"]

    @property
    def own_labels(self) -> list[LabelDocument]:
        """Labels for training and test."""
        return [label for label in self.labels if label.candidate.group != "bain"]


def free_energy_per_atom(label: LabelDocument) -> float | None:
    """Free energy of a converged label, eV per atom."""
    energy = label.free_energy if label.free_energy is not None else label.energy
    if label.status != "converged" or energy is None:
        return None
    return energy / len(label.structure.symbols)


def bain_reference(labels: Sequence[LabelDocument]) -> float | None:
    """Energy of the lowest ferromagnetic DFT point (of any DFT point if there is none), eV per atom."""
    found = [(label.candidate.magnetic_state, free_energy_per_atom(label)) for label in labels]
    energies = [energy for state, energy in found if energy is not None and state == "FM"]
    energies = energies or [energy for _, energy in found if energy is not None]
    return min(energies) if energies else None


def bain_panels(data: ReportData) -> list[BainPanel]:
    """One panel per iteration, or DFT alone before the first model."""
    reference = bain_reference(data.bain_labels)
    if reference is None:
        return []
    dft = _dft_curves(data.bain_labels, reference)
    panels = []
    for state in data.states:
        if not state.details.get("bain"):
            continue
        path = BainPath(**state.details["bain"])
        model, fixed = {}, {}
        for magnetic in path.states:
            points = path.of_state(magnetic)
            model[magnetic] = _curve([(p.c_over_a, p.energy) for p in points if p.converged], reference)
            fixed[magnetic] = _curve([(p.c_over_a, p.energy_at_dft_moments) for p in points], reference)
        panels.append(BainPanel(f"iteration {state.iteration}", model, dft, fixed))
    return panels or [BainPanel("DFT", {}, dft)]


def _dft_curves(labels: Sequence[LabelDocument], reference: float) -> dict[str, tuple[list[float], list[float]]]:
    points: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
    for label in labels:
        points[label.candidate.magnetic_state].append(
            (float(label.candidate.details["c_over_a"]), free_energy_per_atom(label))
        )
    ordered = [state for state in STATES if state in points] + sorted(set(points) - set(STATES))
    return {state: _curve(points[state], reference) for state in ordered}


def _curve(points: Sequence[tuple[float, float | None]], reference: float) -> tuple[list[float], list[float]]:
    """c/a and energy above ``reference`` in meV per atom, sorted, without missing points."""
    known = sorted((ratio, 1000.0 * (energy - reference)) for ratio, energy in points if energy is not None)
    return [ratio for ratio, _ in known], [energy for _, energy in known]


def c_over_a(label: LabelDocument) -> float:
    """c/a of the body-centred tetragonal cell of a label, from its lattice vectors."""
    return tetragonal_ratio(label.structure.cell, num_layers=len(label.structure.symbols))


def coverage(data: ReportData) -> tuple[list[CoveragePoint], list[tuple[float, float]]]:
    """Training and test structures by operation and iteration, and the (c/a, volume) of the Bain path."""
    points = []
    for label in data.own_labels:
        candidate = label.candidate
        when = f", iteration {candidate.iteration}" if candidate.iteration > 1 else ""
        points.append(CoveragePoint(c_over_a(label), volume_per_atom(label.structure), f"{candidate.operation}{when}"))
    points.sort(key=lambda point: ("iteration" in point.group, point.group))
    bain = sorted(
        {(round(c_over_a(label), 6), round(volume_per_atom(label.structure), 6)) for label in data.bain_labels}
    )
    return points, bain


def parities(state: LoopState) -> list[Parity]:
    """Parity data of one iteration: energy, forces, stress and moments of every set."""
    sets = {
        title: ParityData(**state.details["parity"][key])
        for key, title in (("train", "train"), ("test", "test"), ("bain", "Bain path"))
        if key in state.details.get("parity", {})
    }
    reference = min((e for parity in sets.values() for e in parity.energy_dft), default=0.0)
    relative = lambda values: [value - reference for value in values]  # noqa: E731
    gpa = lambda values: [value * GPA_PER_EV_A3 for value in values]  # noqa: E731
    panels = [
        Parity(
            "energy (eV/atom above the lowest)",
            {name: (relative(p.energy_dft), relative(p.energy_model)) for name, p in sets.items()},
            "meV/atom",
            1000.0,
        ),
        Parity("force (eV/Å)", {name: (p.forces_dft, p.forces_model) for name, p in sets.items()}, "meV/Å", 1000.0),
        Parity("stress (GPa)", {name: (gpa(p.stress_dft), gpa(p.stress_model)) for name, p in sets.items()}, "GPa"),
        Parity("moment (μB)", {name: (p.moments_dft, p.moments_model) for name, p in sets.items()}, "μB"),
    ]
    return [panel for panel in panels if any(len(dft) for dft, _ in panel.sets.values())]


def branches_without_forces(data: ReportData, keys: Sequence[str]) -> set[str]:
    """Branches ("all" among them) of these labels in which symmetry lets no force act: nothing to be wrong about."""
    from mmace.train import magnetic_branch

    wanted, largest = set(keys), defaultdict[str, float](float)
    for label in data.labels:
        if label.label_key in wanted and label.forces is not None and label.magmoms is not None:
            force = max((abs(component) for row in label.forces for component in row), default=0.0)
            for branch in ("all", magnetic_branch(label.magmoms)):
                largest[branch] = max(largest[branch], force)
    return {branch for branch, force in largest.items() if force < NO_FORCE}


def stage_costs(data: ReportData) -> list[tuple[str, int, float]]:
    """Stage, number of calculations and core-seconds: DFT labels by operation, then training and evaluation."""
    costs: dict[str, list[float]] = defaultdict(list)
    for label in data.labels:
        name = "Bain path" if label.candidate.group == "bain" else label.candidate.operation
        costs[f"DFT: {name}"].append((label.wall_seconds or 0.0) * max(label.cores, 1))
    for state in data.states:
        for stage, seconds in state.details.get("core_seconds", {}).items():
            costs[stage].append(float(seconds))
    return [(stage, len(seconds), sum(seconds)) for stage, seconds in costs.items()]


def changed_orderings(labels: Sequence[LabelDocument]) -> list[LabelDocument]:
    """Labels whose moments settled into another magnetic state than asked for."""
    return [label for label in labels if label.ordering_changed]


def set_aside(data: ReportData) -> list[tuple[str, str, str]]:
    """(label key, what it was, reason) of labels not trained on: reasons of the iterations, else failures so far."""
    by_key = {label.label_key: label for label in data.labels}
    reasons: dict[str, str] = {
        label.label_key: f"DFT failed: {label.error or 'no reason given'}"
        for label in data.labels
        if label.status == "failed"
    }
    for state in data.states:
        reasons.update(state.details.get("set_aside", {}))
    return [(key, describe(by_key.get(key)), reason) for key, reason in sorted(reasons.items())]


def describe(label: LabelDocument | None) -> str:
    """A label in a few words: what made it, its state, its place."""
    if label is None:
        return "label not in the store"
    return (
        f"{label.candidate.operation}, {label.magnetic_state_asked}, c/a {c_over_a(label):.2f}, "
        f"{volume_per_atom(label.structure):.2f} Å³/atom"
    )


def versions(data: ReportData) -> dict[str, Any]:
    """Engines, code versions and hosts that the labels name."""
    return {
        "engines": sorted({f"{label.engine} {label.engine_version}" for label in data.labels}),
        "hosts": sorted({label.host for label in data.labels if label.host}),
        "code": sorted({label.code_version for label in data.labels}),
    }
