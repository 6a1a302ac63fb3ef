"""Stores in memory, and labels from a formula, so that the loop can run without a database and without DFT."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jobflow import Job, Maker, job
from maggma.stores import MemoryStore
from synthetic import label_of

from mmace_flows.schemas.structure import Candidate


def memory_store(key: str) -> MemoryStore:
    """A connected, empty store."""
    store = MemoryStore(key=key)
    store.connect()
    return store


@dataclass
class MemoryStores:
    """The part of `mmace_flows.execution.stores.Stores` that the loop uses."""

    folder: Path
    labels: MemoryStore = field(default_factory=lambda: memory_store("label_key"))
    loop_states: MemoryStore = field(default_factory=lambda: memory_store("loop_id"))
    jobs: Any = field(default_factory=lambda: SimpleNamespace(docs_store=memory_store("uuid")))
    models: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def save_model(self, data: bytes, metadata: dict[str, Any]) -> str:
        key = metadata.get("model_hash") or hashlib.sha256(data).hexdigest()[:32]
        self.models[key], self.metadata[key] = data, metadata
        return key

    def load_model(self, key: str) -> bytes:
        return self.models[key]

    def event(self, campaign: str, stage: str, message: str, **data: Any) -> None:
        self.events.append((campaign, stage, message))

    def scratch(self, campaign: str, key: str) -> Path:
        folder = self.folder / campaign / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder


STORES: list[MemoryStores] = []  # the ones of the running test


@dataclass
class FormulaLabelMaker(Maker):
    """Labels by formula: energy by c/a and state, as `synthetic.label_of`."""

    name: str = "label"
    stage: str = "label"
    fail_operation: str = ""

    def make(self, candidate: Candidate, campaign: str) -> Job:
        """The job."""
        made = self.run(candidate, campaign)
        made.name = f"{self.stage}: {candidate.operation}"
        return made

    @job
    def run(self, candidate: Candidate, campaign: str) -> dict[str, Any]:
        """A label document, which is also stored."""
        moments = np.asarray(candidate.structure.magmoms)
        label = label_of(
            candidate.structure,
            candidate.magnetic_state if candidate.magnetic_state in ("NM", "FM", "AFM") else "FM",
            candidate.operation,
            candidate.group,
            magmoms=moments.tolist(),
            candidate=candidate,
            campaign=campaign,
        )
        if candidate.operation == self.fail_operation:
            label = label.model_copy(update={"status": "failed", "error": "by request"})
        STORES[-1].labels.update([label.model_dump()], key="label_key")
        return {"label_key": label.label_key, "status": label.status}
