"""One jobflow Maker for every way to make structures: which one is in its settings document.

>>> from mmace_flows.structures.makers import StructuresMaker
>>> from mmace_flows.structures.operations import EnumerateSettings
>>> from mmace_flows.structures.base_cells import base_candidates
>>> job = StructuresMaker(settings=EnumerateSettings(max_cells=1)).make(base_candidates(bases=["fcc"]), campaign="feni")
>>> job.name
'structures: enumerate'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jobflow import Job, Maker, OutputReference, job
from pydantic import TypeAdapter

from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.enumeration import EnumerateSettings
from mmace_flows.structures.operations import Operation, generate


@dataclass
class StructuresMaker(Maker):
    """Job: candidates from parents, by any operation of `mmace_flows.structures.operations`.

    ``settings`` is one of its settings documents. A random search keeps every finished attempt in the campaign's folder
    on this machine, so that a job which was killed goes on.
    """

    name: str = "structures"
    stage: str = "structures"
    settings: Document = field(default_factory=EnumerateSettings)
    group: str = "train"
    iteration: int = 0

    def make(self, parents: Sequence[Candidate] | OutputReference = (), campaign: str | None = None) -> Job:
        """The job; its output is {"candidates": list of `Candidate` as dicts, "lines": what is worth telling}.

        ``parents`` may be the ``output["candidates"]`` of another such job. Without ``campaign`` the job tells nobody
        and keeps nothing but its output.
        """
        made: Job = self.run(parents if isinstance(parents, OutputReference) else list(parents), campaign)
        made.name = f"{self.stage}: {self.settings.operation}"  # type: ignore[attr-defined]
        return made

    @job
    def run(self, parents: Sequence[Candidate], campaign: str | None) -> dict[str, Any]:
        """What a worker does: make them, tell."""
        data = self.settings.model_dump() if isinstance(self.settings, Document) else dict(self.settings)
        settings: Any = TypeAdapter(Operation).validate_python({k: v for k, v in data.items() if k[0] != "@"})
        known = [Candidate.model_validate(parent) for parent in parents]
        folder, stores = None, None
        if campaign is not None:
            from mmace_flows.execution.stores import open_stores

            stores = open_stores()
            key = content_hash([settings.model_dump(mode="json"), [parent.structure.hash() for parent in known]])
            folder = stores.scratch(campaign, f"structures-{settings.operation}-{key[:12]}")
        found, lines = generate(known, settings, folder, group=self.group, iteration=self.iteration)
        if stores is not None and campaign is not None:
            told = "; ".join([f"{settings.operation}: {len(found)} structures", *lines])
            stores.event(campaign, self.stage, told, ends_job=f"{self.stage}: {settings.operation}")
        return {"candidates": [candidate.model_dump(mode="json") for candidate in found], "lines": lines}
