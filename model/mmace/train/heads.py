"""Heads in training data: which level of theory a configuration belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    for head in _named(configurations):
        if head is None:
            unnamed = True
        else:
            found.setdefault(head)
    names = [name for name in found if name not in DEFAULT_HEADS]
    return (*DEFAULT_HEADS, *names) if unnamed or not names or len(names) < len(found) else tuple(names)


def with_heads_of_data(config: PotentialConfig, configurations: Iterable[Configuration]) -> PotentialConfig:
    """Copy of ``config`` with the heads that the data name, unless it names heads itself."""
    return replace(config, heads=heads_of_data(configurations)) if config.heads == DEFAULT_HEADS else config


def _named(configurations: Iterable[Configuration]) -> Iterator[str | None]:
    """The head that each configuration names; shards and what is joined of them tell each once."""
    from mmace.train.gathered import Joined
    from mmace.train.shards import ShardedConfigurations

    if isinstance(configurations, Joined):
        for part in configurations.parts:
            yield from _named(part)
    elif isinstance(configurations, ShardedConfigurations):
        yield from configurations.heads
    else:
        yield from (configuration.head for configuration in configurations)


def by_head(configurations: Sequence[Configuration], heads: Sequence[str]) -> dict[str, Sequence[Configuration]]:
    """Configurations of each head; shards stay on disk. Raises `UserError` for an unknown head."""
    from mmace.train.gathered import Mapped
    from mmace.train.shards import ShardedConfigurations

    if isinstance(configurations, Mapped):
        return {h: Mapped(part, configurations.change) for h, part in by_head(configurations.base, heads).items()}
    if isinstance(configurations, ShardedConfigurations):
        named: dict[str, list[str | None]] = {head: [] for head in heads}
        for name in configurations.heads:
            index = head_index(configurations.of_heads([name])[0], heads)
            named[heads[index]].append(name)
        return {head: configurations.of_heads(names) for head, names in named.items()}
    parts: dict[str, list[Configuration]] = {head: [] for head in heads}
    for configuration in configurations:
        parts[heads[head_index(configuration, heads)]].append(configuration)
    return dict(parts)
