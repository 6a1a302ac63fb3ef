"""Folders of DeePMD-kit with spins: types, and one array per quantity with a row per configuration.

A system is a folder with ``type.raw`` (types 0, 1, … of its atoms), ``type_map.raw`` (their elements) and either sets
``set.*/coord.npy``, ``box.npy``, ``energy.npy``, ``force.npy``, ``virial.npy``, ``spin.npy``, ``force_mag.npy`` or the
same as text, ``coord.raw`` and so on, one line per configuration. A folder of such folders is read as a whole.
Units are eV, Å, μB; virial is in eV, positive for a compressed cell: stress in ASE's sign = −virial / volume;
force_mag is −∂E/∂m. Arrays are loaded without unpickling and mapped, not read at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from mmace.data.source import Block, Notes, ReadOptions, ReadProgress, non_magnetic
from mmace.data.text import LineReader
from mmace.errors import UserError
from mmace.train.configuration import Configuration

NAME = "deepmd_spin"
SUFFIXES: tuple[str, ...] = ()
DESCRIPTION = "folders of DeePMD-kit with spins (type.raw, set.*/coord.npy, spin.npy, …, or .raw)"
NAMED_KEYS = False

COORD, BOX, ENERGY, FORCE, VIRIAL, SPIN, FORCE_MAG, TYPES = (
    "coord",
    "box",
    "energy",
    "force",
    "virial",
    "spin",
    "force_mag",
    "real_atom_types",
)


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a system or holds some."""
    return path.is_dir() and next(path.rglob("type.raw"), None) is not None


def blocks(path: Path, options: ReadOptions, notes: Notes, progress: ReadProgress | None) -> Iterator[Block]:
    """Every configuration of every system. Raises `UserError` for arrays that do not fit together."""
    notes.keys_ignored = bool(options.keys)
    systems = sorted({file.parent for file in path.rglob("type.raw")})
    if not systems:
        what = "no such folder" if not path.exists() else "no type.raw in it"
        raise UserError(f"{path}: {what}; give the path of a DeePMD folder")
    parts = [part for system in systems for part in _parts(system)]
    size = sum(file.stat().st_size for _, _, files in parts for file in files.values())
    done = 0
    for system, folder, files in parts:
        part = sum(file.stat().st_size for file in files.values())
        # a row of one array has the share of its row in all of them
        frames = max(1, part // max(1, 8 * _numbers_of_row(files, system)))
        for index, block in enumerate(_part_blocks(system, folder, files, options, notes)):
            yield block
            if progress is not None and index % 100 == 99:
                progress(min(done + part * index // frames, done + part), size)
        done += part
        if progress is not None:
            progress(done, size)


def _parts(system: Path) -> list[tuple[Path, Path, dict[str, Path]]]:
    """(system, folder, quantity → file) of every set of a system, or of its text files."""
    sets = sorted(folder for folder in system.glob("set.*") if folder.is_dir())
    names = (COORD, BOX, ENERGY, FORCE, VIRIAL, SPIN, FORCE_MAG, TYPES)
    if sets:
        return [
            (system, folder, {name: folder / f"{name}.npy" for name in names if (folder / f"{name}.npy").exists()})
            for folder in sets
        ]
    files = {name: system / f"{name}.raw" for name in names if (system / f"{name}.raw").exists()}
    if COORD not in files:
        raise UserError(f"{system}: neither sets with coord.npy nor coord.raw; complete the folder")
    return [(system, system, files)]


def _numbers_of_row(files: dict[str, Path], system: Path) -> int:
    """How many numbers one configuration has in all arrays together, about."""
    count = len(_words(system / "type.raw"))
    return sum({BOX: 9, VIRIAL: 9, ENERGY: 1, TYPES: count}.get(name, 3 * count) for name in files)


def _part_blocks(
    system: Path, folder: Path, files: dict[str, Path], options: ReadOptions, notes: Notes
) -> Iterator[Block]:
    types, elements = _types(system, options)
    periodic = not (system / "nopbc").exists()
    for name in (COORD, BOX) if periodic else (COORD,):
        if name not in files:
            raise UserError(f"{folder}: no {name}; add it" + (", or an empty file nopbc" if name == BOX else ""))
    if COORD in files and files[COORD].suffix == ".raw":
        yield from _raw_blocks(system, files, types, elements, periodic, options, notes)
        return
    count = len(types)
    widths = {COORD: 3 * count, BOX: 9, ENERGY: 1, FORCE: 3 * count, VIRIAL: 9, TYPES: count}
    widths |= {SPIN: 3 * count, FORCE_MAG: 3 * count}
    arrays = {name: _load(file, widths[name]) for name, file in files.items()}
    frames = len(arrays[COORD])
    for name, array in arrays.items():
        if len(array) != frames:
            raise UserError(f"{files[name]}: {len(array)} configurations where coord has {frames}; correct one of them")
    for index in range(frames):
        where = f"{folder}: configuration {index}"
        row = {name: array[index] for name, array in arrays.items()}
        yield Block(where, partial(_build, where, row, types, elements, periodic, options, notes))


def _raw_blocks(
    system: Path,
    files: dict[str, Path],
    types: np.ndarray,
    elements: list[int],
    periodic: bool,
    options: ReadOptions,
    notes: Notes,
) -> Iterator[Block]:
    readers = {name: LineReader(file, "a DeePMD .raw file").__enter__() for name, file in files.items()}
    try:
        index = 0
        while readers[COORD].skip_blank():
            where = f"{files[COORD]}: configuration {index} (line {readers[COORD].number + 1})"
            lines: dict[str, str] = {}
            for name, reader in readers.items():
                line = reader.line()
                if line is None:
                    raise UserError(f"{files[name]}: only {index} lines, fewer than coord.raw; complete it")
                lines[name] = line
            yield Block(where, partial(_build_raw, where, lines, files, types, elements, periodic, options, notes))
            index += 1
        for name, reader in readers.items():
            if reader.skip_blank():
                raise UserError(f"{files[name]}: more than {index} lines, which coord.raw has; correct one of them")
    finally:
        for reader in readers.values():
            reader.__exit__(None, None, None)


def _build_raw(where: str, lines: dict[str, str], files: dict[str, Path], types: np.ndarray, *more: Any) -> Any:
    count = len(types)
    widths = {BOX: 9, ENERGY: 1, VIRIAL: 9, TYPES: count}
    row = {}
    for name, line in lines.items():
        words = line.split()
        wanted = widths.get(name, 3 * count)
        if len(words) != wanted:
            raise UserError(f"{where}: {files[name].name} has {len(words)} numbers, expected {wanted}; correct it")
        try:
            row[name] = np.array(words, dtype=float)
        except ValueError:
            raise UserError(f"{where}: {files[name].name} has something that is not a number; correct it") from None
    return _build(where, row, types, *more)


def _load(file: Path, width: int) -> np.ndarray:
    """[frames, width] of a .npy file, mapped."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = "it holds Python objects" if "Python objects" in str(error) else "damaged or truncated"
        raise UserError(f"{file}: not an array of numbers ({reason}); write it again") from None
    if array.dtype.kind not in "fiu":
        raise UserError(f"{file}: not an array of numbers ({array.dtype}); write it again")
    if width == 1 and array.ndim == 1:
        array = array[:, None]
    if array.ndim == 3:
        array = array.reshape(len(array), -1)
    if array.ndim != 2 or array.shape[1] != width:
        raise UserError(f"{file}: shape {array.shape}, expected (configurations, {width}); does type.raw fit?")
    return array


def _types(system: Path, options: ReadOptions) -> tuple[np.ndarray, list[int]]:
    """Types of the atoms [N] and atomic numbers of the types."""
    words = _words(system / "type.raw")
    if not words or not all(word.isdigit() for word in words):
        raise UserError(f"{system / 'type.raw'}: not a list of types 0, 1, …; correct it")
    types = np.array(words, dtype=int)
    elements = options.numbers_of_types()
    named = system / "type_map.raw"
    if named.exists():
        symbols = _words(named)
        for symbol in symbols:
            if atomic_numbers.get(symbol, 0) == 0:
                raise UserError(f"{named}: '{symbol}' is no element; correct it")
        elements = [atomic_numbers[symbol] for symbol in symbols]
    if not elements:
        raise UserError(f"{system}: no type_map.raw; say which element each type is, for example --elements Ni,O")
    if types.max() >= len(elements):
        raise UserError(f"{system / 'type.raw'}: type {types.max()} has no element; name it in type_map.raw")
    return types, elements


def _words(file: Path) -> list[str]:
    with LineReader(file, "a DeePMD .raw file") as lines:
        return " ".join(lines.take(10**9)).split()


def _build(
    where: str,
    row: dict[str, np.ndarray],
    types: np.ndarray,
    elements: list[int],
    periodic: bool,
    options: ReadOptions,
    notes: Notes,
) -> Configuration:
    real = np.asarray(row[TYPES]).astype(int) if TYPES in row else types
    kept = real >= 0  # mixed-type systems pad with virtual atoms of type −1
    if real.max(initial=-1) >= len(elements):
        raise UserError(f"{where}: type {real.max()} has no element; name it in type_map.raw")

    def vectors(name: str) -> np.ndarray | None:
        return np.array(row[name], dtype=float).reshape(-1, 3)[kept] if name in row else None

    cell = np.array(row[BOX], dtype=float).reshape(3, 3) if BOX in row else np.zeros((3, 3))
    moments = vectors(SPIN)
    if moments is None:
        refusal = f"{where}: no moments; add spin.npy or spin.raw (μB), zeros for a non-magnetic structure"
        moments = non_magnetic(int(kept.sum()), refusal, options, notes)
    stress = None
    if VIRIAL in row:
        volume = abs(np.linalg.det(cell))
        if not periodic or volume < 1e-6:
            raise UserError(f"{where}: virial is given but the cell is not periodic; remove the virial")
        stress = -np.array(row[VIRIAL], dtype=float).reshape(3, 3) / volume
    return Configuration(
        numbers=np.array(elements)[real[kept]],
        positions=np.array(row[COORD], dtype=float).reshape(-1, 3)[kept],
        cell=cell,
        pbc=np.full(3, periodic),
        magmoms=moments,
        energy=float(row[ENERGY][0]) if ENERGY in row else None,
        forces=vectors(FORCE),
        stress=stress,
        magnetic_forces=vectors(FORCE_MAG),
        name=where,
    )


def to_rows(configuration: Configuration) -> dict[str, np.ndarray]:
    """Quantity → its row in the arrays. Raises `UserError` for what the format cannot hold."""
    if configuration.pbc.any() != configuration.pbc.all():
        raise UserError(f"{configuration.name}: periodic in some directions only, which {NAME} cannot say; use extxyz")
    if configuration.head is not None or configuration.weight != 1.0:
        raise UserError(f"{configuration.name}: has a head or a weight, which {NAME} cannot say; use extxyz")
    rows = {COORD: configuration.positions, SPIN: configuration.magmoms}
    if configuration.pbc.all() or configuration.cell.any():
        rows[BOX] = configuration.cell
    if configuration.energy is not None:
        rows[ENERGY] = np.array([configuration.energy])
    if configuration.forces is not None:
        rows[FORCE] = configuration.forces
    if configuration.magnetic_forces is not None:
        rows[FORCE_MAG] = configuration.magnetic_forces
    if configuration.stress is not None:
        rows[VIRIAL] = -configuration.stress * abs(np.linalg.det(configuration.cell))
    return {name: np.asarray(value, dtype=float).reshape(-1) for name, value in rows.items()}
