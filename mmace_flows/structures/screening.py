"""What is thrown away of a random search, which crystals are the same, and which ones are selected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from mmace_flows.schemas.document import Document
from mmace_flows.structures.random_crystals import atoms_volume, too_close

if TYPE_CHECKING:
    from mmace_flows.structures.random_search import Attempt


class Screen(Document):
    """Windows that a relaxed crystal must lie in."""

    energy: tuple[float, float] = Field(
        default=(-20.0, 5.0), description="of the calculator's energy, eV per atom: outside is an artefact"
    )
    energy_above_lowest: float = Field(
        default=0.5, gt=0.0, description="over the lowest energy found at the same composition, eV per atom"
    )
    max_force: float = Field(default=0.3, gt=0.0, description="largest force that may be left, eV/Å")
    max_pressure: float = Field(default=5.0, gt=0.0, description="largest |pressure − asked| that may be left, GPa")
    volume_per_atom: tuple[float, float] = Field(default=(6.0, 40.0), description="Å³")
    minimum_distance: float = Field(
        default=0.7, gt=0.0, description="closest pair, in units of the sum of its covalent radii"
    )


def screened(
    attempts: Sequence[Attempt], screen: Screen, pressure: float = 0.0
) -> tuple[list[Attempt], dict[str, int]]:
    """The attempts that pass, lowest energy first, and how many failed for which reason.

    Parameters: ``pressure`` the relaxation was done at, GPa.
    """
    counts: Counter[str] = Counter()
    inside: list[Attempt] = []
    for attempt in attempts:
        structure = attempt.structure
        if structure is None or attempt.energy is None or attempt.max_force is None or attempt.pressure is None:
            counts["failed"] += 1
        elif not screen.energy[0] <= attempt.energy <= screen.energy[1]:
            counts["outside the energy window"] += 1
        elif attempt.max_force > screen.max_force:
            counts["with forces left"] += 1
        elif abs(attempt.pressure - pressure) > screen.max_pressure:
            counts["with pressure left"] += 1
        elif (
            not screen.volume_per_atom[0]
            <= atoms_volume(structure) / len(structure.symbols)
            <= screen.volume_per_atom[1]
        ):
            counts["outside the volume window"] += 1
        elif too_close(structure, screen.minimum_distance):
            counts["with atoms too close"] += 1
        else:
            inside.append(attempt)
    lowest: dict[str, float] = {}
    for attempt in inside:
        name = composition(symbols_of(attempt))
        lowest[name] = min(lowest.get(name, np.inf), float(attempt.energy or 0.0))
    passed = [
        attempt
        for attempt in inside
        if float(attempt.energy or 0.0) <= lowest[composition(symbols_of(attempt))] + screen.energy_above_lowest
    ]
    counts["above the lowest of their composition"] = len(inside) - len(passed)
    return sorted(passed, key=lambda attempt: (float(attempt.energy or 0.0), attempt.index)), dict(counts)


def composition(symbols: Sequence[str]) -> str:
    """The reduced formula, elements in alphabetical order."""
    counts = Counter(symbols)
    divisor = int(np.gcd.reduce(list(counts.values())))
    return "".join(f"{element}{counts[element] // divisor}" for element in sorted(counts))


def distinct_crystals(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The first of every group of equal crystals (pymatgen's StructureMatcher with its tolerances; not rescaled)."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from mmace_flows.structures.adapters import to_pymatgen

    matcher = StructureMatcher(scale=False)
    groups: dict[str, list[Any]] = {}
    distinct = []
    for attempt in attempts:
        assert attempt.structure is not None
        crystal = to_pymatgen(attempt.structure)
        crystal.remove_site_property("magmom")
        known = groups.setdefault(composition(attempt.structure.symbols), [])
        if not any(matcher.fit(crystal, other) for other in known):
            known.append(crystal)
            distinct.append(attempt)
    return distinct


def match_distribution(structures: Sequence[Sequence[str]], target: Mapping[str, float], count: int) -> list[int]:
    """Indices of ``count`` structures whose atoms together come closest to the element weights ``target``.

    One at a time: the structure that makes the sum of squared differences between the fractions of the elements in all
    that are chosen and the target smallest; among equals the first. Parameters: ``structures`` symbols of each.
    """
    elements = sorted({*target, *(symbol for symbols in structures for symbol in symbols)})
    wanted = np.array([target.get(element, 0.0) for element in elements])
    wanted = wanted / wanted.sum()
    rows = np.array([[list(symbols).count(element) for element in elements] for symbols in structures], dtype=float)
    total, chosen = np.zeros(len(elements)), []
    free = np.ones(len(rows), dtype=bool)
    for _ in range(min(count, len(rows))):
        sums = total + rows
        errors = np.sum((sums / sums.sum(axis=1, keepdims=True) - wanted) ** 2, axis=1)
        errors[~free] = np.inf
        pick = int(np.argmin(np.round(errors, 12)))
        chosen.append(pick)
        free[pick] = False
        total = total + rows[pick]
    return chosen


def symbols_of(attempt: Attempt) -> list[str]:
    """[N] of an attempt that gave a crystal."""
    assert attempt.structure is not None
    return attempt.structure.symbols
