"""Plain mace-torch as both comparisons build it: the blocks of its foundation models. For mace-torch's environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from e3nn import o3
from mace import modules


def scale_shift_mace(
    sizes: dict[str, Any], numbers: list[int], atomic_energies: list[float], average_neighbors: float, scale: float
) -> torch.nn.Module:
    """A model with random weights. ``sizes`` name r_max (Å), num_layers and hidden as `PotentialConfig` does; energies
    and scale in eV."""
    return modules.ScaleShiftMACE(
        r_max=sizes["r_max"],
        num_bessel=10,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticDensityResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticDensityInteractionBlock"],
        num_interactions=sizes["num_layers"],
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(sizes["hidden"]),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.array(atomic_energies),
        avg_num_neighbors=average_neighbors,
        atomic_numbers=numbers,
        correlation=3,
        radial_MLP=[64, 64, 64],
        atomic_inter_scale=scale,
        atomic_inter_shift=0.0,
    )
