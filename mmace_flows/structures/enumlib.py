"""pymatgen's `MagneticStructureEnumerator`, for machines on which enumlib (enum.x, makestr.x) is installed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.adapters import from_pymatgen, to_pymatgen
from mmace_flows.structures.symmetry import space_group

if TYPE_CHECKING:
    from mmace_flows.structures.enumeration import EnumerateSettings


def enumlib_installed() -> bool:
    """Whether both programs that pymatgen calls are on the PATH, under one of the names that it looks for."""
    enum = any(shutil.which(name) for name in ("enum.x", "multienum.x"))
    return bool(enum and any(shutil.which(name) for name in ("makestr.x", "makeStr.x", "makeStr.py")))


def enumlib_structures(
    start: MagneticStructure,
    settings: EnumerateSettings,
    strategies: tuple[str, ...] = ("ferromagnetic", "antiferromagnetic"),
) -> list[tuple[MagneticStructure, dict[str, Any]]]:
    """What pymatgen's strategies give for ``start`` (primitive, moments along +z), and the non-magnetic state.

    Sites that come back without a spin get 0, said explicitly; copies and reverses of one ordering are left out.
    Raises UserError if pymatgen or enumlib fail.
    """
    from pymatgen.analysis.magnetism.analyzer import MagneticStructureEnumerator

    lengths: dict[str, float] = {}
    for symbol, moment in zip(start.symbols, start.magmoms, strict=True):
        lengths[symbol] = max(lengths.get(symbol, 0.0), moment[2])
    options = {} if settings.max_cells is None else {"max_cell_size": settings.max_cells}
    crystal = to_pymatgen(start)
    crystal.remove_site_property("magmom")  # its analyser takes no vectors; lengths come from default_magmoms
    try:
        enumerator = MagneticStructureEnumerator(
            crystal,
            default_magmoms=lengths,
            strategies=strategies,
            automatic=len(strategies) > 1,
            truncate_by_symmetry=False,  # the cap has its own rule
            max_orderings=10 * settings.max_orderings,
            transformation_kwargs=options,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"enumerate: enumlib: {' '.join(str(error).split())}; try engine: exact") from error
    none = start.model_copy(update={"magmoms": [[0.0, 0.0, 0.0]] * len(start.symbols)})
    found: list[tuple[MagneticStructure, dict[str, Any]]] = [(none, {"engine": "enumlib", "origin": "nonmagnetic"})]
    for structure, origin in zip(enumerator.ordered_structures, enumerator.ordered_structure_origins, strict=True):
        converted = from_pymatgen(structure, missing=0.0)
        if np.sum(converted.magmoms) < 0:
            converted = converted.model_copy(update={"magmoms": (-np.asarray(converted.magmoms) + 0.0).tolist()})
        if not any(same_ordering(converted, other) for other, _ in found):
            operations = len(space_group(converted).rotations)
            found.append((converted, {"engine": "enumlib", "origin": origin, "operations": operations}))
    return found


def same_ordering(one: MagneticStructure, other: MagneticStructure) -> bool:
    """Whether two collinear structures are the same crystal with the same moments, or with all of them reversed.

    Cells may be of different size and choice. Lengths count to 0.1 μB; both signs are compared.
    """
    from pymatgen.analysis.structure_matcher import SpeciesComparator, StructureMatcher

    # both come from one crystal: loose tolerances would take two stackings of a nearly cubic cell for one
    matcher = StructureMatcher(0.01, 0.02, 0.2, scale=False, comparator=SpeciesComparator())
    return any(matcher.fit(_with_spins(one, 1.0), _with_spins(other, sign)) for sign in (1.0, -1.0))


def _with_spins(structure: MagneticStructure, sign: float) -> Any:
    """pymatgen's structure in which the spin is part of the species: other spins are other atoms."""
    from pymatgen.core import Species, Structure

    spins = np.round(sign * np.asarray(structure.magmoms)[:, 2], 1) + 0.0
    species = [Species(symbol, spin=float(spin)) for symbol, spin in zip(structure.symbols, spins, strict=True)]
    return Structure(structure.cell, species, structure.positions, coords_are_cartesian=True)
