"""Between `MagneticStructure` and pymatgen's Structure, without losing or inventing a moment.

pymatgen keeps moments in two places, as a site property "magmom" (number, vector or Magmom) and as the spin of a
species; enumerators return species whose spin is None, and engines would fill those in silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure

if TYPE_CHECKING:
    from pymatgen.core import Structure


def to_pymatgen(structure: MagneticStructure) -> Structure:
    """pymatgen's structure with the moments as site property "magmom", vectors [3] in μB, lab frame."""
    from pymatgen.core import Lattice, Structure

    return Structure(
        Lattice(structure.cell, pbc=(structure.pbc[0], structure.pbc[1], structure.pbc[2])),
        structure.symbols,
        structure.positions,
        coords_are_cartesian=True,
        site_properties={"magmom": [list(map(float, moment)) for moment in structure.magmoms]},
    )


def from_pymatgen(structure: Structure, missing: float | None = None) -> MagneticStructure:
    """From pymatgen's structure: moments of the site property "magmom", else the spins of the species (along z).

    Parameters: ``missing`` μB is given to sites without a moment (None) where others have one.
    Raises UserError for a disordered structure, and for sites without a moment if ``missing`` is None and any other
    site has one; a structure without any moment is taken as it is, non-magnetic.
    """
    if not structure.is_ordered:
        raise UserError(f"structure {structure.composition.reduced_formula}: it is disordered; give an ordered one")
    moments = [_moment(site) for site in structure]
    known = [moment is not None for moment in moments]
    if any(known) and not all(known) and missing is None:
        raise UserError(
            f"structure {structure.composition.reduced_formula}: site {known.index(False)} has no moment where others "
            "have one; give a moment for every site (0 for none)"
        )
    filled = [[0.0, 0.0, missing or 0.0] if moment is None else moment for moment in moments]
    return MagneticStructure(
        symbols=[site.specie.symbol for site in structure],
        positions=np.asarray(structure.cart_coords).tolist(),
        cell=np.asarray(structure.lattice.matrix).tolist(),
        pbc=[bool(periodic) for periodic in structure.lattice.pbc],
        magmoms=filled,
    )


def _moment(site: Any) -> list[float] | None:
    from pymatgen.electronic_structure.core import Magmom

    value = site.properties.get("magmom")
    if value is None:
        value = getattr(site.specie, "spin", None)
    if value is None:
        return None
    if isinstance(value, Magmom):
        return [float(component) for component in value.get_moment()]
    array = np.asarray(value, dtype=float)
    return [0.0, 0.0, float(array)] if array.ndim == 0 else [float(component) for component in array.reshape(3)]
