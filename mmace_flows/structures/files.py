"""Structures from any file that ASE reads, and candidates to extended XYZ and back, with every digit.

A candidate's file keeps what it is in the comment line: operation, magnetic_state, seed, parent, structure_hash, group,
iteration, and ``details`` as JSON. Moments stand in the column initial_magmoms, (N,3) in μB, which ASE, the labels and
the calculator read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from mmace.errors import UserError, unknown_key_message
from mmace.fields import MAGMOMS
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.moments import as_vectors, magnetic_state

SUFFIXES = (".extxyz", ".xyz")
MOMENT_KEYS = (MAGMOMS.key, "initial_magmoms", "magmoms", "magmom")
CANDIDATE_KEYS = ("operation", "magnetic_state", "parent", "seed", "group", "iteration")


def read_structures(path: str | Path, format: str | None = None) -> list[MagneticStructure]:
    """Every structure of a file, with the moments that it has (zeros without). As `read_candidates`."""
    return [candidate.structure for candidate in read_candidates(path, format)]


def read_candidates(path: str | Path, format: str | None = None) -> list[Candidate]:
    """Every structure of a file as a candidate; one that this project did not write has the operation "file".

    Parameters: ``format`` one of ASE's, or "mcif" (moments by pymatgen) [default: by the name and content].
    Raises UserError, one line with file, configuration and mend.
    """
    path = Path(path)
    frames = _frames(path, format)
    found = []
    for index, atoms in enumerate(frames):
        where = f"{path}: configuration {index}"
        structure = _structure(atoms, where)
        info = atoms.info
        if "operation" not in info:
            state = magnetic_state(structure.magmoms)
            details = {"file": path.name, "configuration": index}
            found.append(Candidate(structure=structure, operation="file", magnetic_state=state, details=details))
            continue
        fields = {key: info[key] for key in CANDIDATE_KEYS if info.get(key) is not None}
        for key in ("parent", "operation", "group"):  # a hash of digits only reads as a number
            if key in fields:
                fields[key] = str(fields[key])
        for key in ("seed", "iteration"):
            if key in fields:
                fields[key] = int(fields[key])
        try:
            text = info.get("details", "{}")
            details = text if isinstance(text, dict) else json.loads(text)
            fields.setdefault("magnetic_state", magnetic_state(structure.magmoms))
            found.append(Candidate(structure=structure, details=details, **fields))
        except (ValidationError, ValueError, TypeError) as error:
            said = error.errors()[0]["msg"].lower() if isinstance(error, ValidationError) else "details are not JSON"
            raise UserError(f"{where}: the comment line does not describe a candidate ({said}); correct it") from error
    return found


def write_candidates(path: str | Path, candidates: Sequence[Candidate]) -> Path:
    """The whole file or nothing. Raises UserError for another suffix than .extxyz or .xyz, and where it cannot be."""
    from mmace_flows.execution.processes import write_file

    path = check_output(path)
    write_file(path, "".join(candidate_text(candidate) for candidate in candidates))
    return path


def check_output(path: str | Path) -> Path:
    """``path``, if it can be written as extended XYZ. Raises UserError before any work is done for nothing."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        said = f"unknown format '{path.suffix}'" if path.suffix else "the name has no suffix"
        raise UserError(f"{path}: {said}; structures are written as extended XYZ, end the name with .extxyz")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    return path


def candidate_text(candidate: Candidate) -> str:
    """One block of extended XYZ."""
    structure = candidate.structure
    lattice = " ".join(repr(float(value)) for row in structure.cell for value in row)
    periodic = " ".join("T" if value else "F" for value in structure.pbc)
    words = [
        f'Lattice="{lattice}"',
        "Properties=species:S:1:pos:R:3:initial_magmoms:R:3",
        f'pbc="{periodic}"',
        f"operation={_quoted(candidate.operation)}",
        f"magnetic_state={candidate.magnetic_state}",
        f"structure_hash={_quoted(structure.hash())}",
        f"group={_quoted(candidate.group)}",
        f"iteration={candidate.iteration}",
    ]
    if candidate.parent is not None:
        words.append(f"parent={_quoted(candidate.parent)}")
    if candidate.seed is not None:
        words.append(f"seed={candidate.seed}")
    words.append(f"details={_quoted(json.dumps(candidate.details, sort_keys=True))}")
    rows = [
        f"{symbol} " + " ".join(repr(float(value)) for value in (*position, *moment))
        for symbol, position, moment in zip(structure.symbols, structure.positions, structure.magmoms, strict=True)
    ]
    return "\n".join([str(len(rows)), " ".join(words), *rows]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _frames(path: Path, format: str | None) -> list[Atoms]:
    import ase.io
    from ase.io.formats import UnknownFileTypeError, ioformats

    if not path.exists():
        raise UserError(f"{path}: no such file; give structures in any format that ASE reads (cif, vasp, extxyz, …)")
    if format is not None and format not in ioformats and format != "mcif":
        said = unknown_key_message(format, [*ioformats, "mcif"], "--format")
        raise UserError(said.replace("unknown setting", "unknown format"))
    if format == "mcif" or (format is None and path.suffix == ".mcif"):
        return [_mcif(path)]
    try:
        frames = ase.io.read(path, index=":", format=format)
    except UnknownFileTypeError:
        raise UserError(
            f"{path}: format not recognised by name or content; say it with --format (cif, vasp, extxyz, …)"
        ) from None
    except Exception as error:  # ASE's many readers raise whatever they like
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: cannot be read as structures ({reason}); check the file, or say --format") from error
    if not frames:
        raise UserError(f"{path}: no structures in the file; give at least one")
    return list(frames)


def _mcif(path: Path) -> Atoms:
    from pymatgen.io.cif import CifParser

    from mmace_flows.structures.adapters import from_pymatgen

    try:
        crystals = CifParser(str(path)).parse_structures(primitive=False)
        return from_pymatgen(crystals[0], missing=0.0).to_atoms()
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: cannot be read as magnetic CIF ({reason}); check the file") from error


def _structure(atoms: Atoms, where: str) -> MagneticStructure:
    moments: Any = next((atoms.arrays[key] for key in MOMENT_KEYS if key in atoms.arrays), None)
    if moments is None and atoms.calc is not None:  # readers of some formats keep moments as results
        moments = next((atoms.calc.results[key] for key in ("magmoms", "magmom") if key in atoms.calc.results), None)
        moments = None if np.ndim(moments) == 0 else moments  # a total moment says nothing about atoms
    if len(atoms) == 0:
        raise UserError(f"{where}: no atoms; remove this configuration")
    if "X" in atoms.get_chemical_symbols():
        raise UserError(f"{where}: atom {atoms.get_chemical_symbols().index('X')} has no element; correct it")
    try:
        vectors = np.zeros((len(atoms), 3)) if moments is None else as_vectors(moments)
    except ValueError as error:
        raise UserError(f"{where}: {error}; write initial_magmoms:R:3, μB") from None
    for name, values in (("positions", atoms.positions), ("cell", np.asarray(atoms.cell)), ("moments", vectors)):
        if not np.isfinite(values).all():
            raise UserError(f"{where}: {name} contain NaN or infinity; correct or remove this configuration")
    return MagneticStructure.from_atoms(atoms, vectors)
