"""Energy above the hull of what is known, per method, so that only like is compared with like."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import gcd, isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram

Reduced = tuple[tuple[str, int], ...]  # (element, count in the reduced formula), alphabetical


def reduced(symbols: Iterable[str]) -> Reduced:
    """The reduced formula of a list of symbols."""
    counts = Counter(symbols)
    common = gcd(*counts.values())
    return tuple(sorted((element, count // common) for element, count in counts.items()))


class Hulls:
    """Convex hulls of everything that one method has computed; made on first use per chemical system."""

    def __init__(self) -> None:
        self._lowest: dict[str, dict[Reduced, float]] = defaultdict(dict)  # method → composition → eV per atom
        self._diagrams: dict[tuple[str, tuple[str, ...]], PhaseDiagram | None] = {}
        self._levels: dict[tuple[str, Reduced], float | None] = {}

    def add(self, method: str, symbols: Iterable[str], energy_per_atom: float | None) -> None:
        """One known energy, eV per atom. All must be added before anything is asked."""
        if energy_per_atom is None or not isfinite(energy_per_atom):
            return
        known, composition = self._lowest[method], reduced(symbols)
        known[composition] = min(energy_per_atom, known.get(composition, energy_per_atom))

    def above(self, method: str, symbols: Iterable[str], energy_per_atom: float | None) -> float | None:
        """eV per atom above the hull; None without an energy, and where an element's is not known by this method."""
        if energy_per_atom is None:
            return None
        composition = reduced(symbols)
        if (method, composition) not in self._levels:
            self._levels[method, composition] = self._level(method, composition)
        level = self._levels[method, composition]
        # a hull made of this very energy is met up to rounding
        return None if level is None else max(0.0, energy_per_atom - level)

    def _level(self, method: str, composition: Reduced) -> float | None:
        from pymatgen.core import Composition

        diagram = self._diagram(method, tuple(element for element, _ in composition))
        return None if diagram is None else float(diagram.get_hull_energy_per_atom(Composition(dict(composition))))

    def _diagram(self, method: str, elements: tuple[str, ...]) -> PhaseDiagram | None:
        if (method, elements) not in self._diagrams:
            self._diagrams[method, elements] = _phase_diagram(self._lowest.get(method, {}), elements)
        return self._diagrams[method, elements]


def _phase_diagram(known: Mapping[Reduced, float], elements: tuple[str, ...]) -> PhaseDiagram | None:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    if any(((element, 1),) not in known for element in elements):
        return None
    inside = {
        composition: energy
        for composition, energy in known.items()
        if all(element in elements for element, _ in composition)
    }
    return PhaseDiagram(
        [
            PDEntry(Composition(dict(composition)), energy * sum(count for _, count in composition))
            for composition, energy in inside.items()
        ]
    )
