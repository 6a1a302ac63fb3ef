"""Configurations from extended-XYZ files, with refusals that say where and how to mend."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from mmace.errors import UserError
from mmace.fields import ENERGY, MAGMOMS
from mmace.train.configuration import Configuration, complete_keys
from mmace.train.sanity import check_sanity

logger = logging.getLogger("mmace")

# What other programs call the quantity; only used to name the likely mend, never read unasked.
OTHER_NAMES = {
    MAGMOMS.name: ("magmoms", "magmom", "initial_magmoms", "magnetic_moments", "spin", "DFT_magmom"),
    ENERGY.name: ("energy", "free_energy", "total_energy", "DFT_energy", "dft_energy"),
}


def read_configurations(path: str | Path, keys: dict[str, str] | None = None) -> list[Configuration]:
    """All configurations of an extended-XYZ file.

    Parameters: ``path`` the file; ``keys`` field name → key where the file's keys are not those of `mmace.fields`.
    Moments are vectors [N,3] or one column, which is taken as collinear along z (and said once). Stress has 9 or, in
    Voigt order xx yy zz yz xz xy, 6 numbers.
    Raises `UserError`, one line with file, configuration, line number, field and mend, for: missing or empty file, not
    extended XYZ, no moments, wrong shapes, NaN or infinity, numbers beyond the limits of `mmace.train.sanity`, no
    energy in any configuration.
    """
    path = Path(path)
    keys = complete_keys(keys)
    configurations: list[Configuration] = []
    collinear = 0
    for index, line, atoms in _frames(path):
        where = f"{path}: configuration {index} (line {line})"
        _require_moments(atoms, keys[MAGMOMS.name], where)
        moments = atoms.arrays.get(keys[MAGMOMS.name])
        if moments is None and atoms.calc is not None:
            moments = atoms.calc.results.get(keys[MAGMOMS.name])
        collinear += moments is not None and np.ndim(moments) == 1
        configuration = Configuration.from_atoms(atoms, keys, name=where)
        check_sanity(configuration)
        configurations.append(configuration)
    if not configurations:
        raise UserError(f"{path}: no configurations in the file; give an extended-XYZ file with at least one")
    if all(c.energy is None for c in configurations):
        raise UserError(_no_energy_message(path, keys))
    if collinear:
        logger.warning(
            "%s: '%s' has one column in %d of %d configurations; taken as collinear along z",
            path,
            keys[MAGMOMS.name],
            collinear,
            len(configurations),
        )
    return configurations


def check_elements(configurations: Iterable[Configuration], elements: Iterable[str]) -> None:
    """Raises `UserError` naming the first element of ``configurations`` that is not in ``elements``."""
    known = set(elements)
    for configuration in configurations:
        for number in np.unique(configuration.numbers):
            symbol = chemical_symbols[number]
            if symbol not in known:
                raise UserError(
                    f"{configuration.name}: element {symbol} is not known to the model "
                    f"(it knows {', '.join(sorted(known))}); train a model with {symbol} or remove the configuration"
                )


def check_moments(configurations: Iterable[Configuration], m_max: dict[str, float]) -> None:
    """Warns, once per element, of moments beyond the model's range.

    Parameters: ``m_max`` element → largest moment the model is made for, μB.
    """
    beyond: dict[str, float] = {}
    for configuration in configurations:
        for number, length in zip(configuration.numbers, np.linalg.norm(configuration.magmoms, axis=1), strict=True):
            symbol = chemical_symbols[number]
            if length > m_max.get(symbol, np.inf):
                beyond[symbol] = max(length, beyond.get(symbol, 0.0))
    for symbol, length in sorted(beyond.items()):
        logger.warning(
            "moments of %s reach %.2f μB in the data but the model is made for at most %.2f μB; "
            "train a new model with a larger m_max to describe them",
            symbol,
            length,
            m_max[symbol],
        )


def _frames(path: Path) -> Iterator[tuple[int, int, Atoms]]:
    """(index from 0, number of its first line from 1, atoms) of each frame."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of an extended-XYZ file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the path of an extended-XYZ file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; give an extended-XYZ file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a readable extended-XYZ file") from None
    while lines and not lines[-1].strip():
        lines.pop()
    start = index = 0
    while start < len(lines):
        where = f"{path}: configuration {index} (line {start + 1})"
        count = lines[start].strip()
        if not count.isdigit() or int(count) == 0:
            raise UserError(
                f"{where}: not extended XYZ: expected the number of atoms, found '{count[:40]}'; correct this line"
            )
        stop = start + 2 + int(count)
        if stop > len(lines):
            raise UserError(
                f"{where}: the file ends after {max(len(lines) - start - 2, 0)} of {count} atoms; complete the file"
            )
        if "Properties=" not in lines[start + 1]:
            raise UserError(
                f"{path}: configuration {index} (line {start + 2}): not extended XYZ: no 'Properties=' in the comment "
                f"line; write the file with ASE's format 'extxyz'"
            )
        text = "\n".join(lines[start:stop]) + "\n"
        try:
            atoms = ase.io.read(io.StringIO(text), index=0, format="extxyz")
        except Exception as error:  # ASE raises many kinds (ValueError, KeyError, XYZError, AttributeError, …)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{where}: not valid extended XYZ ({reason}); correct this configuration") from None
        assert isinstance(atoms, Atoms)
        yield index, start + 1, atoms
        start, index = stop, index + 1


def _require_moments(atoms: Atoms, key: str, where: str) -> None:
    results = atoms.calc.results if atoms.calc is not None else {}
    if key in atoms.arrays or key in results:
        return
    there = [name for name in OTHER_NAMES[MAGMOMS.name] if name in atoms.arrays or name in results]
    mend = (
        f"the file has '{there[0]}': read it with the key magmoms={there[0]}"
        if there
        else f"add {MAGMOMS.key}:R:3 to Properties (μB), zeros for a non-magnetic structure"
    )
    raise UserError(f"{where}: no moments under '{key}'; {mend}")


def _no_energy_message(path: Path, keys: dict[str, str]) -> str:
    _, _, atoms = next(_frames(path))
    there = {*atoms.info, *(atoms.calc.results if atoms.calc is not None else {})}
    other = [name for name in OTHER_NAMES[ENERGY.name] if name in there]
    mend = (
        f"the file has '{other[0]}': read it with the key energy={other[0]}"
        if other
        else f"add {ENERGY.key}=… (eV) to the comment lines"
    )
    return f"{path}: no energy under '{keys[ENERGY.name]}' in any configuration; {mend}"
