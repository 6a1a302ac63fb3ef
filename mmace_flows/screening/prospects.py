"""What a screening campaign looks at: distinct orderings of crystals, kept as documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.learning.anisotropy_data import crystal_groups
from mmace_flows.schemas.screening import Prospect, prospect_id
from mmace_flows.schemas.structure import Candidate, MagneticStructure
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
    crystals = crystals_of(kept)
    if len(set(crystals)) < 3:
        raise UserError(
            f"screening {campaign}: {len(set(crystals))} crystals have moments, and a ranking needs three at least; "
            "search longer, widen the windows or give more structures"
        )
    held, _ = split_crystals(crystals, rule)
    return [
        Prospect(
            prospect_id=prospect_id(campaign, candidate.structure.hash()),
            campaign=campaign,
            candidate=candidate,
            crystal=crystal,
            formula=candidate.structure.to_atoms().get_chemical_formula(empirical=True),
            held_out=crystal in set(held),
            number=number,
        )
        for number, (candidate, crystal) in enumerate(zip(kept, crystals, strict=True))
    ]


def crystals_of(candidates: Sequence[Candidate]) -> list[str]:
    """What crystal each candidate is: the hash that orderings, supercells and slightly strained copies share.

    Candidates made from one structure are one crystal; of the others `crystal_groups` decides.
    """
    origins = [one.parent or one.structure.parent_hash() for one in candidates]
    first: dict[str, MagneticStructure] = {}
    for origin, one in zip(origins, candidates, strict=True):
        first.setdefault(origin, one.structure)
    names: dict[int, str] = {}  # of a group: the origin that came first
    groups = crystal_groups(list(first.values()))
    named = {origin: names.setdefault(group, origin) for origin, group in zip(first, groups, strict=True)}
    return [named[origin] for origin in origins]


def first_runs(prospects: Sequence[Prospect], rule: ScreeningRule) -> list[str]:
    """Ids for DFT before the first model: one ordering of each held-out crystal, and ``rule.initial`` others.

    Others go round the chemical systems, crystal by crystal, and to second orderings only after every crystal had its
    first: of elements that it has never seen together a model knows nothing, of another crystal of the same ones
    something, and orderings of one crystal differ least.
    """
    held, pool = split_crystals([one.crystal for one in prospects], rule)
    systems = {one.crystal: frozenset(one.candidate.structure.symbols) for one in prospects}
    seen: Counter[frozenset[str]] = Counter()
    place = {}
    for crystal in pool:
        place[crystal] = seen[systems[crystal]]
        seen[systems[crystal]] += 1
    pool = sorted(pool, key=place.__getitem__)
    orderings: dict[str, list[str]] = {}
    for one in prospects:
        orderings.setdefault(one.crystal, []).append(one.prospect_id)
    chosen: list[str] = []
    for turn in range(max(len(ids) for ids in orderings.values())):
        chosen += [orderings[crystal][turn] for crystal in pool if turn < len(orderings[crystal])]
    return [*(orderings[crystal][0] for crystal in held), *chosen[: rule.initial]][: rule.max_runs]


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
