"""Force-theorem runs as training data: one configuration per run, with the energies of its directions.

Runs of one crystal belong together, however its cell was chosen: two structures are one crystal if pymatgen's
StructureMatcher, with its default tolerances, maps their primitive cells onto each other. Magnetic orders of a crystal,
its supercells, turned and slightly strained copies are then never on two sides of a split.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from mmace.errors import UserError
from mmace_flows.execution.outputs import SPIN_ORBIT, keys_in_outputs
from mmace_flows.schemas.document import content_hash
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure

if TYPE_CHECKING:
    from mmace.train import Configuration

STORE = "store:"
LEAST_DIRECTIONS = 2


class ParentLeakError(UserError):
    """A crystal stands on both sides of a split."""


def read_documents(source: str, stores: Any = None) -> list[SpinOrbitDocument]:
    """Runs of ``store:CAMPAIGN`` (``store:`` alone: of all campaigns) or of a file, JSON or JSON lines, by key.

    A file holds documents, or what `mmace soc --json` prints. Raises UserError for what cannot be read.
    """
    if source.startswith(STORE):
        if stores is None:
            from mmace_flows.execution.stores import open_stores

            stores = open_stores()
        campaign = source.removeprefix(STORE)
        named = {"spin_orbit_key": {"$in": keys_in_outputs(stores, campaign, SPIN_ORBIT)}} if campaign else {}
        stored = stores.spin_orbit.query({"$or": [{"campaign": campaign}, named]} if campaign else {})
        found = [SpinOrbitDocument.from_store(one) for one in stored]
        if not found:
            known = ", ".join(sorted(map(str, stores.spin_orbit.distinct("campaign")))) or "none"
            raise UserError(f"{source}: no runs of `mmace soc` there; campaigns that have some: {known}")
    else:
        found = [_document(one, f"{source}: run {number}") for number, one in enumerate(_entries(Path(source)))]
        if not found:
            raise UserError(f"{source}: no runs in it; write them with mmace soc … --json")
    return sorted({one.spin_orbit_key: one for one in found}.values(), key=lambda one: one.spin_orbit_key)


def _entries(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"{path}: cannot be read ({reason}); give a JSON file of runs, or store:CAMPAIGN") from error
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        data = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); give what mmace soc --json prints") from error
    if isinstance(data, dict):
        data = data.get("results", [data])
    return data if isinstance(data, list) else [data]


def _document(entry: Any, where: str) -> SpinOrbitDocument:
    if isinstance(entry, dict) and "document" in entry:
        entry = entry["document"]
    if not isinstance(entry, dict):
        raise UserError(f"{where}: not a run of mmace soc; give documents with structure, directions and energies")
    try:
        return SpinOrbitDocument.from_store(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {field}: {first['msg'].lower()}; give documents of mmace soc") from error


def configuration_of(document: SpinOrbitDocument) -> Configuration:
    """The run as a configuration: collinear moments along z, and E_A of its directions; opposite ones are averaged.

    Raises UserError for a run that did not converge or has fewer than two directions.
    """
    from mmace.anisotropy import opposites_joined
    from mmace.train import Configuration

    where = f"run {document.spin_orbit_key}"
    if document.status != "converged":
        raise UserError(f"{where}: did not converge ({document.error}); leave it out")
    vectors, energies = np.array(document.directions, dtype=float), np.array(document.energies, dtype=float)
    if vectors.shape != (len(energies), 3) or len(document.lengths) != len(document.structure.symbols):
        raise UserError(f"{where}: directions, energies and lengths do not belong together; compute it again")
    first, place = opposites_joined(vectors)
    energies = energies - energies.mean()  # thousands of eV beside µeV
    means = np.bincount(place, energies) / np.bincount(place)
    if len(means) < LEAST_DIRECTIONS:
        raise UserError(f"{where}: {len(means)} direction; a difference needs two at least")
    atoms = document.structure.to_atoms()
    atoms.set_initial_magnetic_moments(np.outer(document.lengths, [0.0, 0.0, 1.0]))
    configuration = Configuration.from_atoms(atoms, name=where)
    return replace(
        configuration,
        directions=vectors[first],
        anisotropy=means - means.mean(),
        info={"parent": document.parent, "spin_orbit_key": document.spin_orbit_key},
    )


def with_directions(configuration: Configuration, count: int, seed: int = 0) -> Configuration:
    """With at most ``count`` of its directions, drawn by ``seed`` and crystal: for learning curves."""
    assert configuration.directions is not None and configuration.anisotropy is not None
    key = content_hash([seed, configuration.info.get("spin_orbit_key", configuration.name)])
    order = np.random.default_rng(int(key[:15], 16)).permutation(len(configuration.anisotropy))[:count]
    chosen = np.sort(order)
    return replace(
        configuration, directions=configuration.directions[chosen], anisotropy=configuration.anisotropy[chosen]
    )


def crystal_groups(structures: Sequence[MagneticStructure]) -> list[int]:
    """Number of the crystal that each structure is, from 0, up to symmetry, supercell, scale and small strain."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    matcher = StructureMatcher()
    kept: dict[str, list[tuple[int, Structure]]] = {}
    numbers: list[int] = []
    following = 0
    for structure in structures:
        crystal = Structure(structure.cell, structure.symbols, structure.positions, coords_are_cartesian=True)
        crystal = crystal.get_primitive_structure()
        alike = kept.setdefault(crystal.composition.reduced_formula, [])
        number = next((known for known, other in alike if matcher.fit(crystal, other)), None)
        if number is None:
            number, following = following, following + 1
            alike.append((number, crystal))
        numbers.append(number)
    return numbers


def split_by_crystal(
    documents: Sequence[SpinOrbitDocument], fraction: float, seed: int = 0
) -> tuple[list[SpinOrbitDocument], list[SpinOrbitDocument]]:
    """Runs to train on, and those of a ``fraction`` of the crystals put aside (at least one, if there are two)."""
    groups = np.array(crystal_groups([one.structure for one in documents]))
    crystals = np.random.default_rng([seed, 4]).permutation(groups.max(initial=-1) + 1)
    count = min(max(1, round(fraction * len(crystals))), len(crystals) - 1) if fraction > 0 else 0
    aside = set(crystals[:count].tolist())
    return (
        [one for one, group in zip(documents, groups.tolist(), strict=True) if group not in aside],
        [one for one, group in zip(documents, groups.tolist(), strict=True) if group in aside],
    )


def check_no_leak(training: Sequence[SpinOrbitDocument], held_out: Sequence[SpinOrbitDocument]) -> None:
    """Raises ParentLeakError, naming both runs, if a crystal stands on both sides."""
    groups = crystal_groups([one.structure for one in (*training, *held_out)])
    known: dict[int, SpinOrbitDocument] = dict(zip(groups, training, strict=False))
    for group, one in zip(groups[len(training) :], held_out, strict=True):
        if group in known:
            raise ParentLeakError(
                f"run {one.spin_orbit_key} ({''.join(one.structure.symbols)}) is the crystal of run "
                f"{known[group].spin_orbit_key}, which is trained on; remove it from one side"
            )


def usable(documents: Iterable[SpinOrbitDocument]) -> list[SpinOrbitDocument]:
    """Runs that converged and have directions enough."""
    return [one for one in documents if one.status == "converged" and len(one.directions) > LEAST_DIRECTIONS]
