"""Supercells in which one spin, or a pair, is turned by given angles: what exchange constants are read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from ase.neighborlist import neighbor_list
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.enumeration import unit_vector
from mmace_flows.structures.lattices import supercell
from mmace_flows.structures.moment_changes import perpendicular, rotated
from mmace_flows.structures.moments import NONMAGNETIC_BELOW, magnetic_state
from mmace_flows.structures.starting_moments import with_lengths
from mmace_flows.structures.symmetry import require_crystal


class SupercellSettings(Document):
    """A supercell, and which of its spins are turned by how much."""

    operation: Literal["supercell"] = "supercell"
    repeat: list[int] | list[list[int]] = Field(
        default=[2, 2, 2], description="three repeats, or the 3×3 whole numbers of the supercell matrix"
    )
    moments: dict[str, float] = Field(default_factory=dict, description="element → length, μB; else as enumerate")
    angles: list[float] = Field(default_factory=list, description="angles by which spins are turned, °; none: only 0")
    sites: list[int] = Field(
        default_factory=list, description="atoms of the supercell that are turned, one at a time; none: one per element"
    )
    pairs_within: float | None = Field(
        default=None,
        gt=0.0,
        description="also turn pairs, the site by +θ/2 and each neighbour shell up to this distance (Å) by −θ/2, and "
        "each of the two alone by as much: A_ij = δE_ij − δE_i − δE_j",
    )
    axis: tuple[float, float, float] | None = Field(
        default=None, description="about which spins are turned; none: perpendicular to the moment"
    )


def turned_supercells(
    parent: MagneticStructure, settings: SupercellSettings | None = None, **labels: Any
) -> list[Candidate]:
    """The supercell itself (angle 0) and, for each angle, the ones with a spin or a pair of spins turned.

    Details: ``turned`` {atom: angle in °}, and of pairs the ``distance`` (Å) and ``neighbours`` (how many atoms the
    site has at it, images included). Pairs of which the supercell holds two images at the same distance are left out,
    for their energy is not that of one pair. Raises UserError for a site that is not there or has no moment.
    """
    settings = settings or SupercellSettings()
    require_crystal(parent, "supercell")
    large = supercell(with_lengths(parent, settings.moments), settings.repeat)
    lengths = np.linalg.norm(np.asarray(large.magmoms), axis=1)
    sites = settings.sites or _first_of_each_element(large, lengths)
    for site in sites:
        if not 0 <= site < len(lengths):
            raise UserError(f"supercell: site {site} is not there; the supercell has atoms 0 to {len(lengths) - 1}")
        if lengths[site] < NONMAGNETIC_BELOW:
            raise UserError(f"supercell: site {site} ({large.symbols[site]}) has no moment; turn another one")
    made: list[tuple[dict[int, float], dict[str, Any]]] = [({}, {})]
    for angle in [angle for angle in settings.angles if angle != 0.0]:
        for site in sites:
            made.append(({site: angle}, {"angle": angle}))
            if settings.pairs_within is not None:
                for pair in neighbour_shells(large, site, settings.pairs_within, lengths >= NONMAGNETIC_BELOW):
                    other = pair["other"]
                    details = {"angle": angle, **pair}
                    made.append(({site: angle / 2, other: -angle / 2}, details))
                    made += [({site: angle / 2}, {"angle": angle / 2}), ({other: -angle / 2}, {"angle": -angle / 2})]
    unique = {tuple(sorted(turned.items())): (turned, details) for turned, details in reversed(made)}
    return [
        _candidate(parent, large, turned, details, settings, labels)
        for turned, details in reversed(list(unique.values()))
    ]


def turn_spins(magmoms: Any, angles: dict[int, float], axis: Sequence[float] | None = None) -> np.ndarray:
    """[N,3] μB: the moments of the atoms in ``angles`` turned by so many degrees; about the same axis for all.

    Without ``axis`` it is perpendicular to the first of them.
    """
    moments = np.asarray(magmoms, dtype=float).copy()
    if not angles:
        return moments + 0.0
    if axis is None:
        about = perpendicular(moments[next(iter(angles))][None, :])
    else:
        about = unit_vector(axis, "supercell: axis")[None, :]
    for atom, angle in angles.items():
        moments[atom] = rotated(moments[atom][None, :], about, np.array([np.deg2rad(angle)]))[0]
    return moments + 0.0


def neighbour_shells(
    structure: MagneticStructure, site: int, cutoff: float, magnetic: np.ndarray, tolerance: float = 0.01
) -> list[dict[str, Any]]:
    """One atom of each shell (same element and distance to ``tolerance`` Å) of ``site``: {other, distance, neighbours}.

    Only atoms of which just one image lies in the shell, so that turning the atom turns one bond.
    """
    first, second, distances = neighbor_list("ijd", structure.to_atoms(), cutoff)
    mine = [(float(d), int(j)) for i, j, d in zip(first, second, distances, strict=True) if i == site and magnetic[j]]
    shells: list[list[tuple[float, int]]] = []
    for distance, other in sorted(mine):
        for shell in shells:
            if abs(shell[0][0] - distance) < tolerance and structure.symbols[shell[0][1]] == structure.symbols[other]:
                shell.append((distance, other))
                break
        else:
            shells.append([(distance, other)])
    found = []
    for shell in shells:
        others = [other for _, other in shell]
        single = [other for other in others if others.count(other) == 1 and other != site]
        if single:
            found.append({"other": single[0], "distance": round(shell[0][0], 6), "neighbours": len(shell)})
    return found


def _first_of_each_element(structure: MagneticStructure, lengths: np.ndarray) -> list[int]:
    magnetic = [atom for atom in range(len(lengths)) if lengths[atom] >= NONMAGNETIC_BELOW]
    return sorted({structure.symbols[atom]: atom for atom in reversed(magnetic)}.values())


def _candidate(
    parent: MagneticStructure,
    large: MagneticStructure,
    turned: dict[int, float],
    details: dict[str, Any],
    settings: SupercellSettings,
    labels: dict[str, Any],
) -> Candidate:
    moments = turn_spins(large.magmoms, turned, settings.axis)
    return Candidate(
        structure=large.model_copy(update={"magmoms": moments.tolist()}),
        operation="supercell",
        magnetic_state=magnetic_state(moments),
        parent=parent.hash(),
        details={"repeat": settings.repeat, "turned": {str(a): angle for a, angle in turned.items()}, **details},
        **labels,
    )
