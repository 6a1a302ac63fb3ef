"""The words of a question: elements, formulas, space groups, names. Each is checked against what there is.

Functions here raise ValueError with a message for people; pydantic adds the name of the field.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

LONGEST_WORD = 80
CAMPAIGN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")  # as mmace_flows.execution.campaign.check_name
FORMULA = re.compile(r"(?:[A-Z][a-z]?[0-9]{0,4}){1,20}", re.ASCII)


def listed(value: Any) -> list[str]:
    """``"Fe,Pt"``, ``["Fe", "Pt"]`` or ``["Fe,Pt"]`` as a list of words without spaces around them, each once."""
    if value is None:
        return []
    parts = value if isinstance(value, list | tuple | set) else [value]
    words: list[str] = []
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(f"{short(part)} is no word; give words with commas between")
        words += [word.strip() for word in part.split(",")]
    return list(dict.fromkeys(word for word in words if word))


def short(value: Any) -> str:
    """A wrong value, cut to a length that fits into a line."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def nearest(value: Any, allowed: Iterable[str], what: str) -> str:
    """``value`` in the spelling of the list, capitals aside. Raises ValueError that names the nearest right one."""
    allowed = list(allowed)
    word = value if isinstance(value, str) and len(value) <= LONGEST_WORD else ""
    for right in allowed:
        if word.lower() == right.lower():
            return right
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(allowed)}"
    raise ValueError(f"{short(value)} is no {what}; {hint}")


def element(value: Any) -> str:
    """A chemical symbol, in its right spelling."""
    symbols = _symbols()
    if isinstance(value, str) and value.capitalize() in symbols:
        return value.capitalize()
    raise ValueError(f"{short(value)} is no chemical element; give symbols like Fe,Pt")


def chemical_formula(value: Any) -> str:
    """A formula, reduced and ordered as pymatgen writes it, which is how rows are stored."""
    from pymatgen.core import Composition

    problem = ValueError(f"{short(value)} is no chemical formula; give one like FePt or Fe3Sn2")
    if not isinstance(value, str) or not FORMULA.fullmatch(value):
        raise problem
    counts = re.findall(r"([A-Z][a-z]?)(\d*)", value)
    if any(symbol not in _symbols() or number.startswith("0") for symbol, number in counts):
        raise problem
    return str(Composition(value).reduced_formula)


def campaign_name(value: Any) -> str:
    """A name that a campaign can have."""
    if isinstance(value, str) and CAMPAIGN.fullmatch(value):
        return value
    raise ValueError(f"{short(value)} is no name of a campaign; names have letters, digits, '-', '_' and '.'")


def space_group_number(value: Any) -> int | None:
    """The number of a space group given as number or Hermann–Mauguin symbol (spaces do not count)."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 3:
        number = int(value)
    else:
        found = _space_groups().get(_plain(value)) if isinstance(value, str) and len(value) <= LONGEST_WORD else None
        if found is None:
            raise ValueError(f"{short(value)} is no space group; give a number from 1 to 230 or a symbol like P4/mmm")
        number = found
    if not 1 <= number <= 230:
        raise ValueError(f"there is no space group {number}; give a number from 1 to 230 or a symbol like P4/mmm")
    return number


def _plain(symbol: str) -> str:
    return symbol.replace(" ", "").replace("_", "").lower()


@lru_cache(maxsize=1)
def _symbols() -> frozenset[str]:
    from ase.data import chemical_symbols

    return frozenset(chemical_symbols[1:])


@lru_cache(maxsize=1)
def _space_groups() -> dict[str, int]:
    """Symbols without spaces, in small letters → number; of all settings that spglib knows."""
    found: dict[str, int] = {}
    for number, names in _settings():
        for name in names:
            found.setdefault(_plain(name), number)
    return found


@lru_cache(maxsize=1)
def space_group_symbols() -> dict[int, str]:
    """Number → short Hermann–Mauguin symbol of the standard setting."""
    found: dict[int, str] = {}
    for number, names in _settings():
        found.setdefault(number, names[0])
    return found


def _settings() -> Iterator[tuple[int, list[str]]]:
    """(number, symbols with the short one first) of the 530 settings of the space groups."""
    import spglib

    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        if kind is not None:
            yield kind.number, [kind.international_short, *kind.international_full.split("=")]
