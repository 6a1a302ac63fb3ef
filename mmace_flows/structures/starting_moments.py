"""Lengths of moments that calculations start from, where the structure does not carry any."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.moments import NONMAGNETIC_BELOW

# μB: elements of metals and compounds at room pressure; Fe and Ni as in the Bain patterns. The lanthanides' 4f spin.
STARTING_MOMENTS: dict[str, float] = {
    **{"V": 1.0, "Cr": 2.0, "Mn": 3.0, "Fe": 2.2, "Co": 1.6, "Ni": 0.6},
    **{"Ce": 1.0, "Pr": 2.0, "Nd": 3.0, "Pm": 4.0, "Sm": 5.0, "Eu": 7.0, "Gd": 7.0, "Tb": 6.0, "Dy": 5.0, "Ho": 4.0},
    **{"Er": 3.0, "Tm": 2.0, "Yb": 1.0, "U": 1.5, "Np": 2.5, "Pu": 3.0},
}


def moment_lengths(structure: MagneticStructure, given: Mapping[str, float] | None = None) -> np.ndarray:
    """[N] μB ≥ 0: of ``given`` (element → μB), else those that the structure carries, else by element.

    A structure carries moments if one of them is at least 0.1 μB. Raises UserError for an element of ``given`` that is
    not in the structure, for a length that is negative or not finite, and if no atom is magnetic.
    """
    given = dict(given or {})
    elements = sorted(set(structure.symbols))
    for element, length in given.items():
        if element not in elements:
            near = difflib.get_close_matches(element, elements, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(elements)}"
            raise UserError(f"moments: element '{element}' is not in the structure; {hint}")
        if not (np.isfinite(length) and length >= 0):
            raise UserError(f"moments: {element} has {length} μB; give a length, 0 or more")
    carried = np.linalg.norm(np.reshape(structure.magmoms, (-1, 3)), axis=1)
    if carried.max(initial=0.0) < NONMAGNETIC_BELOW:
        carried = np.array([STARTING_MOMENTS.get(symbol, 0.0) for symbol in structure.symbols])
    lengths = np.array([given.get(symbol, length) for symbol, length in zip(structure.symbols, carried, strict=True)])
    if lengths.max(initial=0.0) < NONMAGNETIC_BELOW:
        raise UserError(
            f"moments: no atom of {', '.join(elements)} is known as magnetic; say how long the moments are, "
            f"for example {elements[0]}=2.0 (μB)"
        )
    return lengths


def with_lengths(structure: MagneticStructure, given: Mapping[str, float] | None = None) -> MagneticStructure:
    """``structure`` with moments of these lengths: along the directions it has, along +z where it has none."""
    lengths = moment_lengths(structure, given)
    moments = np.reshape(np.asarray(structure.magmoms, dtype=float), (-1, 3))
    norms = np.linalg.norm(moments, axis=1, keepdims=True)
    directions = np.where(norms > 1e-12, moments / np.maximum(norms, 1e-12), [0.0, 0.0, 1.0])
    return structure.model_copy(update={"magmoms": (directions * lengths[:, None]).tolist()})
