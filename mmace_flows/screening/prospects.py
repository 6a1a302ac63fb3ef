"""What a screening campaign looks at: distinct orderings of crystals, kept as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.properties.anisotropy_prediction import parent_hash
from mmace_flows.schemas.screening import Prospect, prospect_id
from mmace_flows.schemas.structure import Candidate
from mmace_flows.screening.rule import ScreeningRule, split_crystals

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores


def collect_prospects(
    campaign: str, sources: Sequence[dict[str, Any]], rule: ScreeningRule, limit: int
) -> list[Prospect]:
    """Each distinct structure with moments once, in the order of the sources; the first ``limit`` of them.

    Parameters: ``sources`` outputs of `StructuresMaker`. Raises UserError where fewer than three crystals have moments.
    """
    found: dict[str, Candidate] = {}
    for source in sources:
        for data in source["candidates"]:
            candidate = Candidate.model_validate(data)
            if candidate.magnetic_state != "NM":
                found.setdefault(candidate.structure.hash(), candidate)
    kept = list(found.values())[:limit]
    parents = [parent_hash(candidate.structure) for candidate in kept]
    if len(set(parents)) < 3:
        raise UserError(
            f"screening {campaign}: {len(set(parents))} crystals have moments, and a ranking needs three at least; "
            "search longer, widen the windows or give more structures"
        )
    held, _ = split_crystals(parents, rule)
    return [
        Prospect(
            prospect_id=prospect_id(campaign, candidate.structure.hash()),
            campaign=campaign,
            candidate=candidate,
            parent=parent,
            formula=candidate.structure.to_atoms().get_chemical_formula(empirical=True),
            held_out=parent in set(held),
            number=number,
        )
        for number, (candidate, parent) in enumerate(zip(kept, parents, strict=True))
    ]


def first_runs(prospects: Sequence[Prospect], rule: ScreeningRule) -> list[str]:
    """Ids for DFT before the first model: one ordering of each held-out crystal, and ``rule.initial`` others.

    Others go crystal by crystal, and to second orderings only after every crystal had its first: what differs between
    crystals is more than what differs between orderings.
    """
    held, pool = split_crystals([one.parent for one in prospects], rule)
    orderings: dict[str, list[str]] = {}
    for one in prospects:
        orderings.setdefault(one.parent, []).append(one.prospect_id)
    chosen: list[str] = []
    for turn in range(max(len(ids) for ids in orderings.values())):
        chosen += [orderings[parent][turn] for parent in pool if turn < len(orderings[parent])]
    return [*(orderings[parent][0] for parent in held), *chosen[: rule.initial]][: rule.max_runs]


def read_prospects(stores: Stores, ids: Sequence[str]) -> list[Prospect]:
    """Prospects in the order of ``ids``. Raises UserError if one is not in the store."""
    found = {
        document["prospect_id"]: Prospect.from_store(document)
        for document in stores.prospects.query({"prospect_id": {"$in": list(ids)}})
    }
    missing = [key for key in ids if key not in found]
    if missing:
        raise UserError(f"{len(missing)} prospects are not in the database any more, the first is {missing[0]}")
    return [found[key] for key in ids]
