"""Extended XYZ: one block per structure, with a comment line that names the columns."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.io.extxyz import SPECIAL_3_3_KEYS, key_val_str_to_dict

from mmace.data.source import Block, Notes, ReadOptions, ReadProgress, non_magnetic
from mmace.data.text import LineReader
from mmace.errors import UserError
from mmace.fields import ENERGY, FIELDS, FORCES, MAGMOMS, MAGNETIC_FORCES, STRESS
from mmace.train.configuration import Configuration, complete_keys, moments_as_vectors

NAME = "extxyz"
SUFFIXES = (".extxyz", ".xyz")
DESCRIPTION = "extended XYZ, the project's own format"
NAMED_KEYS = True

# What other programs call the quantity; only used to name the likely mend, never read unasked.
OTHER_NAMES = {
    ENERGY.name: ("energy", "free_energy", "total_energy", "DFT_energy", "dft_energy"),
    FORCES.name: ("forces", "force", "DFT_forces", "dft_forces"),
    STRESS.name: ("stress", "DFT_stress", "dft_stress"),
    MAGMOMS.name: ("magmoms", "magmom", "initial_magmoms", "magnetic_moments", "spin", "DFT_magmom"),
    MAGNETIC_FORCES.name: ("magforces", "magnetic_forces", "force_mag", "mag_forces", "DFT_magforces"),
}
MISSPELLED_FROM = 0.82  # similarity from which another key is taken for a misspelled one; DFT_energy stays below
GEOMETRY = ("species", "pos", "Z")
HEAD = "head"  # level of theory
RESERVED = ("Lattice", "Properties", "pbc", "config_weight", HEAD)


def blocks(path: Path, options: ReadOptions, notes: Notes, progress: ReadProgress | None) -> Iterator[Block]:
    """Every configuration of the file. Raises `UserError` where a block has no count, no Properties, or no end."""
    keys = complete_keys(options.keys)
    notes.collinear_key = keys[MAGMOMS.name]
    with LineReader(path, "an extended-XYZ file", progress) as lines:
        index = 0
        while lines.skip_blank():
            count = (lines.line() or "").strip()
            start = lines.number
            where = f"{path}: configuration {index} (line {start})"
            if not (count.isascii() and count.isdigit()) or int(count) == 0:
                check = ", and the number of atoms of the configuration before" if index else ""
                raise UserError(
                    f"{where}: not extended XYZ: expected the number of atoms, found '{count[:40]}'; "
                    f"correct this line{check}"
                )
            comment = lines.line()
            rows = lines.take(int(count)) if comment is not None else []
            if comment is None or len(rows) < int(count):
                raise UserError(f"{where}: the file ends after {len(rows)} of {count} atoms; complete the file")
            if "Properties=" not in comment:
                raise UserError(
                    f"{path}: configuration {index} (line {start + 1}): not extended XYZ: no 'Properties=' in the "
                    f"comment line; write the file with ASE's format 'extxyz'"
                )
            yield Block(where, partial(_build, where, start, comment, rows, keys, options, notes))
            index += 1


def _build(
    where: str,
    start: int,
    comment: str,
    rows: list[str],
    keys: dict[str, str],
    options: ReadOptions,
    notes: Notes,
) -> Configuration:
    try:
        info = key_val_str_to_dict(comment)
    except Exception as error:  # ASE raises many kinds (ValueError, KeyError, JSONDecodeError, …)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: not valid extended XYZ (line {start + 1}: {reason}); correct this line") from None
    arrays = _columns(rows, str(info.pop("Properties")), where, start)
    numbers = _numbers(arrays, where, start)
    if "pos" not in arrays or arrays["pos"].shape != (len(rows), 3) or arrays["pos"].dtype.kind not in "if":
        raise _invalid(where, start + 1, "Properties has no positions pos:R:3")
    cell, pbc = _cell(info, where, start)
    values = {name: arrays.get(key, info.get(key)) if _per_atom(name) else info.get(key) for name, key in keys.items()}
    _check_names(values, keys, {*arrays, *info} - {*GEOMETRY, *RESERVED}, where, notes)
    moments = values.pop(MAGMOMS.name)
    if moments is None:
        mend = f"add {MAGMOMS.key}:R:3 to Properties (μB), zeros for a non-magnetic structure"
        refusal = f"{where}: no moments under '{keys[MAGMOMS.name]}'; {mend}"
        moments = non_magnetic(len(rows), refusal, options, notes)
    notes.collinear += np.ndim(moments) == 1
    used = {*keys.values(), *GEOMETRY, *RESERVED}
    return Configuration(
        numbers=numbers,
        positions=arrays["pos"],
        cell=cell,
        pbc=pbc,
        magmoms=moments_as_vectors(moments, len(rows)),
        weight=info.get("config_weight", 1.0),
        head=None if info.get(HEAD) is None else str(info[HEAD]),
        name=where,
        info={key: value for key, value in info.items() if key not in used},
        arrays={key: value for key, value in arrays.items() if key not in used},
        **values,
    )


def _per_atom(name: str) -> bool:
    return FIELDS[name].shape.startswith("[N")


def _invalid(where: str, line: int, reason: str) -> UserError:
    return UserError(f"{where}: not valid extended XYZ (line {line}: {reason}); correct this configuration")


def _columns(rows: list[str], properties: str, where: str, start: int) -> dict[str, np.ndarray]:
    """The per-atom columns by name: [N] or [N, width]."""
    parts = properties.split(":")
    names, kinds, widths = parts[::3], parts[1::3], parts[2::3]
    if len(parts) % 3 or not all(width.isdigit() and int(width) for width in widths) or set(kinds) - set("SRIL"):
        raise _invalid(where, start + 1, f"Properties={properties[:80]} is not name:kind:width:…")
    if len(set(names)) < len(names):
        raise _invalid(where, start + 1, f"Properties={properties[:80]} names a column twice")
    table = [row.split() for row in rows]
    total = sum(map(int, widths))
    for number, row in enumerate(table):
        if len(row) != total:
            raise _invalid(
                where, start + 2 + number, f"{len(row)} columns where Properties has {total}; is the row complete?"
            )
    cells = np.array(table)
    columns: dict[str, np.ndarray] = {}
    left = 0
    for name, kind, width in zip(names, kinds, map(int, widths), strict=True):
        part = cells[:, left : left + width]
        columns[name] = _converted(part[:, 0] if width == 1 else part, kind, name, where, start)
        left += width
    return columns


def _converted(part: np.ndarray, kind: str, name: str, where: str, start: int) -> np.ndarray:
    if kind == "S":
        return part
    if kind == "L":
        return np.isin(part, ("T", "True", "TRUE", "true", "1"))
    to = float if kind == "R" else int
    try:
        return part.astype(to)
    except (ValueError, OverflowError):
        for number, row in enumerate(part.reshape(len(part), -1)):
            for text in row:
                try:
                    to(text)
                except ValueError:
                    reason = f"'{str(text)[:40]}' in column {name} is not a number"
                    raise _invalid(where, start + 2 + number, reason) from None
        raise _invalid(where, start + 2, f"column {name} is not numbers") from None


def _numbers(arrays: dict[str, np.ndarray], where: str, start: int) -> np.ndarray:
    """[N] atomic numbers, from symbols or from the column Z."""
    if "species" in arrays and arrays["species"].ndim == 1:
        symbols = [str(symbol).capitalize() for symbol in arrays["species"]]
        for number, symbol in enumerate(symbols):
            if atomic_numbers.get(symbol, 0) == 0:
                raise _invalid(where, start + 2 + number, f"there is no element '{symbol[:40]}'")
        return np.array([atomic_numbers[symbol] for symbol in symbols])
    if "Z" in arrays and arrays["Z"].ndim == 1 and arrays["Z"].dtype.kind == "i":
        for number, value in enumerate(arrays["Z"]):
            if not 0 < value < len(chemical_symbols):
                raise _invalid(where, start + 2 + number, f"there is no element of number {value}")
        return arrays["Z"]
    raise _invalid(where, start + 1, "Properties has neither species:S:1 nor Z:I:1")


def _cell(info: dict[str, Any], where: str, start: int) -> tuple[np.ndarray, Any]:
    """Cell vectors as rows [3,3] Å, zeros without a lattice, and the periodic directions."""
    lattice = info.get("Lattice")
    if lattice is not None:
        # ASE's parser has made the nine numbers a matrix with the vectors as columns
        if np.shape(lattice) != (3, 3) or np.asarray(lattice).dtype.kind not in "if":
            raise _invalid(where, start + 1, "Lattice is not nine numbers ax ay az bx by bz cx cy cz")
        lattice = np.asarray(lattice, dtype=float).T
    pbc = info.get("pbc", lattice is not None)
    if np.asarray(pbc).dtype != bool or np.shape(pbc) not in ((), (3,)):
        raise _invalid(where, start + 1, 'pbc is not three of T and F, for example pbc="T T F"')
    return np.zeros((3, 3)) if lattice is None else lattice, pbc


def _check_names(values: dict[str, Any], keys: dict[str, str], others: set[str], where: str, notes: Notes) -> None:
    """Refuses a key that is a wanted one misspelled; notes what stands under another program's name."""
    candidates = others - set(keys.values())
    missing = [name for name, value in values.items() if value is None] if candidates else []
    elsewhere: dict[str, str] = {}
    for name in missing:
        near = difflib.get_close_matches(keys[name], candidates, n=1, cutoff=MISSPELLED_FROM)
        if near:
            raise UserError(
                f"{where}: unknown key '{near[0]}'; did you mean '{keys[name]}'? rename it, or read it with the key "
                f"{name}={near[0]}"
            )
        other = next((known for known in OTHER_NAMES[name] if known in candidates), None)
        if other is not None:
            elsewhere[name] = other
    if MAGMOMS.name in elsewhere:
        mend = f"the file has '{elsewhere[MAGMOMS.name]}': read it with the key magmoms={elsewhere[MAGMOMS.name]}"
        if len(elsewhere) > 1:
            mend += "; perhaps all of " + " ".join(f"--key {name}={other}" for name, other in elsewhere.items())
        raise UserError(f"{where}: no moments under '{keys[MAGMOMS.name]}'; {mend}")
    for name, other in elsewhere.items():
        notes.elsewhere.setdefault(name, other)


def to_text(configuration: Configuration) -> str:
    """The block of one configuration, with every digit of its numbers, under the project's keys."""
    columns: list[tuple[str, np.ndarray]] = [("pos", configuration.positions), (MAGMOMS.key, configuration.magmoms)]
    for field in (FORCES, MAGNETIC_FORCES):
        value = getattr(configuration, field.name)
        if value is not None:
            columns.append((field.key, value))
    taken = {"species", *(key for key, _ in columns)}
    columns += [(key, value) for key, value in configuration.arrays.items() if key not in taken]
    properties = ["species:S:1"]
    cells = [[chemical_symbols[number] for number in configuration.numbers]]
    for key, value in columns:
        flat = np.asarray(value).reshape(len(configuration), -1)
        properties.append(f"{key}:{_KINDS[flat.dtype.kind]}:{flat.shape[1]}")
        show = {"f": repr, "b": lambda x: "T" if x else "F"}.get(flat.dtype.kind, str)
        cells += [[show(x) for x in column] for column in flat.T.tolist()]
    words = []
    if configuration.cell.any():
        words.append(f'Lattice="{_row(configuration.cell.ravel())}"')
    words.append("Properties=" + ":".join(properties))
    if configuration.energy is not None:
        words.append(f"{ENERGY.key}={configuration.energy!r}")
    if configuration.stress is not None:
        words.append(f'{STRESS.key}="{_row(configuration.stress.ravel())}"')
    if configuration.weight != 1.0:
        words.append(f"config_weight={configuration.weight!r}")
    if configuration.head is not None:
        words.append(f"{HEAD}={_value(configuration.head)}")
    reserved = {*RESERVED, ENERGY.key, STRESS.key}
    for key, value in configuration.info.items():
        if key in SPECIAL_3_3_KEYS:  # ASE reads nine numbers as a matrix, column by column
            value = np.ravel(value, order="F")
        if key not in reserved:
            words.append(f"{_quoted(key)}={_value(value)}")
    words.append('pbc="' + " ".join("T" if periodic else "F" for periodic in configuration.pbc) + '"')
    rows = "".join(" ".join(row) + "\n" for row in zip(*cells, strict=True))
    return f"{len(configuration)}\n{' '.join(words)}\n{rows}"


_KINDS = {"f": "R", "i": "I", "u": "I", "b": "L", "U": "S"}


def _row(values: np.ndarray) -> str:
    return " ".join(repr(x) for x in values.tolist())


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
    simple = text.isascii() and text.replace("_", "").replace("-", "").replace(".", "").isalnum()
    return plain if simple else f'"{plain}"'


def _value(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "ifb":
        return _quoted(" ".join(_value(x) for x in value))
    if isinstance(value, float | np.floating):
        return repr(float(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, list | tuple | dict | np.ndarray):
        return _quoted("_JSON " + json.dumps(value.tolist() if isinstance(value, np.ndarray) else value))
    return _quoted(str(value))
