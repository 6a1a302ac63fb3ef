"""Relaxation of moments at fixed geometry: the self-consistent moments of the potential."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from mmace.errors import UserError, unknown_key_message
from mmace.graph import Graph, build_graph, collate, vector_moments
from mmace.potential import Potential
from mmace.spins.minimise import Problem, minimise

MODES = ("full", "collinear", "directions", "magnitudes")
LEAST_LENGTH = 1e-12  # μB; below it a moment has no direction


@dataclass
class MomentRelaxation:
    """Where the relaxation of one structure ended."""

    magmoms: np.ndarray  # [N,3] μB
    energy: float  # eV
    converged: bool
    evaluations: int
    max_gradient: float  # largest component of the gradient in the free variables, eV/μB (eV for directions)
    message: str


def relax_moments(
    model: Potential,
    structures: Atoms | Graph | Sequence[Atoms],
    mode: str = "full",
    axis: Sequence[float] = (0.0, 0.0, 1.0),
    frozen: Sequence[int] = (),
    gradient_tolerance: float = 1e-3,
    max_evaluations: int = 300,
    trust_radius: float = 0.5,
    batch_atoms: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> list[MomentRelaxation]:
    """Minimise the energy over the moments, starting from each structure's initial magnetic moments or from a graph's.

    ``mode``: ``full`` vectors; ``collinear`` signed lengths along ``axis``; ``directions`` at fixed lengths;
    ``magnitudes`` at fixed directions. ``frozen``: indices of sites that keep their moments, in every structure. Steps
    stay inside the trust radius (μB; a relative turn for directions) and inside m_max of each element; a relaxation
    that ends at m_max or beyond has not converged.
    ``gradient_tolerance`` in eV/μB. Structures are evaluated together, up to ``batch_atoms`` atoms at a time;
    ``progress(done, all)`` is called after each batch.

    Symmetry is kept: exactly zero moments (non-magnetic) have exactly zero magnetic forces and stay.
    Raises UserError for an unknown mode or a model without moments.
    """
    if mode not in MODES:
        raise UserError(unknown_key_message(mode, MODES, "relax_moments: mode"))
    if not model.config.rules.magnetic:
        raise UserError("relax_moments: this model has no moments (symmetry = none)")
    direction = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    queue: Sequence[Atoms | Graph]
    if isinstance(structures, Graph):
        queue = _single_graphs(structures)
    else:
        queue = [structures] if isinstance(structures, Atoms) else list(structures)
    out: list[MomentRelaxation] = []
    while len(out) < len(queue):
        batch: list[Graph] = []
        for structure in queue[len(out) :]:
            size = len(structure.species) if isinstance(structure, Graph) else len(structure)
            if batch and sum(len(graph.species) for graph in batch) + size > batch_atoms:
                break
            batch.append(structure if isinstance(structure, Graph) else _graph(model, structure))
        variables = _Variables(model, batch, mode, direction, frozen)
        result = minimise(variables.problem(), gradient_tolerance, max_evaluations, trust_radius)
        moments = variables.moments(torch.from_numpy(result.x)).detach().numpy()
        beyond = variables.beyond_range(moments)
        ends = np.cumsum([len(graph.species) for graph in batch])
        for number, (graph, end) in enumerate(zip(batch, ends, strict=True)):
            atoms = slice(end - len(graph.species), end)
            message = result.messages[number]
            if beyond[atoms].any():
                grown = sorted({model.config.elements[kind] for kind in graph.species[beyond[atoms]].tolist()})
                limits = ", ".join(f"{element} {model.config.m_max_of(element):g} μB" for element in grown)
                message = f"no minimum within the moments that the model is made for (m_max of {limits})"
            out.append(
                MomentRelaxation(
                    moments[atoms],
                    float(result.values[number]),
                    bool(result.converged[number]) and not beyond[atoms].any(),
                    int(result.evaluations[number]),
                    float(result.gradients[number]),
                    message,
                )
            )
        if progress is not None:
            progress(len(out), len(queue))
    return out


def _graph(model: Potential, atoms: Atoms) -> Graph:
    """Graph of one structure on the model's device; moments stay in double precision, on the CPU."""
    config = model.config
    graph = build_graph(atoms, config.elements, config.r_max, dtype=config.torch_dtype)
    return graph.to(device=next(model.parameters()).device).with_magmoms(torch.from_numpy(vector_moments(atoms)))


def _single_graphs(graph: Graph) -> list[Graph]:
    """One graph per structure of a batch."""
    singles = []
    first = 0
    for number, size in enumerate(graph.num_atoms.tolist()):
        atoms, structure = slice(first, first + size), slice(number, number + 1)
        singles.append(
            Graph(
                positions=graph.positions[atoms],
                magmoms=graph.magmoms[atoms],
                species=graph.species[atoms],
                cell=graph.cell[structure],
                structure=torch.zeros_like(graph.structure[atoms]),
                num_atoms=graph.num_atoms[structure],
                senders=graph.senders[atoms] - first,
                shifts=graph.shifts[atoms],
                real=graph.real[atoms],
                volume=graph.volume[structure],
                head=graph.head[structure],
            )
        )
        first += size
    return singles


class _Variables:
    """Free variables x [N,d] of a batch in one mode, and moments as a differentiable function of them."""

    def __init__(
        self, model: Potential, graphs: list[Graph], mode: str, axis: np.ndarray, frozen: Sequence[int]
    ) -> None:
        config = model.config
        self.model, self.mode, self.graphs = model, mode, graphs
        start = torch.cat([graph.magmoms for graph in graphs]).detach().cpu().double().numpy()
        sizes = [len(graph.species) for graph in graphs]
        self.structure = np.repeat(np.arange(len(graphs)), sizes)
        self.free = np.ones(len(start), dtype=bool)
        first = 0
        for size in sizes:
            if any(not -size <= site < size for site in frozen):
                raise UserError(f"relax_moments: frozen = {list(frozen)}, but a structure has {size} sites")
            self.free[[first + site % size for site in frozen]] = False
            first += size
        species = torch.cat([graph.species for graph in graphs]).cpu().numpy()
        limit = np.array([config.m_max_of(element) for element in config.elements])[species]
        lengths = np.linalg.norm(start, axis=1)
        unit = np.where(lengths[:, None] > LEAST_LENGTH, start / np.maximum(lengths, LEAST_LENGTH)[:, None], axis)
        if mode == "collinear":
            unit = np.broadcast_to(axis, start.shape)
            initial, low = (start @ axis)[:, None], -limit[:, None]
        elif mode == "magnitudes":
            initial, low = lengths[:, None], np.zeros((len(start), 1))
        elif mode == "directions":
            initial, low = unit, np.full((len(start), 3), -np.inf)
        else:
            initial, low = start, -np.repeat(limit[:, None], 3, axis=1)
        self.start, self.unit, self.lengths = (torch.tensor(np.array(x)) for x in (start, unit, lengths))
        self.limit = limit
        self.low = low
        self.high = np.full_like(low, np.inf) if mode == "directions" else np.broadcast_to(limit[:, None], low.shape)
        self.initial = np.clip(initial, self.low, self.high)

    def moments(self, x: torch.Tensor) -> torch.Tensor:
        """x [N,d] → [N,3] μB; frozen sites as they started."""
        if self.mode in ("collinear", "magnitudes"):
            moved = x * self.unit
        elif self.mode == "directions":
            moved = x / torch.sqrt((x * x).sum(1, keepdim=True)) * self.lengths.unsqueeze(1)
        else:
            moved = x
        return torch.where(torch.from_numpy(self.free).unsqueeze(1), moved, self.start)

    def beyond_range(self, moments: np.ndarray) -> np.ndarray:
        """[N]: free sites whose moment [N,3] has grown to m_max or more."""
        return self.free & (self.mode != "directions") & (np.linalg.norm(moments, axis=1) >= self.limit * (1 - 1e-9))

    def problem(self) -> Problem:
        """What the minimiser needs."""
        cached: tuple[bytes, Graph] | None = None

        def evaluate(values: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Energies [S] and gradient [N,d]; zeros for structures that are not active."""
            nonlocal cached
            chosen = np.flatnonzero(active)
            if cached is None or cached[0] != active.tobytes():
                cached = (active.tobytes(), collate([self.graphs[number] for number in chosen]))
            graph = cached[1]
            rows = torch.from_numpy(np.flatnonzero(active[self.structure]))
            x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
            moments = self.moments(x).index_select(0, rows).to(graph.positions)
            nodes = self.model.node_energies(graph.with_magmoms(moments))
            (gradient,) = torch.autograd.grad(nodes.sum(), x)
            energies = np.bincount(self.structure[rows], nodes.detach().cpu().numpy(), minlength=len(active))
            return energies, gradient.numpy().astype(float)

        return Problem(self.initial, self.low, self.high, self.structure, len(self.graphs), evaluate)
