"""How good a model is: errors per magnetic branch and parity data, as documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mmace_flows.schemas.document import Document
from mmace_flows.schemas.loop import BranchErrors

if TYPE_CHECKING:
    from mmace import Potential
    from mmace.train import Configuration


class ParityData(Document):
    """DFT's and the model's numbers for one set of configurations, flattened."""

    energy_dft: list[float] = Field(default_factory=list, description="eV per atom")
    energy_model: list[float] = Field(default_factory=list, description="eV per atom")
    forces_dft: list[float] = Field(default_factory=list, description="components, eV/Å")
    forces_model: list[float] = Field(default_factory=list, description="components, eV/Å")
    stress_dft: list[float] = Field(default_factory=list, description="components, eV/Å³")
    stress_model: list[float] = Field(default_factory=list, description="components, eV/Å³")
    moments_dft: list[float] = Field(default_factory=list, description="components along the axis of the structure, μB")
    moments_model: list[float] = Field(default_factory=list, description="the same after the model relaxed them, μB")
    moments_unconverged: int = Field(default=0, description="structures whose moments did not relax, left out")


def branch_errors(model: Potential, configurations: Sequence[Configuration]) -> dict[str, BranchErrors]:
    """Errors of ``model`` per branch that occurs (NM, FM, AFM, non-collinear) and for "all"; {} for nothing."""
    from mmace.train import evaluate_configurations

    if not configurations:
        return {}
    found = evaluate_configurations(model, list(configurations))
    return {branch: BranchErrors(**errors) for branch, errors in found.items() if errors["count"] > 0}


def parity_data(model: Potential, configurations: Sequence[Configuration], relax: bool = True) -> ParityData:
    """DFT against model for ``configurations``; ``relax`` also relaxes the model's moments, starting from DFT's."""
    from mmace.train import parity

    data = ParityData()
    if not configurations:
        return data
    points = parity(model, list(configurations))
    for name in ("energy", "forces", "stress"):
        setattr(data, f"{name}_dft", np.asarray(points[name]["label"], dtype=float).tolist())
        setattr(data, f"{name}_model", np.asarray(points[name]["prediction"], dtype=float).tolist())
    if relax:
        _add_moments(data, model, configurations)
    return data


def _add_moments(data: ParityData, model: Potential, configurations: Sequence[Configuration]) -> None:
    """Fill in the moments: DFT's and the model's, along the axis of DFT's moments."""
    from mmace.spins.relax import relax_moments

    magnetic = [configuration for configuration in configurations if configuration.branch != "NM"]
    if not magnetic:
        return
    results = relax_moments(model, [configuration.to_atoms() for configuration in magnetic], mode="collinear")
    for configuration, result in zip(magnetic, results, strict=True):
        if not result.converged:
            data.moments_unconverged += 1
            continue
        axis = np.linalg.eigh(configuration.magmoms.T @ configuration.magmoms)[1][:, -1]
        data.moments_dft.extend((configuration.magmoms @ axis).tolist())
        data.moments_model.extend((np.asarray(result.magmoms, dtype=float).reshape(-1, 3) @ axis).tolist())
