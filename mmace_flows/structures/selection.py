"""Which of many structures to label: new ones, far from each other and from what is known, trusted but uncertain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.label import label_key
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.descriptors import DescriptorSettings, cheap_descriptors, model_descriptors

if TYPE_CHECKING:
    from mmace import Potential
    from mmace.uncertainty import Uncertainty


class SelectSettings(Document):
    """How structures are selected."""

    operation: Literal["select"] = "select"
    count: int = Field(default=50, ge=1, description="structures selected, at most")
    by: Literal["distance", "uncertainty"] = Field(
        default="distance",
        description="distance: farthest points of the descriptors; uncertainty: the least certain first",
    )
    trust: tuple[float, float] | None = Field(
        default=None,
        description="window of the uncertainty of the energy, eV per atom: below it the potential knows, above it the "
        "structure is nonsense; none: no window",
    )
    descriptor: DescriptorSettings = Field(default_factory=DescriptorSettings, description="without a potential")


class LabelQuery(Protocol):
    """The part of a label store that is asked here."""

    def query(self, criteria: dict[str, Any] | None = None, properties: Any = None) -> Any: ...


def select(
    candidates: Sequence[Candidate],
    settings: SelectSettings | None = None,
    known: Sequence[MagneticStructure] = (),
    model: Potential | None = None,
    uncertainty: Uncertainty | None = None,
) -> tuple[list[Candidate], dict[str, int]]:
    """The selected candidates in order of choice, and how many were left out for which reason.

    Copies (by content) of each other and of ``known`` first, then the trust window, then by distance or uncertainty.
    Parameters: ``known`` structures that are labelled already, ``model`` gives the descriptors (without: the cheap
    ones), ``uncertainty`` a committee's or the last layer's, for the window and for selection by it.
    Raises UserError if an uncertainty is needed and not given.
    """
    settings = settings or SelectSettings()
    if uncertainty is None and (settings.trust is not None or settings.by == "uncertainty"):
        raise UserError("select: trust and by: uncertainty need the uncertainty of a committee or a fitted last layer")
    distinct = without_copies(candidates, {structure.hash() for structure in known})
    counts = {"copies": len(candidates) - len(distinct)}
    left = distinct
    if settings.trust is not None and uncertainty is not None:
        left = trusted(distinct, uncertainty, *settings.trust)
    counts["outside the trust window"] = len(distinct) - len(left)
    if settings.by == "uncertainty" and uncertainty is not None:
        from mmace.uncertainty import select_most_uncertain

        frames = [candidate.structure.to_atoms() for candidate in left]
        order = select_most_uncertain(frames, uncertainty, settings.count)
    else:
        structures = [candidate.structure for candidate in left]
        everything = [*structures, *known]
        if model is not None:
            features = model_descriptors(everything, model)
        else:
            features = cheap_descriptors(everything, settings.descriptor)
        order = farthest_points(features[: len(left)], settings.count, features[len(left) :])
    chosen = [left[index] for index in order]
    counts["not selected"] = len(left) - len(chosen)
    return chosen, counts


def farthest_points(features: np.ndarray, count: int, known: np.ndarray | None = None) -> list[int]:
    """Indices of ``count`` rows of ``features`` [n,F], each the one furthest from all chosen before and from ``known``.

    Without ``known`` [k,F] the first is the one furthest from the mean. Rows that are copies of a chosen one are never
    chosen, so there may be fewer.
    """
    rows = np.asarray(features, dtype=float)
    if not len(rows) or count < 1:
        return []
    if known is not None and len(known):
        distances = np.min(np.linalg.norm(rows[:, None, :] - np.asarray(known)[None, :, :], axis=2), axis=1)
    else:
        distances = np.linalg.norm(rows - rows.mean(axis=0), axis=1) + 1e-6  # equal rows too: one of them is chosen
    scale = max(float(np.abs(rows).max()), 1e-12)
    chosen: list[int] = []
    while len(chosen) < min(count, len(rows)) and distances.max() > 1e-9 * scale:
        pick = int(np.argmax(distances))
        chosen.append(pick)
        to_pick = np.linalg.norm(rows - rows[pick], axis=1)
        distances = (
            to_pick if len(chosen) == 1 and not (known is not None and len(known)) else np.minimum(distances, to_pick)
        )
        distances[chosen] = 0.0
    return chosen


def without_copies(candidates: Sequence[Candidate], known_hashes: set[str] | None = None) -> list[Candidate]:
    """The first of each content, and none whose content hash is among ``known_hashes``."""
    seen = set(known_hashes or ())
    found = []
    for candidate in candidates:
        name = candidate.structure.hash()
        if name not in seen:
            seen.add(name)
            found.append(candidate)
    return found


def not_labelled(
    candidates: Sequence[Candidate], labels: LabelQuery, engine: str, settings: Mapping[str, Any]
) -> list[Candidate]:
    """Those of which the store has no label of this engine with these settings, failed ones included; no copies."""
    distinct = without_copies(candidates)
    keys = [label_key(candidate.structure, engine, dict(settings)) for candidate in distinct]
    found = {document["label_key"] for document in labels.query({"label_key": {"$in": keys}}, ["label_key"])}
    return [candidate for candidate, key in zip(distinct, keys, strict=True) if key not in found]


def trusted(candidates: Sequence[Candidate], uncertainty: Uncertainty, low: float, high: float) -> list[Candidate]:
    """Those whose energy's uncertainty per atom lies in [low, high] eV, with that number among their details."""
    from mmace.uncertainty.selection import scores

    if not 0 <= low < high:
        raise UserError(f"select: trust is {low} to {high}; give two numbers that rise, in eV per atom")
    if not candidates:
        return []
    values = scores([candidate.structure.to_atoms() for candidate in candidates], uncertainty)
    return [
        candidate.model_copy(update={"details": {**candidate.details, "energy_uncertainty_per_atom": float(value)}})
        for candidate, value in zip(candidates, values, strict=True)
        if low <= value <= high
    ]
