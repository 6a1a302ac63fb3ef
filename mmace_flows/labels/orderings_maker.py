"""From crystals, which may come out of another job, to labels of their magnetic orderings and the lowest of each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from jobflow import Flow, Job, Maker, Response, job

from mmace.errors import UserError
from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.enumeration import EnumerateSettings, enumerate_orderings


@dataclass
class LabelOrderingsMaker(Maker):
    """Job that is replaced by labels of all orderings of its crystals and a table of what came out.

    The output of the table is a list with a row per crystal: ``crystal``, ``formula``, ``orderings``, ``labelled``,
    ``state`` and ``energy_per_atom`` (eV) of the lowest, ``label_keys``.
    """

    name: str = "label orderings"
    stage: str = "orderings"
    enumerate: EnumerateSettings = field(default_factory=EnumerateSettings)
    label_maker: Maker = field(default_factory=GPAWLabelMaker)
    max_atoms: int = 16

    def make(self, made: Any, campaign: str) -> Job:
        """``made``: output of a `StructuresMaker` job. Orderings of more than ``max_atoms`` atoms are left out."""
        expanding: Job = self.expand(made, campaign)
        expanding.name = f"{self.stage}: enumerate"
        return expanding

    @job
    def expand(self, made: dict[str, Any], campaign: str) -> Response[Any]:
        """What a worker does: enumerate, and go into the labels."""
        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
        settings = EnumerateSettings.model_validate(self.enumerate)
        maker: Any = replace(self.label_maker, stage="label")  # type: ignore[call-arg]
        names, labels = [], []
        for number, one in enumerate(made["candidates"]):
            parent = Candidate.model_validate(one)
            try:
                found = enumerate_orderings(parent.structure, settings)
            except UserError as error:  # nothing magnetic in it, or too much
                stores.event(campaign, self.stage, f"crystal {number}: no orderings, {error}")
                continue
            small = [ordering for ordering in found if len(ordering.structure.symbols) <= self.max_atoms]
            for index, ordering in enumerate(small):
                details = {**ordering.details, "base": f"crystal {number} ordering {index}"}
                labels.append(maker.make(ordering.model_copy(update={"details": details}), campaign))
            names.append((number, len(small)))
            told = f"crystal {number}: {len(found)} orderings, {len(small)} of at most {self.max_atoms} atoms"
            stores.event(campaign, self.stage, told)
        table = self.table(names, [label.output for label in labels], campaign)
        table.name = f"{self.stage}: table"
        return Response(replace=Flow([*labels, table], output=table.output, name=f"{self.stage}: labels"))

    @job
    def table(self, names: list[Any], summaries: list[dict[str, Any]], campaign: str) -> list[dict[str, Any]]:
        """What a worker does: read the labels, take the lowest of each crystal, tell."""
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.learning.dataset import read_labels

        stores = open_stores()
        keys = [summary["label_key"] for summary in summaries]
        documents = {one.label_key: one for one in read_labels(stores.labels, keys)}
        rows, begin = [], 0
        for number, count in names:
            own = [documents[key] for key in keys[begin : begin + count]]
            begin += count
            good = [one for one in own if one.free_energy is not None]
            row: dict[str, Any] = {"crystal": number, "orderings": count, "labelled": len(good), "state": None}
            row |= {"energy_per_atom": None, "formula": None, "label_keys": [one.label_key for one in own]}
            if own:
                row["formula"] = own[0].structure.to_atoms().get_chemical_formula(mode="reduce")
            if good:
                # orderings of one crystal have different numbers of atoms
                lowest = min(good, key=lambda one: float(one.free_energy or 0.0) / len(one.structure.symbols))
                row["state"] = lowest.magnetic_state_reached
                row["energy_per_atom"] = float(lowest.free_energy or 0.0) / len(lowest.structure.symbols)
            rows.append(row)
            stores.event(campaign, self.stage, row_line(row))
        return rows


def row_line(row: dict[str, Any]) -> str:
    """A crystal in words."""
    what = (
        f"crystal {row['crystal']} {row['formula'] or ''}: {row['labelled']} of {row['orderings']} orderings labelled"
    )
    if row["energy_per_atom"] is None:
        return what
    return f"{what}, lowest {row['state']} at {row['energy_per_atom']:.4f} eV/atom"
