"""Batched molecular dynamics and relaxation: a potential as a model of torch-sim.

States that carry moments are made by `magnetic_state`, and `magnetic` wraps integrators and optimisers so that they
keep them; both are in `mmace.torch_sim_state`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from mmace.checkpoint import load
from mmace.config import DTYPES
from mmace.errors import UserError, unknown_key_message
from mmace.graph import Graph, species_index
from mmace.heads import head_number, single_head
from mmace.potential import Potential
from mmace.spins.relax import MomentRelaxation, relax_moments
from mmace.torch_sim_state import as_state, magnetic, magnetic_state, moments_per_atom

# the module above says what to install if torch-sim is missing
from torch_sim.models.interface import ModelInterface  # isort: skip
from torch_sim.neighbors import vesin_nl_ts  # isort: skip
from torch_sim.state import SimState  # isort: skip

__all__ = ["MagneticModel", "magnetic", "magnetic_state"]

logger = logging.getLogger(__name__)

RELAX_OPTIONS = sorted(set(inspect.signature(relax_moments).parameters) - {"model", "structures", "progress"})


class MagneticModel(ModelInterface):
    """A potential as torch-sim sees it: energies, forces and stresses of a batch of systems.

    Parameters
    ----------
    model: a `Potential` or the path of a checkpoint.
    device: where to compute; None: a GPU if torch sees one. dtype: None: that of the potential.
    moments: ``fixed`` takes the state's moments as they are. ``relaxed`` minimises the energy over them at each call,
        all systems together, and leaves the result in the state, where the next call starts; options are those of
        `mmace.spins.relax.relax_moments`, for example ``mode="collinear"``.
    start: moments per element, μB, for states that carry none: {"Fe": 2.2, "Ni": [0, 0.6, 0]}; elements not named have
        none. Such a model takes no state that carries moments.
    head: level of theory of a model that has several; None: the first.
    neighbor_list_fn: a neighbour list with the signature of `torch_sim.neighbors.standard_nl`, called on the device.
        None: vesin, on the CPU.

    A call gives energy [S] eV, forces [N,3] eV/Å, stress [S,3,3] eV/Å³ (ASE's sign; nan where not periodic), and beside
    them magmoms [N,3] μB and magnetic_forces [N,3] eV/μB, which it also writes into a state that carries moments. The
    last outputs are kept as ``results``, the last report of ``relaxed``, one per system, as ``last_relaxation``.

    Raises UserError for an element or a head the model does not know, moments missing, numbers that are not finite.
    """

    def __init__(
        self,
        model: Potential | str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        moments: str = "fixed",
        start: Mapping[str, float | Sequence[float]] | None = None,
        head: str | None = None,
        compute_forces: bool = True,
        compute_stress: bool = True,
        neighbor_list_fn: Callable[..., tuple[Tensor, Tensor]] | None = None,
        **relax_options: Any,
    ) -> None:
        super().__init__()
        whole = model if isinstance(model, Potential) else load(model)
        head_number(whole.config, head, "MagneticModel")
        config = whole.config
        if moments not in ("fixed", "relaxed"):
            raise UserError(unknown_key_message(moments, ("fixed", "relaxed"), "MagneticModel: moments"))
        for name in relax_options:
            if name not in RELAX_OPTIONS:
                raise UserError(unknown_key_message(name, RELAX_OPTIONS, "MagneticModel"))
            if moments == "fixed":
                raise UserError(f"MagneticModel: {name} only means something with moments='relaxed'")
        if moments == "relaxed" and not config.rules.magnetic:
            raise UserError("MagneticModel: moments='relaxed', but this model has no moments (symmetry = none)")
        if start is not None and not isinstance(start, Mapping):
            raise UserError(
                "MagneticModel: start gives moments per element, {'Fe': 2.2}; for those per atom make a magnetic_state"
            )
        if start is not None:
            # complains now and not at the first call
            moments_per_atom(start, torch.ones(1, dtype=torch.int64), "MagneticModel: start")
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise UserError("MagneticModel: device = cuda, but torch sees no GPU; take device='cpu'")
        names = {kind: name for name, kind in DTYPES.items()}
        self._dtype = dtype or config.torch_dtype
        if self._dtype not in names:
            raise UserError(f"MagneticModel: dtype = {dtype}; must be torch.float32 or torch.float64")
        self._compute_forces, self._compute_stress = compute_forces, compute_stress
        self.potential = _converted(single_head(whole, head), names[self._dtype], self._device)
        self.moments, self.start, self.relax_options = moments, start, relax_options
        self.neighbor_list_fn = neighbor_list_fn
        self.results: dict[str, Tensor] = {}
        self.last_relaxation: list[MomentRelaxation] = []
        self._warned: set[str] = set()
        table = torch.full((len(atomic_numbers),), -1)
        table[[atomic_numbers[element] for element in config.elements]] = torch.arange(len(config.elements))
        self.register_buffer("species", table.to(self._device), persistent=False)

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Energies and their derivatives of a `SimState` or the dictionary of one; see the class."""
        if kwargs:
            raise UserError(f"MagneticModel: {', '.join(kwargs)}: a call takes a state and nothing else")
        state = as_state(state)
        graph = self._graph(state)
        if self.moments == "relaxed":
            graph = graph.with_magmoms(self._relaxed(graph))
        self._warn_beyond_range(graph)
        with torch.enable_grad():
            out = self.potential(graph, forces=self.compute_forces, stress=self.compute_stress)
        out["magmoms"] = graph.magmoms
        if hasattr(state, "magmoms"):
            if self.moments == "relaxed":
                state.magmoms = out["magmoms"].to(state.positions)
            state.magnetic_forces = out["magnetic_forces"].to(state.positions)
        self.results = out
        return out

    def _relaxed(self, graph: Graph) -> Tensor:
        # torch-sim chooses how much fits into memory, so all systems of a call go together
        options = {"batch_atoms": len(graph.species), **self.relax_options}
        with torch.enable_grad():
            self.last_relaxation = relax_moments(self.potential, graph, **options)
        for number, relaxation in enumerate(self.last_relaxation):
            if not relaxation.converged:
                logger.warning("moment relaxation of system %d: %s", number, relaxation.message)
        return torch.from_numpy(np.concatenate([each.magmoms for each in self.last_relaxation])).to(graph.positions)

    def _start(self, state: SimState) -> Tensor:
        """Moments to begin with [N,3] μB."""
        carried = getattr(state, "magmoms", None)
        if carried is not None and self.start is not None:
            raise UserError("MagneticModel: the state carries moments, and start gives others; leave one of them out")
        if carried is not None:
            if carried.shape != state.positions.shape:
                raise UserError(
                    f"MagneticModel: the state's magmoms have the shape {list(carried.shape)}; must be [N,3]"
                )
            return carried
        if self.start is not None:
            return moments_per_atom(self.start, state.atomic_numbers, "MagneticModel: start")
        if self.potential.config.rules.magnetic:
            raise UserError(
                f"MagneticModel: this {type(state).__name__} carries no moments; make the state by magnetic_state and "
                "wrap the integrator or optimiser: magnetic(torch_sim.nve); or give MagneticModel start={'Fe': 2.2}"
            )
        return torch.zeros_like(state.positions)

    def _graph(self, state: SimState) -> Graph:
        """Batch of the systems of a state; positions and cells stay where they are."""
        if state.device.type != self.device.type:
            raise UserError(
                f"MagneticModel: the state is on {state.device}, the model on {self.device}; move one of them"
            )
        positions, cell = state.positions.detach(), state.row_vector_cell.detach()
        moments = self._start(state).detach().to(positions)
        species = self.species[state.atomic_numbers.long()]
        volume = torch.linalg.det(cell).abs() if state.pbc else torch.full_like(cell[:, 0, 0], torch.nan)
        unknown, finite, flat, mixed = torch.stack(
            [
                (species < 0).any(),
                torch.isfinite(torch.cat([positions, cell.reshape(-1, 3), moments])).all(),
                (volume < 1e-6).any(),
                (state.system_idx.diff() < 0).any(),
            ]
        ).tolist()  # one wait for the device
        if unknown:
            species_index(state.atomic_numbers.cpu().numpy(), self.potential.config.elements)  # names the elements
        if not finite:
            raise UserError(
                "MagneticModel: positions, cells and moments must be finite numbers; in a simulation, "
                "take a smaller time step"
            )
        if flat:
            raise UserError("MagneticModel: a periodic system has a cell without volume; give it one, or pbc = False")
        if mixed:
            raise UserError("MagneticModel: system_idx must rise; put the atoms of each system together, in order")
        num_atoms = torch.bincount(state.system_idx, minlength=len(cell))
        senders, shifts, real = self._neighbors(positions, cell, bool(state.pbc), num_atoms.tolist())
        return Graph(
            positions=positions.to(self.dtype),
            magmoms=moments.to(self.dtype),
            species=species,
            cell=cell.to(self.dtype),
            structure=state.system_idx,
            num_atoms=num_atoms,
            senders=senders,
            shifts=shifts.to(self.dtype),
            real=real,
            volume=volume.to(self.dtype),
            head=torch.zeros_like(num_atoms),
        )

    def _neighbors(self, positions: Tensor, cell: Tensor, pbc: bool, sizes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Senders [N,M], shifts [N,M,3] and which are real [N,M], padded as `Graph` has them."""
        search = self.neighbor_list_fn or vesin_nl_ts
        place = self.device if self.neighbor_list_fn else torch.device("cpu")
        cutoff = torch.tensor(self.potential.config.r_max, dtype=positions.dtype, device=place)
        pairs, images, first = [], [], 0
        for points, box in zip(positions.to(place).split(sizes), cell.to(place), strict=True):
            pair, image = search(positions=points, cell=box, pbc=pbc, cutoff=cutoff)
            pairs.append(pair.long() + first)
            images.append(image)
            first += len(points)
        receivers, others = torch.cat(pairs, dim=1).to(self.device)
        order = torch.argsort(receivers, stable=True)
        receivers, others, image = receivers[order], others[order], torch.cat(images).to(positions)[order]
        counts = torch.bincount(receivers, minlength=first)
        width = max(int(counts.max()), 1)
        slots = torch.arange(len(receivers), device=self.device) - (counts.cumsum(0) - counts)[receivers]
        senders = torch.arange(first, device=self.device).unsqueeze(1).repeat(1, width)
        shifts = positions.new_zeros(first, width, 3)
        real = torch.zeros(first, width, dtype=torch.bool, device=self.device)
        senders[receivers, slots], shifts[receivers, slots], real[receivers, slots] = others, image, True
        return senders, shifts, real

    def _warn_beyond_range(self, graph: Graph) -> None:
        """Say once per element when a moment is larger than anything the model was made for."""
        config = self.potential.config
        if not config.rules.magnetic or len(self._warned) == len(config.elements):
            return
        lengths = torch.linalg.vector_norm(graph.magmoms, dim=1)
        largest = lengths.new_zeros(len(config.elements)).scatter_reduce(0, graph.species, lengths, "amax").tolist()
        for element, length in zip(config.elements, largest, strict=True):
            if length > config.m_max_of(element) and element not in self._warned:
                self._warned.add(element)
                logger.warning(
                    "%s has a moment of %.2f μB, beyond the model's range of %.2f μB; a rising wall is added there",
                    element,
                    length,
                    config.m_max_of(element),
                )


def _converted(model: Potential, dtype: str, device: torch.device) -> Potential:
    """The potential with other numbers or elsewhere; as it is where nothing changes, otherwise a copy."""
    weight = next(model.parameters())
    if model.config.dtype == dtype and weight.device == device:
        return model
    made = Potential(replace(model.config, dtype=dtype))
    made.load_state_dict(model.state_dict())
    return made.to(device)
