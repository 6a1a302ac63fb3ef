"""What a training must know of all its data at once, without holding them: from a list, or from the index of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import overload

import numpy as np
from ase.data import chemical_symbols

from mmace.train.configuration import Configuration
from mmace.train.shards import ShardedConfigurations


class Joined(Sequence[Configuration]):
    """Several sequences of configurations one after the other, none of them copied."""

    def __init__(self, *parts: Sequence[Configuration]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @overload
    def __getitem__(self, index: int) -> Configuration: ...
    @overload
    def __getitem__(self, index: slice) -> list[Configuration]: ...
    def __getitem__(self, index: int | slice) -> Configuration | list[Configuration]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index if index >= 0 else index + len(self)
        for part in self.parts:
            if 0 <= place < len(part):
                return part[place]
            place -= len(part)
        raise IndexError(index)

    def __iter__(self) -> Iterator[Configuration]:
        return chain.from_iterable(self.parts)


class Mapped(Sequence[Configuration]):
    """Configurations as ``change`` makes them of those in ``base``, one by one when asked for."""

    def __init__(self, base: Sequence[Configuration], change: Callable[[Configuration], Configuration]) -> None:
        self.base, self.change = base, change

    def __len__(self) -> int:
        return len(self.base)

    @overload
    def __getitem__(self, index: int) -> Configuration: ...
    @overload
    def __getitem__(self, index: slice) -> list[Configuration]: ...
    def __getitem__(self, index: int | slice) -> Configuration | list[Configuration]:
        if isinstance(index, slice):
            return [self.change(configuration) for configuration in self.base[index]]
        return self.change(self.base[index])


def largest_moments(configurations: Sequence[Configuration]) -> dict[str, float]:
    """Element → largest |m|, μB; its keys are the elements of the data."""
    if isinstance(configurations, ShardedConfigurations):
        return configurations.largest_moments
    if isinstance(configurations, Mapped):
        return largest_moments(configurations.base)
    largest = np.full(len(chemical_symbols), -1.0)
    if isinstance(configurations, Joined):
        for part in configurations.parts:
            for symbol, length in largest_moments(part).items():
                number = chemical_symbols.index(symbol)
                largest[number] = max(length, largest[number])
    else:
        for configuration in configurations:
            np.maximum.at(largest, configuration.numbers, np.linalg.norm(configuration.magmoms, axis=1))
    return {chemical_symbols[z]: float(largest[z]) for z in np.flatnonzero(largest >= 0)}


def elements_of(configurations: Sequence[Configuration]) -> list[str]:
    """Chemical symbols in the data, by atomic number."""
    return list(largest_moments(configurations))


def has_energies(configurations: Sequence[Configuration]) -> bool:
    """Is the energy of any configuration known?"""
    if isinstance(configurations, ShardedConfigurations):
        return bool(np.isfinite(configurations.energies).any())
    return any(configuration.energy is not None for configuration in configurations)


def has_directions(configurations: Sequence[Configuration]) -> bool:
    """Are energies of directions known for any configuration? Never for shards, which do not keep them."""
    if isinstance(configurations, ShardedConfigurations):
        return False
    return any(configuration.directions is not None for configuration in configurations)


def largest_energy(configurations: Sequence[Configuration]) -> float:
    """Largest |energy| per atom, eV; 0 without energies."""
    if isinstance(configurations, ShardedConfigurations):
        energies = np.abs(configurations.energies / configurations.atoms)
        return float(energies[np.isfinite(energies)].max(initial=0.0))
    return max((abs(c.energy) / len(c) for c in configurations if c.energy is not None), default=0.0)


def is_collinear(configurations: Sequence[Configuration]) -> bool:
    """Are all configurations non-magnetic, or collinear?"""
    if isinstance(configurations, ShardedConfigurations):
        return configurations.branches["non-collinear"] == 0
    if isinstance(configurations, Joined):
        return all(is_collinear(part) for part in configurations.parts)
    return all(configuration.branch != "non-collinear" for configuration in configurations)


def picked(configurations: Sequence[Configuration], indices: Sequence[int] | np.ndarray) -> Sequence[Configuration]:
    """The configurations at ``indices``, in that order; shards stay on disk."""
    if isinstance(configurations, ShardedConfigurations):
        return configurations.subset(indices)
    return [configurations[int(index)] for index in indices]
