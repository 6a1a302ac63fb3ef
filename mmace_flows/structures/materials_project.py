"""Crystals from the Materials Project, by id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.moments import magnetic_state
from mmace_flows.structures.starting_moments import STARTING_MOMENTS

KEYS = ("MP_API_KEY", "PMG_MAPI_KEY")  # environment variables that may hold the key, the first that is set counts
MATERIAL_ID = re.compile(r"(mp|mvc)-[0-9]{1,9}")


def fetch_candidates(ids: Sequence[str], get: Callable[[str], Any] | None = None) -> list[Candidate]:
    """The crystals with these ids (mp-…), ferromagnetic along z with first moments by element.

    Parameters: ``get`` gives the pymatgen Structure of an id [default: asks the Materials Project, with the key in the
    environment variable MP_API_KEY]. Raises UserError without a key, for what is no id, and where nothing comes back.
    """
    for one in ids:
        if not MATERIAL_ID.fullmatch(one):
            raise UserError(f"materials_project: '{one}' is no id of the Materials Project; give for example mp-2260")
    if not ids:
        return []
    get = get or _getter()
    return [_candidate(one, get) for one in ids]


def _getter() -> Callable[[str], Any]:
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
    if key is None:
        raise UserError(
            "materials_project: there is no key; set the environment variable MP_API_KEY to the key of your account"
        )

    @cache  # one client for all ids, made with the first: what it raises is told with that id
    def client() -> Any:
        from pymatgen.ext.matproj import MPRester

        return MPRester(key)

    return lambda one: client().get_structure_by_material_id(one)


def _candidate(one: str, get: Callable[[str], Any]) -> Candidate:
    try:
        structure = get(one)
    except Exception as error:  # of the network, the service or its client: each has its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"materials_project: {one}: {reason}; check the id, the key and the network") from error
    symbols = [site.specie.symbol for site in structure]
    lengths = np.array([STARTING_MOMENTS.get(symbol, 0.0) for symbol in symbols])
    made = MagneticStructure(
        symbols=symbols,
        positions=np.asarray(structure.cart_coords).tolist(),
        cell=np.asarray(structure.lattice.matrix).tolist(),
        magmoms=np.outer(lengths, [0.0, 0.0, 1.0]).tolist(),
    )
    return Candidate(
        structure=made,
        operation="materials project",
        magnetic_state=magnetic_state(made.magmoms),
        details={"material_id": one},
    )
