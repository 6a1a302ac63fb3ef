"""Magnetic branches of one geometry: label it from several starting moments, keep the lowest, record the others.

A potential and its training label may sit on different branches (TbSbPt: 0.34 μB in the label, 5.67 μB by the model);
DFT from both starting moments says which one is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jobflow import Flow, Job, Maker, job

from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
from mmace_flows.labels.labelling import candidate_title
from mmace_flows.labels.starting_states import in_state
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.structure import Candidate, MagneticState
from mmace_flows.structures.moments import magnetic_state


def lowest_of_each(documents: Sequence[LabelDocument]) -> list[LabelDocument]:
    """Of each geometry the converged label with the lowest free energy, in the order of their first appearance.

    Geometries none of whose labels converged are left out.
    """
    lowest: dict[str, LabelDocument] = {}
    for document in documents:
        if document.free_energy is None:
            continue
        key = document.structure.parent_hash()
        if key not in lowest or document.free_energy < (lowest[key].free_energy or 0.0):
            lowest[key] = document
    return list(lowest.values())


def branch_rows(documents: Sequence[LabelDocument]) -> list[dict[str, Any]]:
    """Branches of one geometry, lowest first and failed ones last.

    A row has ``label_key``, ``asked``, ``reached``, ``energy_above_lowest`` (eV per atom), ``lengths`` [N] μB and
    ``error``.
    """
    energies = [one.free_energy for one in documents if one.free_energy is not None]
    rows = []
    for one in documents:
        above = None
        if one.free_energy is not None:
            above = (one.free_energy - min(energies)) / len(one.structure.symbols)
        rows.append(
            {
                "label_key": one.label_key,
                "asked": one.magnetic_state_asked,
                "reached": one.magnetic_state_reached,
                "energy_above_lowest": above,
                "lengths": None if one.magmoms is None else np.linalg.norm(one.magmoms, axis=1).tolist(),
                "error": one.error,
            }
        )
    return sorted(rows, key=lambda row: np.inf if row["energy_above_lowest"] is None else row["energy_above_lowest"])


@dataclass
class BranchesMaker(Maker):
    """Flow: labels of one geometry from several starts, and a job that keeps the lowest.

    Its output is the kept label's summary (``label_key``, ``status``, …) with ``branches``, the rows of `branch_rows`.
    ``states`` are starts by name; further ones are given as moments.
    """

    name: str = "branches"
    stage: str = "lowest"
    label_maker: Maker = field(default_factory=GPAWLabelMaker)
    states: tuple[MagneticState, ...] = ("FM", "AFM", "NM")

    def make(self, candidate: Candidate, campaign: str, starts: Sequence[Any] = ()) -> Flow:
        """``starts``: further initial moments, each [N,3] μB, such as a label's and a model's."""
        candidates = [in_state(candidate, state) for state in self.states]
        for moments in starts:
            structure = candidate.structure.model_copy(update={"magmoms": np.asarray(moments, dtype=float).tolist()})
            state = magnetic_state(moments)
            candidates.append(candidate.model_copy(update={"structure": structure, "magnetic_state": state}))
        maker: Any = self.label_maker
        labels = [maker.make(one, campaign) for one in candidates]
        kept: Job = self.keep([label.output for label in labels], campaign)
        kept.name = f"{self.stage}: {candidate_title(candidate)}"
        return Flow([*labels, kept], output=kept.output, name=kept.name)

    @job
    def keep(self, summaries: list[dict[str, Any]], campaign: str) -> dict[str, Any]:
        """What a worker does: read the labels, compare, tell."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.labels.labelling import label_summary
        from mmace_flows.learning.dataset import read_labels

        stores = open_stores()
        documents = read_labels(stores.labels, [summary["label_key"] for summary in summaries])
        rows = branch_rows(documents)
        for row in rows:
            stores.event(campaign, self.stage, branch_line(row))
        kept = lowest_of_each(documents)
        return {**label_summary(kept[0] if kept else documents[0], computed=False), "branches": rows}


def branch_line(row: dict[str, Any]) -> str:
    """One branch in words."""
    if row["energy_above_lowest"] is None:
        return f"started {row['asked']}: set aside, {row['error']}"
    lengths = " ".join(f"{length:.2f}" for length in row["lengths"][:8]) + (" …" if len(row["lengths"]) > 8 else "")
    above = 1000.0 * row["energy_above_lowest"]
    return f"started {row['asked']}, reached {row['reached']}: {above:.1f} meV/atom above the lowest, |m| {lengths} μB"
