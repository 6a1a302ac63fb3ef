"""Configurations from files of every known format, and what a model demands of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mmace.errors import UserError
from mmace.fields import ENERGY
from mmace.train.configuration import Configuration, complete_keys

logger = logging.getLogger("mmace")


def read_configurations(
    path: str | Path,
    keys: dict[str, str] | None = None,
    *,
    format: str | None = None,
    elements: Sequence[str] = (),
    zero_moments: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Configuration]:
    """All configurations of a file of labelled structures.

    Parameters: ``path`` the file, or the folder in DeePMD's format; ``keys`` field name → key where the file's keys are
    not those of `mmace.fields`; ``format`` one of `mmace.data.FORMATS`, None: recognised; ``elements`` of type 0, 1, …
    in formats that number their types; ``zero_moments`` takes configurations without moments as non-magnetic;
    ``progress(done, all)`` in bytes.
    Moments are vectors [N,3] or one column, which is taken as collinear along z (and said once). Stress has 9 or, in
    Voigt order xx yy zz yz xz xy, 6 numbers.
    Raises `UserError`, one line with file, configuration, line number, field and mend, for: missing or empty file, not
    of the format, no moments, wrong shapes, NaN or infinity, numbers beyond the limits of `mmace.train.sanity`, no
    energy in any configuration.
    """
    from mmace.data.registry import iterate, log_notes
    from mmace.data.source import Notes, ReadOptions

    path, notes = Path(path), Notes()
    options = ReadOptions(dict(keys or {}), tuple(elements), format, zero_moments)
    configurations = list(iterate(path, options, notes=notes, progress=progress))
    if all(c.energy is None for c in configurations):
        other, name = notes.elsewhere.get(ENERGY.name), complete_keys(keys)[ENERGY.name]
        mend = (
            f"the file has '{other}': read it with the key energy={other}"
            if other
            else f"add {name}=… (eV) to the comment lines, or say the file's name for it with the key energy=NAME"
        )
        raise UserError(f"{path}: no energy under '{name}' in any configuration; {mend}")
    log_notes(notes, path)
    return configurations


def check_elements(configurations: Iterable[Configuration], elements: Iterable[str]) -> None:
    """Raises `UserError` naming the first element of ``configurations`` that is not in ``elements``."""
    known = set(elements)
    there = getattr(configurations, "largest_moments", None)  # shards know their elements without being read
    if there is not None and known.issuperset(there):
        return
    for configuration in configurations:
        for number in np.unique(configuration.numbers):
            symbol = chemical_symbols[number]
            if symbol not in known:
                raise UserError(
                    f"{configuration.name}: element {symbol} is not known to the model "
                    f"(it knows {', '.join(sorted(known))}); train a model with {symbol} or remove the configuration"
                )


def check_moments(configurations: Sequence[Configuration], m_max: dict[str, float]) -> None:
    """Warns, once per element, of moments beyond the model's range.

    Parameters: ``m_max`` element → largest moment the model is made for, μB.
    """
    from mmace.train.gathered import largest_moments

    for symbol, length in sorted(largest_moments(configurations).items()):
        if length <= m_max.get(symbol, np.inf):
            continue
        logger.warning(
            "moments of %s reach %.2f μB in the data but the model is made for at most %.2f μB; "
            "train a new model with a larger m_max to describe them",
            symbol,
            length,
            m_max[symbol],
        )
