"""One labelled structure as training sees it, and the magnetic branch it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from mmace.errors import UserError, unknown_key_message
from mmace.fields import ENERGY, FIELDS, FORCES, MAGMOMS, MAGNETIC_FORCES, STRESS, Field

# Thresholds of `magnetic_branch`.
NONMAGNETIC_BELOW = 0.1  # μB: a structure whose largest moment is smaller is non-magnetic
INDUCED_FRACTION = 0.1  # an atom whose moment is below this fraction of the largest one has no say in the class
COLLINEAR_WITHIN = 5.0  # degrees from the common axis
FERROMAGNETIC_FROM = 0.4  # |Σm|/Σ|m|; lies between the values of 3- to 8-atom cells with one or two spins flipped
COMPENSATED_BELOW = 0.1  # |Σm|/Σ|m| of an antiferromagnet, for `magnetic_class`

CLASSES = ("NM", "FM", "AFM", "FiM", "non-collinear")  # of `magnetic_class`

STRESS_ASYMMETRY = 1e-3  # of the largest component: more is a wrong label, not noise


def magnetic_branch(magmoms: Any) -> str:
    """Class of a magnetic state: "NM", "FM", "AFM" or "non-collinear".

    Only atoms with |m| ≥ 0.1 μB and at least a tenth of the largest moment count, so that small induced moments never
    flip the class. None left: NM. Any of them more than 5° off the common axis: non-collinear. Otherwise the ratio
    |Σm|/Σ|m| over these atoms decides: from 0.4 on FM, below AFM. Ferrimagnetic states have no class of their own:
    they go where this ratio puts them.

    Parameters: ``magmoms`` [N,3] μB.
    """
    along = _along_axis(magmoms)
    if isinstance(along, str):
        return along
    moments, _ = along
    ratio = np.linalg.norm(moments.sum(axis=0)) / np.linalg.norm(moments, axis=1).sum()
    return "FM" if ratio >= FERROMAGNETIC_FROM else "AFM"


def magnetic_class(magmoms: Any) -> str:
    """As `magnetic_branch`, in the terms that data are described with: "NM", "FM", "AFM", "FiM" or "non-collinear".

    All moments that count point the same way: FM. Both ways: AFM if |Σm|/Σ|m| ≤ 0.1 (compensated), else FiM.

    Parameters: ``magmoms`` [N,3] μB.
    """
    along = _along_axis(magmoms)
    if isinstance(along, str):
        return along
    _, projections = along
    if np.all(projections > 0) or np.all(projections < 0):
        return "FM"
    return "AFM" if abs(projections.sum()) <= COMPENSATED_BELOW * np.abs(projections).sum() else "FiM"


def _along_axis(magmoms: Any) -> str | tuple[np.ndarray, np.ndarray]:
    """ "NM", "non-collinear", or the moments that count [M,3] with their projections on the common axis [M], μB."""
    moments = np.asarray(magmoms, dtype=float).reshape(-1, 3)
    lengths = np.linalg.norm(moments, axis=1)
    largest = lengths.max(initial=0.0)
    if largest < NONMAGNETIC_BELOW:
        return "NM"
    significant = lengths >= max(NONMAGNETIC_BELOW, INDUCED_FRACTION * largest)
    moments, lengths = moments[significant], lengths[significant]
    axis = np.linalg.eigh(moments.T @ moments)[1][:, -1]
    projections = moments @ axis
    if np.any(np.abs(projections) < lengths * np.cos(np.deg2rad(COLLINEAR_WITHIN))):
        return "non-collinear"
    return moments, projections


def moments_as_vectors(moments: Any, count: int) -> Any:
    """[N,3] of one column (N,) or (N,1), which is collinear along z; anything else as it is, to be refused by shape.

    Parameters: ``moments`` μB, ``count`` N.
    """
    array = np.asarray(moments)
    if array.shape in ((count,), (count, 1)):
        return np.column_stack([np.zeros((count, 2)), array.reshape(-1)])
    return array


@dataclass(eq=False)
class Configuration:
    """A structure with its moments (inputs) and what is known about it (labels). N atoms.

    Labels that are not known are None and take no part in loss or errors. Raises `UserError`, naming ``name``, the
    field and the mend, for wrong shapes, NaN or infinite values.
    """

    numbers: np.ndarray  # [N] atomic numbers
    positions: np.ndarray  # [N,3] Å
    cell: np.ndarray  # [3,3] cell vectors as rows, Å
    pbc: np.ndarray  # [3] periodic along each cell vector
    magmoms: np.ndarray  # [N,3] μB, lab frame
    energy: float | None = None  # eV
    forces: np.ndarray | None = None  # [N,3] eV/Å
    stress: np.ndarray | None = None  # [3,3] eV/Å³, ASE's sign
    magnetic_forces: np.ndarray | None = None  # [N,3] −∂E/∂m, eV/μB
    directions: np.ndarray | None = None  # [D,3] unit vectors that all moments are turned to, rigidly
    anisotropy: np.ndarray | None = None  # [D] energies there, eV per cell, up to a constant
    weight: float = 1.0  # of its loss, relative to the other configurations
    head: str | None = None  # level of theory, one of the model's heads; None: the first
    name: str = "configuration"  # file, index and line, or label key; stands in every message
    info: dict[str, Any] = field(default_factory=dict)  # what else the file says of it: groups, parents, sources
    arrays: dict[str, np.ndarray] = field(default_factory=dict)  # what else the file says of each atom: [N,…]

    def __post_init__(self) -> None:
        self.numbers = np.asarray(self.numbers, dtype=int).reshape(-1)
        count = len(self.numbers)
        if count == 0:
            raise UserError(f"{self.name}: no atoms; remove this configuration")
        self.positions = self._numbers_of("positions", self.positions, (count, 3))
        self.cell = self._numbers_of("cell", self.cell, (3, 3))
        self.pbc = np.broadcast_to(np.asarray(self.pbc, dtype=bool), (3,)).copy()
        self.magmoms = self._numbers_of(MAGMOMS.name, self.magmoms, (count, 3))
        if self.energy is not None:
            self.energy = float(self._numbers_of(ENERGY.name, self.energy, ()))
        if self.forces is not None:
            self.forces = self._numbers_of(FORCES.name, self.forces, (count, 3))
        if self.magnetic_forces is not None:
            self.magnetic_forces = self._numbers_of(MAGNETIC_FORCES.name, self.magnetic_forces, (count, 3))
        if self.stress is not None:
            self.stress = self._symmetric_stress(self.stress)
        if self.directions is not None or self.anisotropy is not None:
            self._check_directions()
        self.weight = float(self._numbers_of("weight", self.weight, ()))
        if self.weight < 0:
            raise UserError(f"{self.name}: weight is {self.weight}; give a number that is not negative")

    def _check_directions(self) -> None:
        count = 0 if self.directions is None else np.asarray(self.directions).size // 3
        if count < 2 or self.anisotropy is None:
            raise UserError(f"{self.name}: anisotropy needs two directions or more, and an energy of each")
        self.directions = self._numbers_of("directions", self.directions, (count, 3))
        self.anisotropy = self._numbers_of("anisotropy", self.anisotropy, (count,))
        if np.abs(np.linalg.norm(self.directions, axis=1) - 1.0).max() > 1e-6:
            raise UserError(f"{self.name}: directions are not unit vectors; divide each by its length")
        self.directions = self.directions / np.linalg.norm(self.directions, axis=1, keepdims=True)

    def _numbers_of(self, field: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        try:
            array = np.asarray(value, dtype=float)
            if np.asarray(value).dtype == bool:  # a key without a value reads as True
                raise TypeError
        except (TypeError, ValueError):
            raise UserError(f"{self.name}: {field} is not numbers of shape {shape}; correct the value") from None
        if array.shape != shape and field == ENERGY.name:
            raise UserError(
                f"{self.name}: energy must be one number per configuration, found {array.size} numbers; correct it"
            )
        if array.shape != shape:
            raise UserError(f"{self.name}: {field} has shape {array.shape}, expected {shape}; correct the value")
        if not np.isfinite(array).all():
            wrong = np.argwhere(~np.isfinite(array))[0]
            atom = f" (atom {wrong[0]})" if len(wrong) and shape[0] == len(self.numbers) and field != "cell" else ""
            raise UserError(
                f"{self.name}: {field} contains NaN or infinity{atom}; correct or remove this configuration"
            )
        return array

    def _symmetric_stress(self, value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.shape == (9,):
            array = array.reshape(3, 3)
        elif array.shape == (6,):  # Voigt order xx, yy, zz, yz, xz, xy
            array = voigt_6_to_full_3x3_stress(array)
        stress = self._numbers_of(STRESS.name, array, (3, 3))
        if np.abs(stress - stress.T).max() > STRESS_ASYMMETRY * np.abs(stress).max() + 1e-6:
            raise UserError(f"{self.name}: stress is not symmetric; give xx xy xz yx yy yz zx zy zz in eV/Å³")
        if not self.pbc.all() or abs(np.linalg.det(self.cell)) < 1e-6:
            raise UserError(f"{self.name}: stress is given but the cell is not periodic; remove the stress")
        return 0.5 * (stress + stress.T)

    @classmethod
    def from_atoms(
        cls, atoms: Atoms, keys: dict[str, str] | None = None, *, name: str = "atoms", weight: float = 1.0
    ) -> Configuration:
        """From ASE atoms that carry labels under the keys of `mmace.fields`.

        Parameters: ``atoms`` with labels in ``atoms.arrays``/``atoms.info`` (or, for ASE's own names such as "energy",
        in the results that ASE keeps apart); ``keys`` replaces keys: field name → key; ``name`` stands in messages.
        Moments: key, else the initial moments where they are set; one column means collinear along z.
        Raises `UserError` for missing moments, wrong shapes, NaN.
        """
        keys = complete_keys(keys)
        values = {field: _lookup(atoms, FIELDS[field], key) for field, key in keys.items()}
        moments = values.pop(MAGMOMS.name)
        if moments is None and MAGMOMS.key == keys[MAGMOMS.name] and atoms.has("initial_magmoms"):
            moments = atoms.get_initial_magnetic_moments()
        if moments is None:
            raise UserError(
                f"{name}: no moments under '{keys[MAGMOMS.name]}'; "
                f"add {MAGMOMS.key}:R:3 to Properties (μB), zeros for a non-magnetic structure"
            )
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=np.asarray(atoms.cell),
            pbc=atoms.pbc,
            magmoms=moments_as_vectors(moments, len(atoms)),
            weight=atoms.info.get("config_weight", weight),
            head=None if atoms.info.get("head") is None else str(atoms.info["head"]),
            name=name,
            **values,
        )

    def to_atoms(self) -> Atoms:
        """ASE atoms with (N,3) initial magnetic moments, without labels."""
        atoms = Atoms(self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.set_initial_magnetic_moments(self.magmoms)
        return atoms

    @property
    def branch(self) -> str:
        """Magnetic branch of the moments."""
        return magnetic_branch(self.magmoms)

    def __len__(self) -> int:
        return len(self.numbers)


def complete_keys(keys: dict[str, str] | None) -> dict[str, str]:
    """Field name → extended-XYZ key, with the project's keys where ``keys`` says nothing.

    Raises `UserError` for an unknown field name.
    """
    for name in keys or {}:
        if name not in FIELDS:
            raise UserError(unknown_key_message(name, FIELDS, "keys").replace("unknown setting", "unknown field"))
    return {name: (keys or {}).get(name, field.key) for name, field in FIELDS.items()}


def _lookup(atoms: Atoms, field: Field, key: str) -> Any:
    """The value under ``key``: per-atom arrays, then the comment line, then the results ASE moved to a calculator."""
    if field.shape.startswith("[N") and key in atoms.arrays:
        return atoms.arrays[key]
    if key in atoms.info:
        return atoms.info[key]
    results = getattr(atoms.calc, "results", {}) if atoms.calc is not None else {}
    return results.get(key)
