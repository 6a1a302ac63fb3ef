"""States of torch-sim whose atoms carry moments, and algorithms that hand them on.

torch-sim builds a new state wherever an integrator, an optimiser or a batcher begins, and copies only what that state's
class declares. So moments live in the state, as declared attributes per atom: `magnetic_state` makes such a state, and
`magnetic` has an algorithm of torch-sim hand them on. They then follow their atoms through every split and swap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from torch import Tensor

from mmace.errors import UserError
from mmace.graph import vector_moments

try:
    from torch_sim import initialize_state
    from torch_sim.io import atoms_to_state, state_to_atoms
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState
except ImportError as error:
    raise UserError(f"torch-sim cannot be imported ({error}): pip install mmace-flows[torch-sim]") from error

Moments = Mapping[str, float | Sequence[float]] | Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor
CARRIED = {"magmoms", "magnetic_forces"}


@cache
def magnetic_class(base: type[SimState]) -> type[SimState]:
    """Subclass of a torch-sim state that declares ``magmoms`` [N,3] μB and ``magnetic_forces`` [N,3] eV/μB per atom."""
    if base._atom_attributes >= CARRIED:
        return base

    def to_atoms(self: Any) -> list[Atoms]:
        """ASE atoms with the moments as initial magnetic moments."""
        structures = state_to_atoms(self)
        sizes = np.cumsum([len(atoms) for atoms in structures])
        for atoms, moments in zip(structures, np.split(self.magmoms.cpu().numpy(), sizes[:-1]), strict=True):
            atoms.set_initial_magnetic_moments(moments)
        return structures

    members = {
        "__doc__": f"{base.__name__} whose atoms carry moments.",
        "__module__": __name__,
        "__annotations__": {"magmoms": Tensor, "magnetic_forces": Tensor},
        "_atom_attributes": base._atom_attributes | CARRIED,
        "to_atoms": to_atoms,
    }
    return dataclass(kw_only=True)(type(f"Magnetic{base.__name__}", (base,), members))


def attach(state: SimState, magmoms: Tensor, magnetic_forces: Tensor) -> SimState:
    """The state with moments [N,3] μB and magnetic forces [N,3] eV/μB that stay with their atoms."""
    base = cast(Any, type(state))  # mypy does not know that classes are hashable
    return magnetic_class(base)(**{**vars(state), "magmoms": magmoms, "magnetic_forces": magnetic_forces})


def magnetic_state(
    structures: Atoms | Sequence[Atoms] | SimState,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    moments: Moments | None = None,
) -> SimState:
    """State of torch-sim whose atoms carry moments.

    ``moments``, μB: a value per element (a number is along z, elements not named have none), or one per atom of the
    batch, [N] along z or [N,3]. None takes the initial magnetic moments of ASE atoms. The state's ``magnetic_forces``
    are nan until a model was called. Raises UserError for moments that do not fit.
    """
    if isinstance(structures, SimState):
        state = initialize_state(structures, torch.device(device), dtype)
        if moments is None:
            raise UserError("magnetic_state: a state of torch-sim has no moments of its own; give moments")
    else:
        queue = [structures] if isinstance(structures, Atoms) else list(structures)
        if not queue or any(not isinstance(atoms, Atoms) for atoms in queue):
            raise UserError("magnetic_state: structures must be ASE atoms, a list of them or a state of torch-sim")
        if len({bool(periodic) for atoms in queue for periodic in atoms.pbc}) > 1:
            raise UserError(
                "magnetic_state: pbc must be all True or all False, the same in all structures; torch-sim has no other"
            )
        state = atoms_to_state(queue, torch.device(device), dtype)
        if moments is None:
            moments = np.concatenate([vector_moments(atoms) for atoms in queue])
    magmoms = moments_per_atom(moments, state.atomic_numbers, "magnetic_state: moments").to(state.positions)
    return attach(state, magmoms, torch.full_like(magmoms, torch.nan))


def moments_per_atom(moments: Moments, numbers: Tensor, where: str) -> Tensor:
    """Moments of any given form as [N,3] μB, for atoms of the atomic ``numbers`` [N]. Raises UserError."""
    try:
        if isinstance(moments, Mapping):
            if unknown := [str(element) for element in moments if atomic_numbers.get(str(element), 0) < 1]:
                raise UserError(f"{where}: {unknown[0]!r} is not a chemical symbol")
            values = torch.zeros(len(atomic_numbers), 3, dtype=torch.float64)
            for element, moment in moments.items():
                vector = torch.as_tensor(moment, dtype=torch.float64)
                if vector.ndim:
                    values[atomic_numbers[element]] = vector
                else:
                    values[atomic_numbers[element], 2] = vector
            given = values.to(numbers.device)[numbers.long()]
        else:
            given = torch.as_tensor(moments, dtype=torch.float64)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{where}: give numbers, one or three (x, y, z) per element or atom, in μB") from error
    if given.shape == numbers.shape:
        given = torch.stack([torch.zeros_like(given), torch.zeros_like(given), given], dim=1)
    if given.shape != (len(numbers), 3):
        raise UserError(
            f"{where} has the shape {list(given.shape)}; the batch has {len(numbers)} atoms: give [N] or [N,3]"
        )
    if not bool(torch.isfinite(given).all()):
        raise UserError(f"{where} must be finite numbers")
    return given


def magnetic(algorithm: Callable[..., Any]) -> Callable[..., Any]:
    """An integrator or optimiser of torch-sim that keeps the moments: ``magnetic(torch_sim.nve)``.

    The states it makes have ``magmoms`` and ``magnetic_forces``, as of the last call of the model.
    """

    @wraps(algorithm)
    def wrapped(model: ModelInterface, **options: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        begin, step = algorithm(model=model, **options)

        @wraps(begin)
        def magnetic_begin(state: Any, *args: Any, **options: Any) -> SimState:
            state = as_state(state)
            if not hasattr(state, "magmoms"):
                raise UserError(f"magnetic({algorithm.__name__}): the state has no moments; make it by magnetic_state")
            made = begin(state, *args, **options)  # calls the model, which writes what it found into ``state``
            return attach(made, state.magmoms, state.magnetic_forces)

        return magnetic_begin, step

    return wrapped


def as_state(state: Any) -> SimState:
    """torch-sim also hands dictionaries to models."""
    if isinstance(state, SimState):
        return state
    fields = dict(state)
    magmoms = fields.pop("magmoms", None)
    forces = fields.pop("magnetic_forces", None)
    fields.setdefault("masses", torch.ones_like(fields["positions"][:, 0]))
    made = SimState(**fields)
    if magmoms is None:
        return made
    return attach(made, magmoms, torch.full_like(magmoms, torch.nan) if forces is None else forces)
