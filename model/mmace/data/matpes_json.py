"""JSON documents in the manner of MatPES: a list, or one document per line, each with a pymatgen structure.

Energies in eV, forces in eV/Å. Stress is VASP's: kBar, positive for a compressed cell, in the order
xx yy zz yz xz xy (or 3×3); stress in ASE's sign, eV/Å³ = −0.1 GPa/kBar × stress. Moments stand in the document
(``magmoms``) or in the properties of the sites (``magmom``): numbers, vectors, or pymatgen's Magmom.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.stress import voigt_6_to_full_3x3_stress
from ase.units import GPa

from mmace.data.source import Block, Notes, ReadOptions, ReadProgress, non_magnetic
from mmace.data.text import LineReader
from mmace.errors import UserError
from mmace.fields import ENERGY, FORCES, MAGMOMS, MAGNETIC_FORCES, STRESS
from mmace.train.configuration import Configuration

NAME = "matpes_json"
SUFFIXES = (".json", ".jsonl", ".ndjson")
DESCRIPTION = "documents with pymatgen structures, as MatPES has them; stress in kBar"
NAMED_KEYS = True

KEYS = {
    ENERGY.name: ("energy",),
    FORCES.name: ("forces",),
    STRESS.name: ("stress",),
    MAGMOMS.name: ("magmoms", "magmom"),
    MAGNETIC_FORCES.name: ("magnetic_forces",),
}
KILOBAR = 0.1 * GPa  # eV/Å³
CHUNK = 2**20  # characters read at a time
LARGEST_DOCUMENT = 256 * 2**20  # characters; beyond, a bracket must be missing
NAMED_INFO = ("matpes_id", "functional", "bandgap", "formula_pretty")
_BETWEEN = re.compile(r"[\s,]*")


def blocks(path: Path, options: ReadOptions, notes: Notes, progress: ReadProgress | None) -> Iterator[Block]:
    """Every document of the file, one at a time. Raises `UserError` where the JSON cannot be divided."""
    notes.collinear_key = options.keys.get(MAGMOMS.name, KEYS[MAGMOMS.name][0])
    with LineReader(path, "a JSON file", progress) as lines:
        for index, (line, document) in enumerate(_documents(path, lines)):
            where = f"{path}: configuration {index} (line {line})"
            yield Block(where, partial(_build, where, document, options, notes))


def _documents(path: Path, lines: LineReader) -> Iterator[tuple[int, Any]]:
    """(line on which it begins, document) of a list, or of documents one after the other."""
    decoder = json.JSONDecoder()
    text, at, line, index = "", 0, 1, 0  # what is read, how far it is understood, on which line that is
    in_list = ended = closed = False
    while True:
        gap = _BETWEEN.match(text, at)
        assert gap is not None
        line, at = line + text.count("\n", at, gap.end()), gap.end()
        following = text[at : at + 1]
        if closed and following:
            raise UserError(f"{path}: line {line}: text after the end of the list; remove it")
        if following == "[" and not in_list and not index:
            in_list, at = True, at + 1
            continue
        if following == "]" and in_list:
            closed, at = True, at + 1
            continue
        if following:
            try:
                document, stop = decoder.raw_decode(text, at)
                yield line, document
                line, at, index = line + text.count("\n", at, stop), stop, index + 1
                continue
            except json.JSONDecodeError as error:
                length = len(text) - at
                # an error near the end of what is read so far only says that the document goes on
                if ended or length > LARGEST_DOCUMENT or (length > CHUNK and error.pos - at < length // 2):
                    place = f"{path}: configuration {index} (line {line + text.count(chr(10), at, error.pos)})"
                    cut = ended and (error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated"))
                    reason = "the file ends within it" if cut else error.msg
                    raise UserError(f"{place}: not valid JSON ({reason}); correct or complete the file") from None
            except RecursionError:
                raise UserError(f"{path}: configuration {index} (line {line}): nested too deeply; correct it") from None
        elif ended:
            break
        # twice as much as is left over: time stays linear in the size of the file
        more = lines.characters(max(CHUNK, len(text) - at))
        ended = not more
        text, at = text[at:] + more, 0
    if in_list and not closed:
        raise UserError(f"{path}: the list of documents is not closed after configuration {index - 1}; complete it")


def _build(where: str, document: Any, options: ReadOptions, notes: Notes) -> Configuration:
    if not isinstance(document, dict) or not isinstance(document.get("structure"), dict):
        raise UserError(f"{where}: no 'structure' in the document; give documents as MatPES has them")
    cell, pbc, numbers, positions, sites = _structure(document["structure"], where)
    values = {name: _value(document, name, options) for name in KEYS}
    stress = values[STRESS.name]
    moments = _moments(values.pop(MAGMOMS.name), sites, options, notes, where)
    info = {key: document[key] for key in NAMED_INFO if isinstance(document.get(key), str | int | float)}
    provenance = document.get("provenance")
    if isinstance(provenance, dict):
        info |= {key: value for key, value in provenance.items() if isinstance(value, str | int | float)}
    return Configuration(
        numbers=numbers,
        positions=positions,
        cell=cell,
        pbc=pbc,
        magmoms=moments,
        **{**values, STRESS.name: None if stress is None else _stress(stress, where)},
        name=where,
        info=info,
        arrays=_charges(sites),
    )


def _value(document: dict[str, Any], name: str, options: ReadOptions) -> Any:
    names = (options.keys[name],) if name in options.keys else KEYS[name]
    return next((document[key] for key in names if document.get(key) is not None), None)


def _structure(structure: dict[str, Any], where: str) -> tuple[np.ndarray, Any, np.ndarray, np.ndarray, list[Any]]:
    """Cell, periodic directions, atomic numbers, positions and the sites themselves."""
    sites = structure.get("sites")
    if not isinstance(sites, list) or not sites:
        raise UserError(f"{where}: the structure has no sites; remove this document")
    lattice = structure.get("lattice") or {}
    try:
        cell = np.array(lattice["matrix"], dtype=float).reshape(3, 3) if lattice else np.zeros((3, 3))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where}: the structure's lattice has no 3×3 matrix; correct it") from None
    numbers, positions = [], []
    for index, site in enumerate(sites):
        species = site.get("species") if isinstance(site, dict) else None
        if not isinstance(species, list) or len(species) != 1 or species[0].get("occu", 1) != 1:
            raise UserError(f"{where}: site {index} is not occupied by one element; remove this document")
        number = atomic_numbers.get(str(species[0].get("element")), 0)
        if number == 0:
            raise UserError(f"{where}: site {index}: there is no element '{species[0].get('element')}'; correct it")
        numbers.append(number)
        try:
            place = site["xyz"] if "xyz" in site else np.array(site["abc"], dtype=float) @ cell
            positions.append(np.array(place, dtype=float).reshape(3))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{where}: site {index} has no position (xyz or abc of 3 numbers); correct it") from None
    return cell, lattice.get("pbc", bool(lattice)), np.array(numbers), np.array(positions), sites


def _moments(value: Any, sites: list[Any], options: ReadOptions, notes: Notes, where: str) -> np.ndarray:
    """[N,3] μB from the document, or from the sites."""
    if value is None:
        found = [(site.get("properties") or {}).get("magmom") for site in sites]
        value = None if any(moment is None for moment in found) else found
    if value is None:
        refusal = f"{where}: no moments, neither 'magmoms' in the document nor 'magmom' of every site; add them (μB)"
        return non_magnetic(len(sites), refusal, options, notes)
    if not isinstance(value, list) or len(value) != len(sites):
        raise UserError(f"{where}: magmoms are not a list of one moment per site ({len(sites)}); correct them")
    notes.collinear += all(isinstance(moment, int | float) for moment in value)
    return np.array([_vector(moment, index, where) for index, moment in enumerate(value)])


def _vector(moment: Any, index: int, where: str) -> np.ndarray:
    """A moment as vector; a number is collinear along z, pymatgen's Magmom along its quantisation axis."""
    try:
        if isinstance(moment, dict):  # pymatgen's Magmom
            axis = np.array(moment.get("saxis", [0, 0, 1]), dtype=float)
            if np.ndim(moment["moment"]) == 0:
                return float(moment["moment"]) * axis / np.linalg.norm(axis)
            if not np.allclose(axis / np.linalg.norm(axis), [0, 0, 1]):
                raise UserError(f"{where}: site {index} has a vector moment with another saxis than z; turn it to z")
            moment = moment["moment"]
        vector = np.array(moment, dtype=float)
        return np.array([0.0, 0.0, float(vector)]) if vector.ndim == 0 else vector.reshape(3)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where}: the moment of site {index} is no number and no vector; correct it") from None


def _stress(value: Any, where: str) -> np.ndarray:
    try:
        stress = np.array(value, dtype=float)
    except (TypeError, ValueError):
        stress = np.zeros(0)
    if stress.shape == (6,):
        stress = voigt_6_to_full_3x3_stress(stress)
    if stress.shape != (3, 3):
        raise UserError(f"{where}: stress is not 6 or 3×3 numbers (kBar); correct it")
    return -KILOBAR * stress


def _charges(sites: list[Any]) -> dict[str, np.ndarray]:
    charges = [(site.get("properties") or {}).get("charge") for site in sites]
    if not all(isinstance(charge, int | float) for charge in charges):
        return {}
    return {"charge": np.array(charges, dtype=float)}
