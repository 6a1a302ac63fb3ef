"""Energies of isolated atoms at fixed moments, from extended XYZ or CSV."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmace.errors import UserError

COLUMNS = ("element", "moment", "energy")


@dataclass(frozen=True)
class AtomGrid:
    """Energies of one element's isolated atom, by growing |m|."""

    moments: np.ndarray  # [n] |m|, μB
    energies: np.ndarray  # [n] eV


def read_atom_grids(path: str | Path, keys: dict[str, str] | None = None) -> dict[str, AtomGrid]:
    """Element → grid, from a ``.csv`` file with the columns element, moment (μB), energy (eV), or from extended XYZ
    whose configurations are single atoms with moments and energies (keys as in training).

    Raises UserError, naming file and place, for configurations of several atoms, missing energies, wrong columns.
    """
    path = Path(path)
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _xyz_rows(path, keys)
    grids = {}
    for element in sorted({row[0] for row in rows}):
        pairs = np.array(sorted((moment, energy) for name, moment, energy in rows if name == element))
        grids[element] = AtomGrid(pairs[:, 0], pairs[:, 1])
    return grids


def _xyz_rows(path: Path, keys: dict[str, str] | None) -> list[tuple[str, float, float]]:
    from ase.data import chemical_symbols

    from mmace.train.reading import read_configurations

    rows = []
    for configuration in read_configurations(path, keys):
        if len(configuration) != 1:
            raise UserError(f"{configuration.name}: {len(configuration)} atoms; one-body data are single atoms")
        if configuration.energy is None:
            raise UserError(f"{configuration.name}: no energy; label it or take it out")
        moment = float(np.linalg.norm(configuration.magmoms[0]))
        rows.append((chemical_symbols[int(configuration.numbers[0])], moment, configuration.energy))
    return rows


def _csv_rows(path: Path) -> list[tuple[str, float, float]]:
    from ase.data import atomic_numbers

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not a text file'})") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        raise UserError(f"{path}: the file is empty; write a line {','.join(COLUMNS)} and a line per energy below")
    header = [name.strip().lower() for name in next(csv.reader([lines[0][1]]))]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise UserError(f"{path}: no column {missing[0]}; begin the file with the line {','.join(COLUMNS)}")
    rows = []
    for number, line in lines[1:]:
        values = dict(zip(header, [value.strip() for value in next(csv.reader([line]))], strict=False))
        element = values.get("element", "")
        if element not in atomic_numbers or element == "X":
            raise UserError(f"{path}: line {number}: {element!r} is not a chemical symbol; correct it")
        try:
            moment, energy = float(values["moment"]), float(values["energy"])
        except (KeyError, ValueError):
            raise UserError(f"{path}: line {number}: moment and energy must be numbers, in μB and eV") from None
        if not (np.isfinite(moment) and np.isfinite(energy)):
            raise UserError(f"{path}: line {number}: moment and energy must be finite numbers; take the line out")
        rows.append((element, abs(moment), energy))
    return rows
