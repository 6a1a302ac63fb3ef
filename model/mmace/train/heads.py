"""Heads in training data: which level of theory a configuration belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mmace.config import PotentialConfig
from mmace.errors import UserError, unknown_key_message
from mmace.train.configuration import Configuration

DEFAULT_HEADS = ("default",)


def head_index(configuration: Configuration, heads: Sequence[str]) -> int:
    """Number of the configuration's head; the first where it names none. Raises `UserError` for an unknown head."""
    if configuration.head is None:
        return 0
    if configuration.head not in heads:
        raise UserError(unknown_key_message(configuration.head, heads, f"{configuration.name}: head"))
    return tuple(heads).index(configuration.head)


def heads_of_data(configurations: Iterable[Configuration]) -> tuple[str, ...]:
    """Heads in the order in which they first appear; "default" is the first where a configuration names none."""
    found: dict[str, None] = {}
    unnamed = False
    for configuration in configurations:
        if configuration.head is None:
            unnamed = True
        else:
            found.setdefault(configuration.head)
    names = [name for name in found if name not in DEFAULT_HEADS]
    return (*DEFAULT_HEADS, *names) if unnamed or not names or len(names) < len(found) else tuple(names)


def with_heads_of_data(config: PotentialConfig, configurations: Iterable[Configuration]) -> PotentialConfig:
    """Copy of ``config`` with the heads that the data name, unless it names heads itself."""
    return replace(config, heads=heads_of_data(configurations)) if config.heads == DEFAULT_HEADS else config


def by_head(configurations: Sequence[Configuration], heads: Sequence[str]) -> dict[str, list[Configuration]]:
    """Configurations of each head. Raises `UserError` for an unknown head."""
    parts: dict[str, list[Configuration]] = {head: [] for head in heads}
    for configuration in configurations:
        parts[heads[head_index(configuration, heads)]].append(configuration)
    return parts
