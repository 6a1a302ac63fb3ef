"""One potential out of two: exchange, to which rotations of all moments mean nothing, and anisotropy beside it."""

from __future__ import annotations

import dataclasses
from typing import Any

from mmace.config import PotentialConfig
from mmace.errors import UserError
from mmace.potential import Layer, Potential


def with_anisotropy(model: Potential, part: PotentialConfig | dict[str, Any]) -> Potential:
    """A copy of ``model`` with a new anisotropy part of settings ``part``, which is silent until it is trained.

    Elements, cutoff, m_max, heads and floating-point type are the model's. Raises `UserError` for a model that has
    such a part already or has no moments, and for settings that make no sense.
    """
    if model.anisotropy is not None:
        raise UserError("anisotropy: the model has an anisotropy part already; train that one further")
    made = Potential(dataclasses.replace(model.config, anisotropy=part))  # type: ignore[arg-type]
    made.load_state_dict(model.state_dict() | _prefixed(made))
    assert made.anisotropy is not None
    made.anisotropy.set_energy_scale(0.0)
    first = model.layers[0]
    assert isinstance(first, Layer)
    made.anisotropy.set_average_neighbors(float(first.message.average_neighbors))
    return made.to(next(model.parameters()).device).train(model.training)


def _prefixed(model: Potential) -> dict[str, Any]:
    """The state of the anisotropy part under the names that it has in the whole."""
    return {name: value for name, value in model.state_dict().items() if name.startswith("anisotropy.")}
