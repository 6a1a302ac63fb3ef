"""Relaxation of moments at fixed geometry: the self-consistent moments of the potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from scipy.optimize import minimize

from mmace.errors import UserError, unknown_key_message
from mmace.graph import Graph, build_graph, vector_moments
from mmace.potential import Potential

MODES = ("full", "collinear", "directions", "magnitudes")


@dataclass
class MomentRelaxation:
    """Where a relaxation ended."""

    magmoms: np.ndarray  # [N,3] μB
    energy: float  # eV
    converged: bool
    evaluations: int
    max_gradient: float  # largest component of the gradient in the free variables, eV/μB (eV for directions)
    message: str


class _Variables:
    """Free variables x of one mode, and moments as a differentiable function of them."""

    def __init__(self, mode: str, start: np.ndarray, free: np.ndarray, axis: np.ndarray, m_max: np.ndarray) -> None:
        self.mode, self.free = mode, torch.from_numpy(free)
        self.start = torch.from_numpy(start)
        lengths = np.linalg.norm(start, axis=1)
        unit = np.where(lengths[:, None] > 1e-12, start / np.maximum(lengths, 1e-12)[:, None], axis)
        limit = m_max[free]
        if mode == "collinear":
            self.unit = torch.from_numpy(np.broadcast_to(axis, start.shape).copy())
            self.initial, self.low, self.high = (start @ axis)[free], -limit, limit
        elif mode == "magnitudes":
            self.unit = torch.from_numpy(unit)
            self.initial, self.low, self.high = lengths[free], np.zeros_like(limit), limit
        elif mode == "directions":
            self.lengths = torch.from_numpy(lengths)
            self.initial = unit[free].reshape(-1)
            self.low, self.high = np.full(self.initial.shape, -np.inf), np.full(self.initial.shape, np.inf)
        else:
            self.initial = start[free].reshape(-1)
            self.low, self.high = -np.repeat(limit, 3), np.repeat(limit, 3)

    def moments(self, x: torch.Tensor) -> torch.Tensor:
        """x → [N,3] μB, frozen sites as they started."""
        rows = torch.nonzero(self.free).squeeze(1)
        if self.mode in ("collinear", "magnitudes"):
            moved = x.unsqueeze(1) * self.unit[rows]
        else:
            moved = x.reshape(-1, 3)
            if self.mode == "directions":
                moved = moved / torch.sqrt((moved * moved).sum(1, keepdim=True)) * self.lengths[rows].unsqueeze(1)
        return self.start.index_copy(0, rows, moved)


def relax_moments(
    model: Potential,
    structures: Atoms | Sequence[Atoms],
    mode: str = "full",
    axis: Sequence[float] = (0.0, 0.0, 1.0),
    frozen: Sequence[int] = (),
    gradient_tolerance: float = 1e-3,
    max_evaluations: int = 300,
    trust_radius: float = 0.5,
) -> list[MomentRelaxation]:
    """Minimise the energy over the moments, starting from each structure's initial magnetic moments.

    ``mode``: ``full`` vectors; ``collinear`` signed lengths along ``axis``; ``directions`` at fixed lengths;
    ``magnitudes`` at fixed directions. ``frozen``: indices of sites that keep their moments. Steps stay inside the
    trust radius (μB) and inside m_max of each element. ``gradient_tolerance`` in eV/μB.

    Symmetry is kept: exactly zero moments (non-magnetic) have exactly zero magnetic forces and stay.
    Raises UserError for an unknown mode or a model without moments.
    """
    if mode not in MODES:
        raise UserError(unknown_key_message(mode, MODES, "relax_moments: mode"))
    if not model.config.rules.magnetic:
        raise UserError("relax_moments: this model has no moments (symmetry = none)")
    direction = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    batch = [structures] if isinstance(structures, Atoms) else list(structures)
    out = []
    for atoms in batch:
        graph = build_graph(atoms, model.config.elements, model.config.r_max, dtype=model.config.torch_dtype)
        start = vector_moments(atoms)
        free = np.ones(len(atoms), dtype=bool)
        free[list(frozen)] = False
        m_max = np.array([model.config.m_max_of(symbol) for symbol in atoms.get_chemical_symbols()])
        variables = _Variables(mode, start, free, direction, m_max)
        out.append(_relax_one(model, graph, variables, gradient_tolerance, max_evaluations, trust_radius))
    return out


def _relax_one(
    model: Potential, graph: Graph, variables: _Variables, tolerance: float, max_evaluations: int, trust: float
) -> MomentRelaxation:
    evaluations = 0

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal evaluations
        evaluations += 1
        x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        moments = variables.moments(x).to(graph.positions)
        energy = model.node_energies(graph.with_magmoms(moments)).sum()
        (gradient,) = torch.autograd.grad(energy, x)
        return float(energy.detach()), gradient.numpy().astype(float)

    x = np.clip(variables.initial, variables.low, variables.high)
    value, gradient = objective(x)
    message = "converged"
    largest = 0.0
    while True:
        # What counts is the gradient that bounds do not hold back.
        held = ((x <= variables.low) & (gradient > 0)) | ((x >= variables.high) & (gradient < 0))
        largest = float(np.abs(np.where(held, 0.0, gradient)).max(initial=0.0))
        if largest <= tolerance:
            break
        if evaluations >= max_evaluations:
            message = f"not converged after {evaluations} evaluations: gradient {largest:.2e} > {tolerance:.2e}"
            break
        box = list(zip(np.maximum(variables.low, x - trust), np.minimum(variables.high, x + trust), strict=True))
        step = minimize(
            objective,
            x,
            jac=True,
            method="L-BFGS-B",
            bounds=box,
            options={"gtol": tolerance / 2, "ftol": 0.0, "maxfun": max_evaluations - evaluations + 1},
        )
        if not np.isfinite(step.fun) or (step.fun > value - 1e-14 and np.allclose(step.x, x, atol=1e-12)):
            message = f"stalled: gradient {largest:.2e} > {tolerance:.2e} but no step lowers the energy"
            break
        x = step.x
        value, gradient = objective(x)
    moments = variables.moments(torch.from_numpy(x)).numpy()
    return MomentRelaxation(moments, value, largest <= tolerance, evaluations, largest, message)
