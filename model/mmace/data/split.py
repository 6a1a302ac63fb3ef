"""Parts of a data set: drawn by seed, the same mixture in every part, whole groups never divided."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mmace.data.check import structure_digest
from mmace.errors import UserError
from mmace.train.configuration import Configuration, magnetic_class


@dataclass(frozen=True)
class SplitSettings:
    """How a data set is divided. Raises `UserError` for fractions that are none."""

    fractions: dict[str, float] = field(default_factory=lambda: {"valid": 0.1})
    """Part → share of the configurations; what is left over is the part ``train``."""
    seed: int = 0
    group_by: str | None = None
    """Key in the configurations' info whose equal values stay together, e.g. parent."""

    def __post_init__(self) -> None:
        for name, fraction in self.fractions.items():
            if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction < 1:
                raise UserError(f"split: {name} is {fraction!r}; give a number between 0 and 1")
            if name == "train":
                raise UserError("split: train is what is left over; give the other parts only")
        if sum(self.fractions.values()) >= 1:
            raise UserError(f"split: the parts add up to {sum(self.fractions.values()):g}; leave something to train on")

    @property
    def parts(self) -> dict[str, float]:
        """All parts with their shares, train first."""
        return {"train": 1.0 - sum(self.fractions.values()), **self.fractions}


@dataclass(frozen=True)
class Member:
    """What decides on the part of one configuration."""

    stratum: tuple[str, str]  # magnetic class, elements
    group: Any  # value of the key, or None
    digest: bytes  # equal structures share it and stay together

    @classmethod
    def of(cls, configuration: Configuration, settings: SplitSettings) -> Member:
        """Raises `UserError` if the configuration lacks the key that groups are made by."""
        group = None
        if settings.group_by is not None:
            if settings.group_by not in configuration.info:
                near = difflib.get_close_matches(settings.group_by, configuration.info, n=1, cutoff=0.5)
                known = ", ".join(sorted(configuration.info)) or "nothing"
                hint = f"did you mean '{near[0]}'?" if near else f"it has {known}"
                raise UserError(f"{configuration.name}: no '{settings.group_by}' to group by; {hint}")
            group = str(configuration.info[settings.group_by])
        elements = "-".join(chemical_symbols[number] for number in np.unique(configuration.numbers))
        return cls((magnetic_class(configuration.magmoms), elements), group, structure_digest(configuration))


def assign(members: Sequence[Member], settings: SplitSettings) -> list[str]:
    """The part of every member, in their order; the same for the same seed.

    Every stratum (magnetic class and elements) is divided by the fractions; what cannot be divided evenly is made up
    in the next stratum, so that the parts as a whole have the sizes asked for. Groups, and equal structures, stay
    together and belong to the stratum that most of them are in; those too large for another part go to train.
    Raises `UserError` if a part would be empty.
    """
    strata: dict[tuple[str, str], list[list[int]]] = defaultdict(list)
    for group in _groups(members):
        kinds = Counter(members[index].stratum for index in group)
        strata[min(kinds, key=lambda kind: (-kinds[kind], kind))].append(group)
    parts = settings.parts
    carried = dict.fromkeys(settings.fractions, 0.0)
    chosen = ["train"] * len(members)
    generator = np.random.default_rng([settings.seed, 3])
    for stratum in sorted(strata):
        groups = [strata[stratum][index] for index in generator.permutation(len(strata[stratum]))]
        size = sum(map(len, groups))
        for part in sorted(settings.fractions, key=lambda name: (parts[name], name)):
            wanted = parts[part] * size + carried[part]
            for group in list(groups):
                if len(group) <= wanted + 0.5:  # the half rounds to the nearest number
                    wanted -= len(group)
                    groups.remove(group)
                    for index in group:
                        chosen[index] = part
            carried[part] = wanted
    _fill_empty(members, chosen, parts)
    return chosen


def _fill_empty(members: Sequence[Member], chosen: list[str], parts: dict[str, float]) -> None:
    """Moves the smallest group of the fullest part into a part that got nothing."""
    for name in parts:
        there = Counter(chosen)
        if there[name]:
            continue
        candidates = [group for group in _groups(members) if there[chosen[group[0]]] > len(group)]
        if not candidates:
            raise UserError(
                f"split: {len(members)} configurations in too few groups for {len(parts)} parts; {name} would be empty"
            )
        for index in min(candidates, key=lambda group: (chosen[group[0]] != "train", len(group), group)):
            chosen[index] = name


def _groups(members: Sequence[Member]) -> list[list[int]]:
    """Indices that stay together, by value of the key or by equal structure, in the order of their first member."""
    parent = list(range(len(members)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[Any, int] = {}
    for index, member in enumerate(members):
        for key in (("structure", member.digest), ("group", member.group)):
            if key[1] is None:
                continue
            one, other = sorted((root(first.setdefault(key, index)), root(index)))
            parent[other] = one
    together: dict[int, list[int]] = defaultdict(list)
    for index in range(len(members)):
        together[root(index)].append(index)
    return list(together.values())


def marked(configuration: Configuration, part: str, settings: SplitSettings, source: Path) -> Configuration:
    """The configuration with the split in its info: part, seed, share, and where in ``source`` it comes from."""
    share = settings.parts[part]
    configuration.info |= {
        "split": part,
        "split_seed": settings.seed,
        "split_fraction": round(share, 12),
        **({"split_group_by": settings.group_by} if settings.group_by else {}),
    }
    # the name of the file without its folders, which say nothing elsewhere
    configuration.info.setdefault("source", configuration.name.replace(str(source), source.name, 1))
    return configuration


def table(chosen: Iterable[str], members: Sequence[Member]) -> dict[str, dict[str, int]]:
    """Stratum ("FM Fe-Ni") → part → number of configurations."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for part, member in zip(chosen, members, strict=True):
        counts[" ".join(member.stratum)][part] += 1
    return {stratum: dict(parts) for stratum, parts in sorted(counts.items())}
