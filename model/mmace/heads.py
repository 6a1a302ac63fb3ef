"""Heads of a potential, one per level of theory: one of them taken out, others put in."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from mmace.config import PotentialConfig
from mmace.errors import UserError, unknown_key_message
from mmace.potential import Potential


def head_number(config: PotentialConfig, head: str | None, where: str = "potential") -> int:
    """Number of ``head`` among the heads of ``config``, 0 for None. Raises `UserError` for an unknown one."""
    if head is None:
        return 0
    if head not in config.heads:
        message = unknown_key_message(head, config.heads, where)
        raise UserError(message.replace("unknown setting", "unknown head", 1))
    return config.heads.index(head)


def single_head(model: Potential, head: str | None) -> Potential:
    """A potential with ``head`` alone (None: the first): the same numbers, for whoever knows nothing of heads.

    A model of one head is returned as it is. Raises `UserError` for an unknown head.
    """
    number = head_number(model.config, head)
    if len(model.config.heads) == 1:
        return model
    return _with_columns(model, (model.config.heads[number],), [number])


def with_heads(model: Potential, heads: Sequence[str], like: str | None = None) -> Potential:
    """Copy of the potential with ``heads`` added where they are missing.

    A new head starts with the weights and E0 of the head ``like`` (None: the first). Raises `UserError` if that is
    unknown.
    """
    start = head_number(model.config, like)
    added = [head for head in dict.fromkeys(heads) if head not in model.config.heads]
    if not added:
        return copy.deepcopy(model)
    return _with_columns(model, (*model.config.heads, *added), [*range(len(model.config.heads)), *[start] * len(added)])


def _with_columns(model: Potential, heads: tuple[str, ...], columns: list[int]) -> Potential:
    """A potential with another number of ``heads``; head n has what head columns[n] of ``model`` has.

    Which axes belong to heads is told by their sizes: the two potentials differ in nothing else.
    """
    made = Potential(replace(model.config, heads=heads))
    state = model.state_dict()
    for name, wanted in made.state_dict().items():
        value = state[name]
        for axis, size in enumerate(wanted.shape):
            if size != value.shape[axis]:
                value = value.index_select(axis, torch.tensor(columns, device=value.device))
        state[name] = value
    made.load_state_dict(state)
    return made.to(next(model.parameters()).device).train(model.training)
