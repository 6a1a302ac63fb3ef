"""Magnetic enumeration: every collinear ordering of a crystal up to a cell size, as candidates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate, MagneticState, MagneticStructure
from mmace_flows.structures.lattices import supercell
from mmace_flows.structures.moments import NONMAGNETIC_BELOW, magnetic_state
from mmace_flows.structures.orderings import orderings
from mmace_flows.structures.starting_moments import with_lengths
from mmace_flows.structures.symmetry import primitive, require_crystal

DEFAULT_SITES = 6  # magnetic sites per supercell, where max_cells is not given
COLLINEAR_STATES: tuple[MagneticState, ...] = ("NM", "FM", "AFM", "FiM")


class EnumerateSettings(Document):
    """Which collinear orderings are made, and which are kept."""

    operation: Literal["enumerate"] = "enumerate"
    moments: dict[str, float] = Field(
        default_factory=dict, description="element → length, μB; else those of the structure, else by element"
    )
    max_cells: int | None = Field(
        default=None, ge=1, description="primitive cells per supercell; none: as many as hold 6 magnetic sites"
    )
    max_orderings: int = Field(default=64, ge=1, description="kept per structure; the rule is in `enumerate_orderings`")
    states: list[MagneticState] = Field(default=list(COLLINEAR_STATES), description="states that are kept")
    silence_species: bool = Field(
        default=False,
        description="also orderings in which whole magnetic elements carry no moment (explicitly 0)",
    )
    axis: tuple[float, float, float] = Field(default=(0.0, 0.0, 1.0), description="direction of the moments")
    engine: Literal["auto", "exact", "enumlib"] = Field(
        default="auto",
        description="enumlib: pymatgen's enumerator, which needs enum.x; auto: where that is found",
    )


def enumerate_orderings(
    parent: MagneticStructure, settings: EnumerateSettings | None = None, **labels: Any
) -> list[Candidate]:
    """The collinear orderings of ``parent``, distinct up to symmetry and global reversal.

    More than ``max_orderings``: NM and FM are kept, then those with the fewest atoms, then the highest symmetry (most
    operations of the magnetic group), then the smallest |Σm|/Σ|m|, then the order of signs. The candidates stand in
    that order; ``details["found"]`` tells how many there were.

    Parameters: ``labels`` go into the candidates: ``group``, ``iteration``.
    Raises UserError if nothing is magnetic, a state is not collinear, or there are too many sites.
    """
    settings = settings or EnumerateSettings()
    wrong = [state for state in settings.states if state not in COLLINEAR_STATES]
    if wrong:
        raise UserError(f"enumerate: states: '{wrong[0]}' is not collinear; known: {', '.join(COLLINEAR_STATES)}")
    axis = unit_vector(settings.axis, "enumerate: axis")
    require_crystal(parent, "enumerate")
    start = primitive(with_lengths(parent, settings.moments))
    if chosen_engine(settings.engine) == "enumlib":
        from mmace_flows.structures.enumlib import enumlib_structures

        found = enumlib_structures(start, settings)
    else:
        found = _exact(start, settings)
    kept = [
        (structure, details) for structure, details in found if magnetic_state(structure.magmoms) in settings.states
    ]
    if not kept:
        raise UserError(f"enumerate: no ordering is {' or '.join(settings.states)}; raise max_cells or add states")
    kept.sort(key=lambda one: _rank(*one))
    return [
        Candidate(
            structure=structure.model_copy(update={"magmoms": _along(structure.magmoms, axis)}),
            operation="enumerate",
            magnetic_state=magnetic_state(structure.magmoms),
            parent=parent.hash(),
            details={**details, "found": len(kept)},
            **labels,
        )
        for structure, details in kept[: settings.max_orderings]
    ]


def chosen_engine(asked: str) -> Literal["exact", "enumlib"]:
    """The enumerator that will be used. Raises UserError if enumlib is asked for and not installed."""
    from mmace_flows.structures.enumlib import enumlib_installed

    if asked == "exact":
        return "exact"
    if enumlib_installed():
        return "enumlib"
    if asked == "enumlib":
        raise UserError("enumerate: enumlib's enum.x and makestr.x are not on the PATH; install them, or engine: exact")
    return "exact"


def unit_vector(vector: Sequence[float], what: str) -> np.ndarray:
    """[3] of length one. Raises UserError for a vector without length."""
    array = np.asarray(vector, dtype=float)
    length = np.linalg.norm(array)
    if array.shape != (3,) or not np.isfinite(length) or length < 1e-12:
        raise UserError(f"{what}: {list(vector)} has no direction; give three numbers that are not all zero")
    return array / length


def _exact(start: MagneticStructure, settings: EnumerateSettings) -> list[tuple[MagneticStructure, dict[str, Any]]]:
    lengths = np.asarray(start.magmoms)[:, 2]
    magnetic = sorted({s for s, length in zip(start.symbols, lengths, strict=True) if length >= NONMAGNETIC_BELOW})
    found: list[tuple[MagneticStructure, dict[str, Any]]] = [_nonmagnetic(start)]
    for number in range(len(magnetic) if settings.silence_species else 1):
        for silent in combinations(magnetic, number):
            quiet = [0.0 if s in silent else float(m) for s, m in zip(start.symbols, lengths, strict=True)]
            parent = start.model_copy(update={"magmoms": [[0.0, 0.0, m] for m in quiet]})
            sites = [atom for atom, m in enumerate(quiet) if m >= NONMAGNETIC_BELOW]
            cells = settings.max_cells or max(1, DEFAULT_SITES // len(sites))
            large: dict[bytes, MagneticStructure] = {}  # many orderings share a supercell
            for ordering in orderings(parent, sites, cells):
                factors = np.ones((ordering.cells, len(quiet)))
                factors[:, sites] = ordering.signs.reshape(ordering.cells, len(sites))
                # atoms stand cell by cell, however the supercell's vectors are chosen
                form = ordering.form.tobytes()
                structure = large[form] = large.get(form) or supercell(parent, ordering.form, compact=True)
                signed = np.tile(quiet, ordering.cells) * factors.reshape(-1)
                signed = -signed if signed.sum() < -1e-9 else signed
                structure = structure.model_copy(update={"magmoms": [[0.0, 0.0, float(m) + 0.0] for m in signed]})
                details = {
                    "engine": "exact",
                    "cells": ordering.cells,
                    "supercell": ordering.form.tolist(),
                    "operations": ordering.operations,
                    **({"without_moment": list(silent)} if silent else {}),
                }
                found.append((structure, details))
    return found


def _nonmagnetic(start: MagneticStructure) -> tuple[MagneticStructure, dict[str, Any]]:
    none = start.model_copy(update={"magmoms": [[0.0, 0.0, 0.0]] * len(start.symbols)})
    return none, {"cells": 1, "supercell": np.eye(3, dtype=int).tolist()}


def _rank(structure: MagneticStructure, details: dict[str, Any]) -> tuple[Any, ...]:
    along = np.asarray(structure.magmoms)[:, 2]
    order = {"NM": 0, "FM": 1}.get(magnetic_state(structure.magmoms), 2)
    total = abs(along.sum()) / max(float(np.abs(along).sum()), 1e-12)
    silent = len(details.get("without_moment", []))
    return order, len(along), -details.get("operations", 0), silent, round(float(total), 6), (-np.sign(along)).tolist()


def _along(magmoms: Any, axis: np.ndarray) -> list[list[float]]:
    return (np.outer(np.asarray(magmoms)[:, 2], axis) + 0.0).tolist()
