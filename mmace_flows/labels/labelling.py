"""From a candidate to its label: found in the store, or computed and stored; and made again from a document."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

import mmace_flows
from mmace.errors import UserError
from mmace_flows.labels.engine import Engine, EngineResult, get_engine
from mmace_flows.schemas.label import LabelDocument, label_key
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.moments import common_axis, magnetic_state


class LabelStore(Protocol):
    """The part of a maggma store that labels need."""

    def query_one(self, criteria: dict[str, Any] | None = None) -> Any: ...

    def update(self, docs: Any, key: Any = None) -> None: ...


def find_label(key: str, labels: LabelStore) -> LabelDocument | None:
    """The stored label, or None."""
    found = labels.query_one({"label_key": key})
    return None if found is None else as_label(found)


def as_label(document: LabelDocument | Mapping[str, Any]) -> LabelDocument:
    """A label from what a store gives: fields that the store adds (``_id``, ``last_updated``) are dropped.

    Raises UserError that names the field for a document that is not a label.
    """
    if isinstance(document, LabelDocument):
        return document
    try:
        return LabelDocument.from_store(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        key = document.get("label_key", "without a key")
        raise UserError(f"label {key}: {field}: {first['msg'].lower()}; query whole documents, all fields") from error


def find_or_compute(
    candidate: Candidate,
    engine: Engine,
    labels: LabelStore,
    folder: Path,
    campaign: str | None = None,
    retry_failed: bool = False,
) -> tuple[LabelDocument, bool]:
    """The label of a candidate, and whether it had to be computed.

    What is in the store is not computed again, failed labels included unless ``retry_failed``. A new label is stored
    before this returns, so that a killed process loses at most the calculation it was in.
    """
    settings = engine.settings_dict()
    key = label_key(candidate.structure, engine.name, settings)
    found = find_label(key, labels)
    if found is not None and (found.status == "converged" or not retry_failed):
        return found, False
    result = engine.run(candidate.structure, folder, name=key)
    document = make_document(key, candidate, engine, result, campaign)
    labels.update([document.model_dump(mode="json")], key="label_key")
    return document, True


def make_document(
    key: str, candidate: Candidate, engine: Engine, result: EngineResult, campaign: str | None = None
) -> LabelDocument:
    """The label document of an engine's result."""
    asked = magnetic_state(candidate.structure.magmoms)
    document = LabelDocument(
        label_key=key,
        status="converged" if result.converged else "failed",
        error=None if result.converged else (result.error or "not converged"),
        structure=candidate.structure,
        magnetic_state_asked=asked,
        engine=engine.name,
        engine_version=engine.version(),
        settings=engine.settings_dict(),
        attempts=result.attempts,
        wall_seconds=result.wall_seconds,
        host=platform.node(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=mmace_flows.__version__,
        candidate=candidate,
        campaign=campaign,
    )
    if not result.converged:
        return document
    assert result.magmoms is not None and result.forces is not None
    reached = magnetic_state(result.magmoms)
    return document.model_copy(
        update={
            "energy": result.energy,
            "free_energy": result.free_energy,
            "forces": np.asarray(result.forces).tolist(),
            "stress": None if result.stress is None else np.asarray(result.stress).tolist(),
            "magmoms": np.asarray(result.magmoms).tolist(),
            "magnetic_forces": None if result.magnetic_forces is None else np.asarray(result.magnetic_forces).tolist(),
            "total_magmom": result.total_magmom,
            "magnetic_state_reached": reached,
            "ordering_changed": asked != reached,
            "scf_iterations": result.scf_iterations,
            "details": result.details,
        }
    )


def candidate_title(candidate: Candidate) -> str:
    """A few words that tell a candidate from its neighbours in a list of jobs."""
    words = [candidate.group, candidate.operation] if candidate.operation != candidate.group else [candidate.group]
    words.append(candidate.magnetic_state)
    if "base" in candidate.details:
        words.append(str(candidate.details["base"]))
    if "c_over_a" in candidate.details:
        words.append(f"c/a {float(candidate.details['c_over_a']):.3f}")
    if "total_magmom" in candidate.details:
        words.append(f"{float(candidate.details['total_magmom']):g} μB")
    if "configuration" in candidate.details:
        words.append(f"configuration {candidate.details['configuration']}")
    if "step" in candidate.details:
        words.append(f"step {candidate.details['step']}")
    if candidate.seed is not None:
        words.append(f"seed {candidate.seed}")
    return " ".join(words)


def label_summary(document: LabelDocument, computed: bool = True) -> dict[str, Any]:
    """The few numbers that a job hands on and the live display shows; the rest stays in the store.

    ``energy_per_atom`` is the free energy, which potentials are trained on, eV per atom.
    """
    number = len(document.structure.symbols)
    return {
        "label_key": document.label_key,
        "status": document.status,
        "error": document.error,
        "energy_per_atom": None if document.free_energy is None else document.free_energy / number,
        "operation": document.candidate.operation,
        "magnetic_state": document.magnetic_state_reached or document.magnetic_state_asked,
        "magnetic_state_asked": document.magnetic_state_asked,
        "group": document.candidate.group,
        "seconds": document.wall_seconds if computed else 0.0,
        "computed": computed,
    }


def summary_line(document: LabelDocument, computed: bool = True) -> str:
    """One line for the log: what it was and what came out."""
    what = candidate_title(document.candidate)
    if document.status == "failed" or document.free_energy is None or document.magmoms is None:
        return f"{what}: set aside, {document.error}"
    moments = np.asarray(document.magmoms)
    energy = document.free_energy / len(moments)
    axis = common_axis(moments)
    if axis is not None:
        listed = " ".join(f"{moment:+.2f}" for moment in moments[:8] @ axis) + (" …" if len(moments) > 8 else "")
    else:
        vectors = [" ".join(f"{component:+.2f}" for component in moment) for moment in moments[:4]]
        listed = ", ".join(vectors) + (", …" if len(moments) > 4 else "")
    seconds = f"{document.wall_seconds:.0f} s" if computed else "found in the store"
    return f"{what}: {energy:.4f} eV/atom, {document.magnetic_state_reached} ({listed} μB), {seconds}"


def recompute_label(document: LabelDocument | Mapping[str, Any], folder: Path | str) -> EngineResult:
    """Make the numbers of a converged label again, from the document alone.

    The same engine, settings and initial moments, and straight the attempt that had converged. Energies agree to about
    1e-5 eV per cell: see docs/database.md.

    Parameters: ``document`` a label, or the document as a store gives it; ``folder`` for the engine's own files.
    Raises UserError for a label that failed, or whose key does not belong to its content.
    """
    document = as_label(document)
    if document.status != "converged":
        raise UserError(f"label {document.label_key}: it failed ({document.error}); there is no number to make again")
    if label_key(document.structure, document.engine, document.settings) != document.label_key:
        raise UserError(f"label {document.label_key}: structure or settings were changed after it was computed")
    engine = get_engine(document.engine, document.settings)
    return engine.run(document.structure, Path(folder), name="recompute", start_attempt=len(document.attempts) - 1)
