"""Configurations of MLIP (moment tensor potentials), with the columns of its magnetic versions.

    BEGIN_CFG
     Size
        2
     Supercell
        2.86 0 0
        0 2.86 0
        0 0 2.86
     AtomData:  id type cartes_x cartes_y cartes_z fx fy fz magmom_x magmom_y magmom_z en_der_mx en_der_my en_der_mz
        1 0  0 0 0  0 0 0  2.2 0 0  0.01 0 0
        2 1  1.43 1.43 1.43  0 0 0  -0.1 0 0  0.02 0 0
     Energy
        -16.5
     PlusStress:  xx yy zz yz xz xy
        1 1 1 0 0 0
     Feature   mindist  2.47
    END_CFG

PlusStress is the virial in eV, positive for a compressed cell: stress in ASE's sign = −PlusStress / volume. The columns
en_der_m hold −∂E/∂m in eV/μB, whatever their name says: in the public FeAl set they push moments back to their
equilibrium. Types are numbers; which elements they are must be said, unless a feature ``elements`` says it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import voigt_6_to_full_3x3_stress

from mmace.data.source import Block, Notes, ReadOptions, ReadProgress, non_magnetic
from mmace.data.text import LineReader, number, plain_value
from mmace.errors import UserError, unknown_key_message
from mmace.train.configuration import Configuration, moments_as_vectors

NAME = "mlip_cfg"
SUFFIXES = (".cfg",)
DESCRIPTION = "MLIP configurations, with magnetic moments and en_der_m columns"
NAMED_KEYS = False

VECTORS = {  # quantity → its three columns
    "positions": ("cartes_x", "cartes_y", "cartes_z"),
    "direct positions": ("direct_x", "direct_y", "direct_z"),
    "forces": ("fx", "fy", "fz"),
    "magmoms": ("magmom_x", "magmom_y", "magmom_z"),
    "magnetic_forces": ("en_der_mx", "en_der_my", "en_der_mz"),
}
ALONG_Z = {"magmoms": "magmom", "magnetic_forces": "en_der_m"}  # one column: collinear
OTHER_COLUMNS = ("id", "type", "site_en", "charge", "ghost", "nbh_grades")
COLUMNS = {*OTHER_COLUMNS, *ALONG_Z.values(), *(name for names in VECTORS.values() for name in names)}
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
SECTIONS = ("Size", "Supercell", "AtomData:", "Energy", "PlusStress:", "Stress:", "Feature", "Features:")
ELEMENTS_FEATURE, HEAD_FEATURE, WEIGHT_FEATURE = "elements", "head", "config_weight"


def blocks(path: Path, options: ReadOptions, notes: Notes, progress: ReadProgress | None) -> Iterator[Block]:
    """Every configuration of the file. Raises `UserError` where BEGIN_CFG and END_CFG do not match."""
    notes.keys_ignored = bool(options.keys)
    notes.collinear_key = ALONG_Z["magmoms"]
    with LineReader(path, "an MLIP .cfg file", progress) as lines:
        index = 0
        while lines.skip_blank():
            first = (lines.line() or "").strip()
            start = lines.number
            where = f"{path}: configuration {index} (line {start})"
            if first != "BEGIN_CFG":
                raise UserError(f"{where}: expected BEGIN_CFG, found '{first[:40]}'; correct this line")
            rows: list[str] = []
            while (row := lines.line()) is not None and row.strip() != "END_CFG":
                if row.strip() == "BEGIN_CFG":
                    raise UserError(f"{where}: no END_CFG before the next BEGIN_CFG (line {lines.number}); add it")
                rows.append(row)
            if row is None:
                raise UserError(f"{where}: the file ends before END_CFG; complete the file")
            yield Block(where, partial(_build, where, start, rows, options, notes))
            index += 1


class _Sections:
    """The lines of one configuration, section by section."""

    def __init__(self, where: str, start: int, rows: list[str]) -> None:
        self.where, self.start = where, start
        self.rows = [(start + 1 + index, row.split()) for index, row in enumerate(rows) if row.strip()]
        self.features: dict[str, str] = {}
        self.found: dict[str, tuple[int, list[str], list[tuple[int, list[str]]]]] = {}
        position = 0
        while position < len(self.rows):
            line, words = self.rows[position]
            name = "Supercell" if words[0] == "SuperCell" else words[0]
            if name not in SECTIONS:
                hint = unknown_key_message(name, SECTIONS, self.place(line)).replace("unknown setting", "unknown field")
                raise UserError(f"{hint}; correct this line")
            stop = position + 1
            while stop < len(self.rows) and not self.rows[stop][1][0][0].isalpha():
                stop += 1
            if name == "Feature":
                value = rows[line - start - 1].split(None, 2)[2].strip() if len(words) > 2 else ""
                key = words[1] if len(words) > 1 else "feature"
                self.features[key] = f"{self.features[key]} {value}" if key in self.features else value
                stop = position + 1
            elif name in self.found:
                raise UserError(f"{self.place(line)}: '{name}' stands twice; remove one")
            else:
                self.found[name] = (line, words[1:], self.rows[position + 1 : stop])
            position = stop

    def place(self, line: int) -> str:
        """Words for one line of this configuration."""
        return f"{self.where}: line {line}"

    def numbers(self, name: str, count: int) -> np.ndarray | None:
        """The ``count`` numbers of a section, or None where it is missing."""
        if name not in self.found:
            return None
        line, header, rows = self.found[name]
        words = [] if name.endswith(":") else [(line, word) for word in header]
        words += [(at, word) for at, row in rows for word in row]
        if len(words) != count:
            raise UserError(
                f"{self.place(line)}: {name.rstrip(':')} has {len(words)} numbers, expected {count}; correct it"
            )
        return np.array([number(word, self.place(at), name.rstrip(":")) for at, word in words])


def _build(where: str, start: int, rows: list[str], options: ReadOptions, notes: Notes) -> Configuration:
    sections = _Sections(where, start, rows)
    size = sections.numbers("Size", 1)
    if size is None or size[0] < 1 or size[0] != int(size[0]):
        raise UserError(f"{where}: no Size, or not a whole number of atoms; add it")
    count = int(size[0])
    supercell = sections.numbers("Supercell", 9)
    cell = np.zeros((3, 3)) if supercell is None else supercell.reshape(3, 3)
    columns = _atom_data(sections, count)
    vectors = {name: _vector(columns, name, sections) for name in VECTORS}
    positions = vectors["positions"]
    if vectors["direct positions"] is not None:
        positions = vectors["direct positions"] @ cell
    if positions is None:
        raise UserError(f"{where}: AtomData has no positions; add cartes_x cartes_y cartes_z")
    moments = vectors["magmoms"]
    if moments is None:
        refusal = f"{where}: no moments; add the columns magmom_x magmom_y magmom_z (μB), zeros if it is non-magnetic"
        moments = non_magnetic(count, refusal, options, notes)
    notes.collinear += moments.ndim == 1
    magnetic_forces = vectors["magnetic_forces"]
    energy = sections.numbers("Energy", 1)
    info: dict[str, Any] = {key: plain_value(value) for key, value in sections.features.items()}
    symbols = str(info.pop(ELEMENTS_FEATURE, "")).replace(",", " ").split()
    head, weight = info.pop(HEAD_FEATURE, None), info.pop(WEIGHT_FEATURE, 1.0)
    return Configuration(
        numbers=_numbers(columns, count, options.numbers_of_types() or _of_symbols(symbols, where), where),
        positions=positions,
        cell=cell,
        pbc=np.full(3, supercell is not None),
        magmoms=moments_as_vectors(moments, count),
        energy=None if energy is None else float(energy[0]),
        forces=vectors["forces"],
        stress=_stress(sections, cell),
        magnetic_forces=None if magnetic_forces is None else moments_as_vectors(magnetic_forces, count),
        weight=weight,
        head=None if head is None else str(head),
        name=where,
        info=info,
    )


def _atom_data(sections: _Sections, count: int) -> dict[str, np.ndarray]:
    """Columns of the table by name, [N] each; those that are no numbers are left out."""
    if "AtomData:" not in sections.found:
        raise UserError(f"{sections.where}: no AtomData; add it")
    line, header, rows = sections.found["AtomData:"]
    for name in header:
        if name not in COLUMNS:
            hint = unknown_key_message(name, COLUMNS, sections.place(line)).replace("unknown setting", "unknown column")
            raise UserError(hint)
    if len(set(header)) < len(header):
        raise UserError(f"{sections.place(line)}: AtomData names a column twice; remove one")
    if len(rows) != count:
        raise UserError(f"{sections.place(line)}: AtomData has {len(rows)} atoms, Size is {count}; correct one of them")
    for at, row in rows:
        if len(row) != len(header):
            raise UserError(f"{sections.place(at)}: {len(row)} columns where AtomData has {len(header)}; complete it")
    columns = {}
    for position, name in enumerate(header):
        if name in ("ghost", "nbh_grades"):
            continue
        try:
            columns[name] = np.array([row[position] for _, row in rows], dtype=float)
        except ValueError:
            for at, row in rows:
                number(row[position], sections.place(at), name)
            raise
    if "id" in columns and len(np.unique(columns["id"])) < count:
        raise UserError(f"{sections.place(line)}: an id stands twice in AtomData; every atom needs its own")
    return columns


def _vector(columns: dict[str, np.ndarray], name: str, sections: _Sections) -> np.ndarray | None:
    """[N,3], or [N] where the file has one column, or None where it has none."""
    there = [column for column in VECTORS[name] if column in columns]
    if len(there) == 3:
        return np.column_stack([columns[column] for column in there])
    if there:
        lost = ", ".join(column for column in VECTORS[name] if column not in columns)
        raise UserError(f"{sections.where}: AtomData has {', '.join(there)} but not {lost}; give all three")
    return columns.get(ALONG_Z.get(name, ""))


def _numbers(columns: dict[str, np.ndarray], count: int, elements: list[int], where: str) -> np.ndarray:
    types = columns.get("type", np.zeros(count))
    if np.any(types < 0) or np.any(types != types.astype(int)):
        raise UserError(f"{where}: AtomData has types that are no whole numbers from 0; correct them")
    if not elements:
        raise UserError(
            f"{where}: atoms have types 0 to {int(types.max())} but no elements; say which they are in this order, "
            f"for example --elements Fe,Al"
        )
    if types.max() >= len(elements):
        known = ", ".join(f"{index} {chemical_symbols[element]}" for index, element in enumerate(elements))
        raise UserError(f"{where}: type {int(types.max())} has no element (known: {known}); give one per type")
    return np.array(elements)[types.astype(int)]


def _of_symbols(symbols: list[str], where: str) -> list[int]:
    for symbol in symbols:
        if atomic_numbers.get(symbol, 0) == 0:
            raise UserError(f"{where}: feature elements: '{symbol}' is no element; give --elements")
    return [atomic_numbers[symbol] for symbol in symbols]


def _stress(sections: _Sections, cell: np.ndarray) -> np.ndarray | None:
    """[3,3] eV/Å³ in ASE's sign from PlusStress, or from the older Stress, which has the other sign."""
    for name, sign in (("PlusStress:", -1.0), ("Stress:", 1.0)):
        if name not in sections.found:
            continue
        line, header, _ = sections.found[name]
        if sorted(header or VOIGT) != sorted(VOIGT):
            raise UserError(f"{sections.place(line)}: {name} expected xx yy zz yz xz xy; correct it")
        values = sections.numbers(name, 6)
        assert values is not None
        volume = abs(np.linalg.det(cell))
        if volume < 1e-6:
            raise UserError(f"{sections.place(line)}: stress is given but there is no Supercell; remove the stress")
        voigt = [values[(header or list(VOIGT)).index(component)] for component in VOIGT]
        return sign * voigt_6_to_full_3x3_stress(np.array(voigt)) / volume
    return None


def to_text(configuration: Configuration, types: dict[int, int]) -> str:
    """One configuration, with every digit. ``types``: atomic number → type; new elements get the next type.

    Raises `UserError` for what the format cannot hold: a cell that is not periodic in three directions.
    """
    if not configuration.pbc.all():
        raise UserError(f"{configuration.name}: not periodic in three directions, which {NAME} cannot say; use extxyz")
    for atomic_number in configuration.numbers.tolist():
        types.setdefault(atomic_number, len(types))
    header, table = ["id", "type"], []
    for name in ("positions", "forces", "magmoms", "magnetic_forces"):
        value = getattr(configuration, name)
        if value is not None:
            header += VECTORS[name]
            table.append(value)
    rows = np.hstack(table).tolist()
    text = [f"BEGIN_CFG\n Size\n    {len(rows)}\n Supercell"]
    text += ["    " + " ".join(map(repr, vector)) for vector in configuration.cell.tolist()]
    text.append(" AtomData:  " + " ".join(header))
    for index, (atomic_number, row) in enumerate(zip(configuration.numbers.tolist(), rows, strict=True), 1):
        text.append(f"    {index} {types[atomic_number]} " + " ".join(map(repr, row)))
    if configuration.energy is not None:
        text.append(f" Energy\n    {configuration.energy!r}")
    if configuration.stress is not None:
        volume = abs(np.linalg.det(configuration.cell))
        virial = -configuration.stress * volume
        voigt = virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]].tolist()
        text.append(f" PlusStress:  {' '.join(VOIGT)}\n    " + " ".join(map(repr, voigt)))
    symbols = ",".join(chemical_symbols[element] for element, _ in sorted(types.items(), key=lambda item: item[1]))
    text.append(f" Feature   {ELEMENTS_FEATURE}\t{symbols}")
    reserved = {ELEMENTS_FEATURE: None, HEAD_FEATURE: configuration.head, WEIGHT_FEATURE: configuration.weight}
    features = {key: value for key, value in configuration.info.items() if key not in reserved}
    if configuration.weight == 1.0:
        reserved[WEIGHT_FEATURE] = None
    for key, value in {**features, **reserved}.items():
        if isinstance(value, str | int | float) and key.split() == [key]:
            text.append(f" Feature   {key}\t{' '.join(str(value).split())}")
    return "\n".join(text) + "\nEND_CFG\n\n"
