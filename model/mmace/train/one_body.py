"""One-body magnetic energies in a training: set from its settings, and kept out of the fit of E0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mmace.errors import UserError
from mmace.graph import species_index
from mmace.one_body_file import curve_from_dict
from mmace.potential import Potential
from mmace.train.configuration import Configuration
from mmace.train.gathered import Mapped
from mmace.train.shards import ShardedConfigurations


def set_one_body(model: Potential, curves: dict[str, Any]) -> None:
    """Sets E0_mag of ``model`` from `TrainingConfig.one_body`: element → {width, coefficients}. Elements that the model
    does not know are left aside, so that one file may serve many models.

    Raises UserError for a model without moments, and if no element is the model's.
    """
    known = {
        element: curve_from_dict(curve, f"training: one_body: {element}")
        for element, curve in curves.items()
        if element in model.config.elements
    }
    if not known:
        raise UserError(
            f"training: one_body has curves of {', '.join(curves) or 'no element'}, the model knows "
            f"{', '.join(model.config.elements)}; fit the missing ones with `mmace fit-one-body`"
        )
    model.set_one_body(known)


def without_one_body(model: Potential, configurations: Sequence[Configuration]) -> Sequence[Configuration]:
    """The configurations with Σ E0_mag(|m|) taken from their energies: what is left for E0 to fit."""
    if model.one_body is None or not bool(model.one_body.coefficients.any()):
        return configurations
    one_body = model.one_body

    def reduced(configuration: Configuration) -> Configuration:
        if configuration.energy is None:
            return configuration
        moments = torch.tensor(configuration.magmoms, dtype=model.config.torch_dtype)
        species = torch.from_numpy(species_index(configuration.numbers, model.config.elements))
        energies = one_body((moments * moments).sum(-1).to(one_body.width), species)
        return replace(configuration, energy=configuration.energy - float(energies.double().sum()))

    if isinstance(configurations, ShardedConfigurations):
        return Mapped(configurations, reduced)
    return [reduced(configuration) for configuration in configurations if configuration.energy is not None]
