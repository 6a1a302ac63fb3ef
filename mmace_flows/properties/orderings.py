"""Magnetic orders of one crystal against each other: which lies lowest, and what became of the moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jobflow import Job, Maker, job

from mmace_flows.schemas.label import LabelDocument

COUNTED = 0.5  # of the largest moment: shorter ones, induced, have no angles worth telling


@dataclass
class CompareOrdersMaker(Maker):
    """Job: orders of one crystal, lowest first, from their labels."""

    name: str = "compare orders"
    stage: str = "compare"

    def make(self, summaries: dict[str, Any], campaign: str) -> Job:
        """``summaries``: name of the order → output of its label job. Its output is what `compare_orders` gives."""
        made: Job = self.run(list(summaries), list(summaries.values()), campaign)
        made.name = f"{self.stage}: {len(summaries)} orders"
        return made

    @job
    def run(self, names: list[str], summaries: list[dict[str, Any]], campaign: str) -> list[dict[str, Any]]:
        """What a worker does: read the labels, compare, tell."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.learning.dataset import read_labels

        stores = open_stores()
        documents = read_labels(stores.labels, [summary["label_key"] for summary in summaries])
        found = {document.label_key: document for document in documents}
        rows = compare_orders(names, [found[summary["label_key"]] for summary in summaries])
        for row in rows:
            stores.event(campaign, self.stage, order_line(row))
        return rows


def compare_orders(names: Sequence[str], documents: Sequence[LabelDocument]) -> list[dict[str, Any]]:
    """One row per order, lowest energy first and failed ones last.

    A row has ``order``, ``status``, ``energy_above_lowest`` (free energy, eV per atom), ``lengths`` [N] μB,
    ``angles`` between pairs of moments longer than half the longest, °, ``total_magmom`` μB, ``label_key``, ``error``.
    """
    rows = []
    for name, document in zip(names, documents, strict=True):
        row: dict[str, Any] = {"order": name, "status": document.status, "label_key": document.label_key}
        row |= {"error": document.error, "energy": None, "energy_above_lowest": None, "lengths": None, "angles": None}
        if document.free_energy is not None and document.magmoms is not None:
            moments = np.asarray(document.magmoms)
            row |= {"energy": document.free_energy / len(moments), "lengths": np.linalg.norm(moments, axis=1).tolist()}
            row |= {"angles": moment_angles(moments), "total_magmom": float(np.linalg.norm(moments.sum(axis=0)))}
        rows.append(row)
    energies = [row["energy"] for row in rows if row["energy"] is not None]
    for row in rows:
        energy = row.pop("energy")
        row["energy_above_lowest"] = None if energy is None else energy - min(energies)
    return sorted(rows, key=lambda row: np.inf if row["energy_above_lowest"] is None else row["energy_above_lowest"])


def moment_angles(moments: np.ndarray) -> list[float]:
    """Angles, °, of all pairs of moments [N,3] that are longer than half the longest; none where all are zero."""
    lengths = np.linalg.norm(moments, axis=1)
    long = moments[lengths > COUNTED * lengths.max(initial=0.0)]
    directions = long / np.linalg.norm(long, axis=1, keepdims=True)
    first, second = np.triu_indices(len(long), k=1)
    cosines = np.sum(directions[first] * directions[second], axis=1)
    angles: list[float] = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))).tolist()
    return angles


def order_line(row: dict[str, Any]) -> str:
    """One row in words."""
    if row["energy_above_lowest"] is None:
        return f"{row['order']}: set aside, {row['error']}"
    lengths = " ".join(f"{length:.2f}" for length in row["lengths"][:8])
    angles = " ".join(f"{angle:.0f}°" for angle in row["angles"][:6])
    energy = 1000.0 * row["energy_above_lowest"]
    return f"{row['order']}: {energy:.1f} meV/atom above the lowest, moments {lengths} μB, angles {angles or 'none'}"
