"""What every format of labelled structures has in common: how it is asked, what it gives, what it notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from ase.data import atomic_numbers

from mmace.errors import UserError
from mmace.fields import FIELDS, MAGMOMS
from mmace.train.configuration import Configuration, complete_keys

ReadProgress = Callable[[int, int], None]  # bytes read so far, bytes in all
Problem = Callable[[UserError], None]


@dataclass(frozen=True)
class ReadOptions:
    """How files are to be read. Raises `UserError` for unknown fields and elements."""

    keys: dict[str, str] = field(default_factory=dict)
    """Field name → what the file calls it, where that is not the format's own name."""
    elements: tuple[str, ...] = ()
    """Chemical symbols of type 0, 1, … in formats that number their types."""
    format: str | None = None
    """Name of the format; None: recognised from the name or the content of the file."""
    zero_moments: bool = False
    """Take configurations without moments as non-magnetic instead of refusing them."""

    def __post_init__(self) -> None:
        complete_keys(self.keys)
        for symbol in self.elements:
            if atomic_numbers.get(symbol, 0) == 0:
                raise UserError(f"elements: '{symbol}' is no element; give symbols such as Fe,Al")

    def numbers_of_types(self) -> list[int]:
        """Atomic numbers of type 0, 1, …"""
        return [atomic_numbers[symbol] for symbol in self.elements]


@dataclass
class Notes:
    """What was seen in passing while a file was read, to be said once at the end."""

    collinear: int = 0  # configurations whose moments are one column
    collinear_key: str = MAGMOMS.key  # what the file calls them
    without_moments: int = 0  # configurations taken as non-magnetic
    elsewhere: dict[str, str] = field(default_factory=dict)  # field never found → name in the file that may hold it
    keys_ignored: bool = False  # keys were given but the format has none
    read: int = 0  # configurations

    def lines(self, path: Path | str) -> list[str]:
        """The notes in words, each one line that begins with ``path``."""
        said = []
        if self.collinear:
            said.append(
                f"{path}: '{self.collinear_key}' has one column in {self.collinear} of {self.read} configurations; "
                f"taken as collinear along z"
            )
        if self.without_moments:
            said.append(
                f"{path}: {self.without_moments} of {self.read} configurations have no moments; taken as non-magnetic"
            )
        for name, other in self.elsewhere.items():
            said.append(
                f"{path}: no {name} under '{FIELDS[name].key}', but the file has '{other}': if that is meant, "
                f"read it with the key {name}={other}"
            )
        if self.keys_ignored:
            said.append(f"{path}: keys are for extxyz and matpes_json files; this format has names of its own")
        return said


@dataclass(frozen=True)
class Block:
    """One configuration as it stands in a file, not yet understood."""

    where: str  # file, number and line; stands in every message
    build: Callable[[], Configuration]  # raises UserError that begins with ``where``


class Writer(Protocol):
    """A file that is being written; nothing is at its place before `close`."""

    def add(self, configuration: Configuration) -> None:
        """Appends a configuration. Raises `UserError` for one that the format cannot hold."""

    def close(self) -> None:
        """Puts the finished file in its place."""

    def abandon(self) -> None:
        """Removes what was written."""


class Format(Protocol):
    """A file format of labelled structures; one module per format has these."""

    NAME: str
    SUFFIXES: tuple[str, ...]  # of file names, without .gz
    DESCRIPTION: str
    NAMED_KEYS: bool  # fields may have other keys

    @staticmethod
    def blocks(path: Path, options: ReadOptions, notes: Notes, progress: ReadProgress | None) -> Iterator[Block]:
        """Every configuration of ``path``, one at a time. Raises `UserError` where the file cannot be divided."""


def non_magnetic(count: int, message: str, options: ReadOptions, notes: Notes) -> np.ndarray:
    """[N,3] zeros for a configuration without moments, where the options allow it; `UserError` where not."""
    if not options.zero_moments:
        raise UserError(message)
    notes.without_moments += 1
    return np.zeros((count, 3))
