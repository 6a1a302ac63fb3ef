"""Input files of pw.x: species by element and starting moment, the penalty's λ, the grid of the density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi
from typing import Literal

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from ase.units import Bohr, Rydberg

from mmace.errors import UserError
from mmace_flows.labels.collinear import OFF_AXIS, split_moments
from mmace_flows.labels.espresso_settings import EspressoSettings, Grid
from mmace_flows.labels.pseudopotentials import UPFHeader
from mmace_flows.schemas.structure import MagneticStructure

MAX_SPECIES = 10  # pw.x's own limit (ntypx)
LAST_SCALED_PENALTY = (7, 3, 1)  # up to this version pw.x weakens the penalty by the volume of a grid point
SMEARING = {
    "fermi-dirac": "fd",
    "gaussian": "gauss",
    "marzari-vanderbilt": "mv",
    "methfessel-paxton": "mp",
}

Kind = Literal["spin-paired", "collinear", "non-collinear"]


@dataclass(frozen=True)
class Magnetism:
    """How pw.x sees the moments. N atoms."""

    kind: Kind
    starts: np.ndarray  # [N,3] μB in pw.x's frame; along its z where collinear
    axis: np.ndarray  # [3] direction in the lab frame that pw.x's z stands for where collinear

    def to_lab(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [N,3] of pw.x in the lab frame."""
        return (np.outer(vectors[:, 2], self.axis) if self.kind == "collinear" else vectors) + 0.0


@dataclass(frozen=True)
class Plan:
    """Everything that one input file is written from."""

    structure: MagneticStructure
    settings: EspressoSettings
    magnetism: Magnetism
    headers: Mapping[str, UPFHeader]  # by element
    version: tuple[int, ...]  # of pw.x

    @property
    def volume(self) -> float:
        """Of the cell, bohr³."""
        return abs(float(np.linalg.det(np.asarray(self.structure.cell)))) / Bohr**3

    @property
    def density_cutoff(self) -> float:
        """eV."""
        if self.settings.density_cutoff is not None:
            return self.settings.density_cutoff
        conserving = all(header.kind == "NC" for header in self.headers.values())
        return (4.0 if conserving else 10.0) * self.settings.cutoff

    @property
    def constrained(self) -> bool:
        """Whether a penalty holds the moments."""
        return self.settings.constraint != "none" and bool(np.any(self.magnetism.starts))

    def density_grid(self) -> Grid:
        """Smallest grid for the density that a fast Fourier transform likes, [3], with pw.x's own margin.

        Only where a penalty depends on it, see `penalty_scale`; elsewhere pw.x chooses.
        """
        lengths = np.linalg.norm(np.asarray(self.structure.cell, dtype=float), axis=1) / Bohr
        radius = np.sqrt(self.density_cutoff / Rydberg)  # bohr⁻¹
        x, y, z = (_smooth(2 * int(radius * length / (2.0 * pi)) + 3) for length in lengths)
        return x, y, z

    def penalty_scale(self, grid: Grid) -> float:
        """By what pw.x multiplies λ: the volume of a point of the density's ``grid``, Ω/(n1·n2·n3) in bohr³.

        Up to version 7.3.1 pw.x adds to the potential the derivative of λ Σ|m − m0|² times this number (file
        add_bfield.f90), later ones without it.
        """
        return self.volume / float(np.prod(grid)) if self.version <= LAST_SCALED_PENALTY else 1.0


def magnetism_of(structure: MagneticStructure, settings: EspressoSettings) -> Magnetism:
    """Which kind of calculation the moments ask for.

    Raises UserError for a fixed total moment or a constraint that these moments cannot have.
    """
    along, axis, off = split_moments(structure.magmoms)
    z = np.array([0.0, 0.0, 1.0])
    zero = np.zeros((len(along), 3))
    polar = settings.constraint == "atomic direction"
    if polar:
        bare = np.flatnonzero(np.linalg.norm(structure.magmoms, axis=1) < 1e-4)
        if len(bare) and np.any(along):
            raise UserError(
                f"structure: atom {bare[0] + 1} ({structure.symbols[bare[0]]}) has no moment, and constraint "
                "'atomic direction' needs a direction for every atom; take constraint 'atomic'"
            )
    if not np.any(along):
        return Magnetism("non-collinear" if settings.spin_orbit else "spin-paired", zero, z)
    if off > OFF_AXIS or settings.spin_orbit or settings.noncollinear or polar:
        if settings.fix_total_magmom:
            raise UserError(
                f"structure: magmoms are not along one axis (up to {off:.3f} μB off it), but fix_total_magmom is for "
                "collinear moments; take constraint 'atomic'"
            )
        return Magnetism("non-collinear", np.asarray(structure.magmoms, dtype=float), z)
    if settings.fix_total_magmom and along.sum() < 0.0:  # pw.x holds positive totals only
        along, axis = -along, -axis
    starts = zero.copy()
    starts[:, 2] = along
    return Magnetism("collinear", starts, axis)


def species_of(symbols: list[str], starts: np.ndarray) -> tuple[list[str], list[int]]:
    """One species per element and starting moment: labels such as Fe1, [N], and the first atom of each, [species].

    Moments count as equal to 1e-4 μB. Raises UserError if pw.x cannot take that many.
    """
    kinds: dict[tuple[str, tuple[float, ...]], str] = {}
    first: list[int] = []
    labels: list[str] = []
    for atom, (symbol, start) in enumerate(zip(symbols, (np.round(starts, 4) + 0.0).tolist(), strict=True)):
        kind = (symbol, tuple(start))
        if kind not in kinds:
            number = sum(1 for other, _ in kinds if other == symbol) + 1
            kinds[kind] = f"{symbol}{number % 10}"  # three letters at most, and ten species: the tenth has a 0
            first.append(atom)
        labels.append(kinds[kind])
    if len(kinds) > MAX_SPECIES:
        raise UserError(
            f"structure: {len(kinds)} different pairs of element and starting moment, but pw.x takes at most "
            f"{MAX_SPECIES} species; give equal moments to some atoms or take a smaller cell"
        )
    return labels, first


def write_input(plan: Plan, files: Mapping[str, str], preparing: bool = False) -> str:
    """The text of an input file. ``files`` are UPF file names by element, in the folder that pw.x runs in.

    ``preparing`` writes the one iteration without penalty that a calculation with constraint 'atomic' starts from:
    there pw.x reads the target in the place of the starting polarisation and would begin with a density of, say,
    220 % polarisation.
    """
    settings, magnetism, structure = plan.settings, plan.magnetism, plan.structure
    labels, first = species_of(structure.symbols, magnetism.starts)
    targets = plan.constrained and settings.constraint == "atomic" and not preparing
    sections = [
        _section("CONTROL", _control(preparing)),
        _section("SYSTEM", {**_system(plan, len(first)), **_moments(plan, first, targets, preparing)}),
        _section("ELECTRONS", _electrons(settings, targets, preparing)),
    ]
    lines = ["".join(sections) + "ATOMIC_SPECIES"]
    for atom in first:
        symbol = structure.symbols[atom]
        lines.append(f"{labels[atom]} {atomic_masses[atomic_numbers[symbol]]:.4f} {files[symbol]}")
    lines.append("CELL_PARAMETERS angstrom")
    lines += [_vector(vector) for vector in structure.cell]
    lines.append("ATOMIC_POSITIONS angstrom")
    lines += [f"{label} {_vector(place)}" for label, place in zip(labels, structure.positions, strict=True)]
    grid = settings.grid(structure.cell)
    lines.append("K_POINTS automatic")
    lines.append(" ".join(map(str, (*grid, *settings.grid_shift(grid)))))
    return "\n".join(lines) + "\n"


def _control(preparing: bool) -> dict[str, object]:
    return {
        "calculation": "scf",
        "prefix": "pw",
        "outdir": "./",
        "pseudo_dir": "./",
        "disk_io": "low",  # with less, pw.x removes its XML file
        "tprnfor": not preparing,
        "tstress": not preparing,
    }


def _system(plan: Plan, species: int) -> dict[str, object]:
    settings = plan.settings
    values: dict[str, object] = {
        "ibrav": 0,
        "nat": len(plan.structure.symbols),
        "ntyp": species,
        "ecutwfc": settings.cutoff / Rydberg,
        "ecutrho": plan.density_cutoff / Rydberg,
        "occupations": "smearing",
        "smearing": SMEARING[settings.smearing],
        "degauss": settings.smearing_width / Rydberg,
    }
    if settings.bands is not None:
        values["nbnd"] = settings.bands
    if not settings.symmetry:
        values["nosym"] = True
    return values


def _moments(plan: Plan, first: list[int], targets: bool, preparing: bool) -> dict[str, object]:
    settings, magnetism = plan.settings, plan.magnetism
    if magnetism.kind == "spin-paired":
        return {}
    values: dict[str, object] = {}
    if magnetism.kind == "collinear":
        values["nspin"] = 2
    else:
        values["noncolin"] = True
        values["lspinorb"] = settings.spin_orbit
    for number, atom in enumerate(first, 1):
        start = magnetism.starts[atom]
        if magnetism.kind == "collinear":
            length, theta, phi = float(start[2]), 0.0, 0.0
        else:
            length = float(np.linalg.norm(start))
            theta = float(np.degrees(np.arctan2(np.hypot(start[0], start[1]), start[2])))
            phi = float(np.degrees(np.arctan2(start[1], start[0])))
        polarisation = length / plan.headers[plan.structure.symbols[atom]].valence
        values[f"starting_magnetization({number})"] = length if targets else float(np.clip(polarisation, -1.0, 1.0))
        if magnetism.kind == "non-collinear":
            values[f"angle1({number})"], values[f"angle2({number})"] = theta, phi
    if settings.fix_total_magmom:
        values["tot_magnetization"] = float(magnetism.starts[:, 2].sum())
    if plan.constrained:
        grid = plan.density_grid()
        values |= {f"nr{direction}": number for direction, number in enumerate(grid, 1)}
        if not preparing:
            values["constrained_magnetization"] = settings.constraint
            values["lambda"] = settings.constraint_stiffness / Rydberg / plan.penalty_scale(grid)
    return values


def _electrons(settings: EspressoSettings, targets: bool, preparing: bool) -> dict[str, object]:
    values: dict[str, object] = {
        "conv_thr": settings.energy_convergence / Rydberg,
        "mixing_mode": settings.mixing.mode,
        "mixing_beta": settings.mixing.beta,
        "mixing_ndim": settings.mixing.history,
        "diagonalization": settings.diagonalization,
        "electron_maxstep": 1 if preparing else settings.max_iterations,
    }
    if preparing:
        values["scf_must_converge"] = False
    elif targets:
        values["startingpot"] = "file"
    return values


def _section(name: str, values: Mapping[str, object]) -> str:
    return f"&{name}\n" + "".join(f"  {key} = {_fortran(value)}\n" for key, value in values.items()) + "/\n"


def _fortran(value: object) -> str:
    if isinstance(value, bool):
        return ".true." if value else ".false."
    if isinstance(value, float):
        return f"{value:.14e}".replace("e", "d")
    return str(value) if isinstance(value, int) else f"'{value}'"


def _vector(values: list[float]) -> str:
    return " ".join(f"{value:.12f}" for value in values)


def _smooth(least: int) -> int:
    """The smallest number from ``least`` on without prime factors beyond 5."""
    number = least
    while True:
        rest = number
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return number
        number += 1
