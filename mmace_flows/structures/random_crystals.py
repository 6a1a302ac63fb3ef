"""Random crystals of a chemical space: compositions that follow an element distribution, cells by pyxtal or buildcell.

pyxtal gives a crystal of a random space group; the same seed gives the same crystal. AIRSS's buildcell takes its own
random numbers from the clock, so with it a seed repeats the composition and not the crystal.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii, vdw_radii
from ase.formula import Formula
from ase.geometry import cellpar_to_cell
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.distort import minimum_distance
from mmace_flows.structures.symmetry import primitive

BUILDCELL_SECONDS = 60.0  # buildcell never ends where its rules cannot be met
LOOSEST = 4.0  # volume of an atom over that of its covalent sphere, at most: metals have 1 to 2.5, gases 10


class ChemicalSpace(Document):
    """Which compositions are drawn."""

    elements: dict[str, float] = Field(
        description="element → weight: how often it is drawn, and what the selection aims at; 1 each is even"
    )
    one_of: list[str] = Field(default_factory=list, description="elements of which at most one is in a structure")
    formulas: list[str] = Field(
        default_factory=list, description="only these stoichiometries, e.g. FeNi3; none: any composition"
    )
    species: tuple[int, int] = Field(default=(1, 3), description="fewest and most different elements")
    atoms: tuple[int, int] = Field(default=(2, 10), description="fewest and most atoms in the primitive cell")
    volume_scale: tuple[float, float] = Field(
        default=(0.85, 1.25), description="uniform range of the factor on the sum of the elements' own volumes"
    )
    space_groups: tuple[int, int] = Field(default=(2, 230), description="range that space groups are drawn from")
    minimum_distance: float = Field(
        default=0.75, gt=0.0, description="closest allowed pair, in units of the sum of its covalent radii"
    )


def check_space(space: ChemicalSpace) -> None:
    """Raises UserError for what cannot be drawn from: names the field and the mend."""
    where = "random search"
    for element, weight in space.elements.items():
        if element not in atomic_numbers or element == "X":
            raise UserError(f"{where}: elements: '{element}' is no element; give symbols such as Fe")
        if not (np.isfinite(weight) and weight > 0):
            raise UserError(f"{where}: elements: the weight of {element} is {weight}; give a positive number")
    if not space.elements:
        raise UserError(f"{where}: elements: none is given; give for example Fe,Ni")
    for element in space.one_of:
        if element not in space.elements:
            raise UserError(f"{where}: one_of: {element} is not among the elements; add it there too")
    for name, (low, high), least, most in (
        ("species", space.species, 1, 118),
        ("atoms", space.atoms, 1, 200),
        ("space_groups", space.space_groups, 1, 230),
    ):
        if not least <= low <= high <= most:
            raise UserError(f"{where}: {name} is {low} to {high}; give two numbers that rise, from {least} to {most}")
    if space.species[0] > space.atoms[1]:
        raise UserError(f"{where}: species: {space.species[0]} elements do not fit {space.atoms[1]} atoms; raise atoms")
    available = len(space.elements) - max(len(space.one_of) - 1, 0)
    if not space.formulas and space.species[0] > available:
        raise UserError(f"{where}: species: {space.species[0]} are asked for, {available} can be together; lower it")
    for formula in space.formulas:
        _counts(formula, space)


def draw_composition(space: ChemicalSpace, generator: np.random.Generator) -> dict[str, int]:
    """Element → number of atoms in the primitive cell, elements drawn by weight, every split of the atoms as likely."""
    if space.formulas:
        counts = _counts(space.formulas[int(generator.integers(len(space.formulas)))], space)
        size = sum(counts.values())
        multiples = [k for k in range(1, space.atoms[1] // size + 1) if k * size >= space.atoms[0]]
        factor = int(generator.choice(multiples))
        return {element: factor * count for element, count in counts.items()}
    available = len(space.elements) - max(len(space.one_of) - 1, 0)
    number = int(generator.integers(space.species[0], min(space.species[1], available, space.atoms[1]) + 1))
    weights: dict[str, float] = dict(space.elements)
    chosen: list[str] = []
    while len(chosen) < number:
        names = sorted(weights)
        total = sum(weights.values())
        element = str(generator.choice(names, p=[weights[name] / total for name in names]))
        chosen.append(element)
        del weights[element]
        if element in space.one_of:
            for other in space.one_of:
                weights.pop(other, None)
    size = int(generator.integers(max(space.atoms[0], number), space.atoms[1] + 1))
    cuts = np.sort(generator.choice(np.arange(1, size), size=number - 1, replace=False)) if number > 1 else np.array([])
    parts = np.diff(np.concatenate([[0], cuts, [size]])).astype(int)
    return dict(zip(chosen, (int(part) for part in parts), strict=True))


def guessed_volume(composition: Mapping[str, int]) -> float:
    """Å³ of a cell with this composition: the volumes of the elements themselves, gases as if they were solid."""
    from pymatgen.core import Element

    volume = 0.0
    for element, count in composition.items():
        most = LOOSEST * 4.0 / 3.0 * np.pi * covalent_radii[atomic_numbers[element]] ** 3
        molar = Element(element).molar_volume  # cm³/mol
        volume += count * (most if molar is None else min(most, float(molar) / 0.602214076))
    return float(volume)


def chosen_generator(asked: str) -> str:
    """buildcell or pyxtal: the one asked for, or for "auto" buildcell where it is installed, else pyxtal.

    Raises UserError if it is not installed, or not known.
    """
    installed = {
        "buildcell": shutil.which("buildcell") is not None,
        "pyxtal": importlib.util.find_spec("pyxtal") is not None,
    }
    mends = {"buildcell": "install AIRSS", "pyxtal": "pip install 'mmace-flows[search]'"}
    if asked == "auto":
        found = next((name for name, there in installed.items() if there), None)
        if found is None:
            raise UserError(
                "random search: neither buildcell nor pyxtal is installed; pip install 'mmace-flows[search]'"
            )
        return found
    if asked not in installed:
        raise UserError(f"random search: unknown generator '{asked}'; known: auto, {', '.join(installed)}")
    if not installed[asked]:
        raise UserError(f"random search: {asked} is not installed; {mends[asked]}")
    return asked


def random_crystal(space: ChemicalSpace, seed: int, generator_name: str = "pyxtal", tries: int = 30) -> dict[str, Any]:
    """One random crystal: {"structure": MagneticStructure without moments, "space_group": number or None}.

    Compositions and space groups are drawn until one fits. Raises ValueError if none of ``tries`` gives a crystal.
    """
    generator = np.random.default_rng(seed)
    last = "no space group fits"
    for _ in range(tries):
        composition = draw_composition(space, generator)
        volume = guessed_volume(composition) * float(generator.uniform(*space.volume_scale))
        number = int(generator.integers(space.space_groups[0], space.space_groups[1] + 1))
        draw = int(generator.integers(2**31))
        try:
            if generator_name == "buildcell":
                structure, group = _buildcell(composition, volume, space), None
            else:
                structure, group = _pyxtal(composition, number, volume, draw, space.minimum_distance), number
        except ValueError as error:
            last = str(error)
            continue
        if too_close(structure, space.minimum_distance):
            last = "atoms too close"
            continue
        return {"structure": structure, "space_group": group}
    raise ValueError(f"no crystal in {tries} tries ({last})")


def too_close(structure: MagneticStructure, factor: float) -> bool:
    """Whether a pair, images included, is closer than ``factor`` times the sum of its covalent radii."""
    from ase.neighborlist import neighbor_list

    radii = {symbol: factor * covalent_radii[atomic_numbers[symbol]] for symbol in set(structure.symbols)}
    atoms = structure.to_atoms()
    cell = np.asarray(structure.cell)
    if len(atoms) > 1 and minimum_distance(cell, atoms.positions) < 0.3:  # before a neighbour list explodes
        return True
    return len(neighbor_list("i", atoms, [radii[symbol] for symbol in structure.symbols])) > 0


def _counts(formula: str, space: ChemicalSpace) -> dict[str, int]:
    try:
        counts = {str(element): int(count) for element, count in Formula(formula).count().items()}
    except Exception as error:  # ASE raises several kinds
        raise UserError(f"random search: formulas: '{formula}' is no formula; write for example FeNi3") from error
    for element in counts:
        if element not in space.elements:
            raise UserError(
                f"random search: formulas: {formula} has {element}, which is not among the elements; add it"
            )
    size = sum(counts.values())
    if not any(space.atoms[0] <= k * size <= space.atoms[1] for k in range(1, space.atoms[1] // size + 1)):
        raise UserError(
            f"random search: formulas: no multiple of {formula} has {space.atoms[0]} to {space.atoms[1]} atoms; "
            "widen atoms"
        )
    return counts


def _pyxtal(composition: Mapping[str, int], group: int, volume: float, seed: int, closest: float) -> MagneticStructure:
    from pyxtal import pyxtal
    from pyxtal.msg import Error
    from pyxtal.tolerance import Tol_matrix

    # pyxtal draws a volume between those of covalent and of van der Waals spheres, times this factor; with the mean at
    # the volume that is wanted, the crystal is hardly rescaled below and its distances stay what they are
    usual = sum(
        count * 2.0 / 3.0 * np.pi * (covalent_radii[z] ** 3 + (vdw_radii[z] if vdw_radii[z] > 0 else 2.2) ** 3)
        for z, count in ((atomic_numbers[element], count) for element, count in composition.items())
    )
    crystal = pyxtal()
    try:
        crystal.from_random(
            3,
            group,
            list(composition),
            list(composition.values()),
            factor=volume / usual,
            # units of half the sum of covalent radii; 2.0 would be all of it, and four times slower than to try again
            tm=Tol_matrix(prototype="atomic", factor=1.6 * closest),
            conventional=False,
            random_state=seed,
        )
    except (Error, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"space group {group}: {error}") from error
    if not crystal.valid:
        raise ValueError(f"space group {group}: no crystal")
    atoms = crystal.to_ase()
    structure = primitive(_without_moments(atoms))
    factor = (volume / sum(composition.values()) * len(structure.symbols) / atoms_volume(structure)) ** (1.0 / 3.0)
    return structure.model_copy(
        update={
            "cell": (np.asarray(structure.cell) * factor).tolist(),
            "positions": (np.asarray(structure.positions) * factor).tolist(),
        }
    )


def atoms_volume(structure: MagneticStructure) -> float:
    """Å³ of the cell."""
    return abs(float(np.linalg.det(np.asarray(structure.cell))))


def buildcell_input(composition: Mapping[str, int], volume: float, space: ChemicalSpace) -> str:
    """What buildcell reads: volume (Å³), atoms, distances."""
    species = ",".join(f"{element}%NUM={count}" for element, count in composition.items())
    radii = {element: space.minimum_distance * covalent_radii[atomic_numbers[element]] for element in composition}
    names = sorted(radii)
    pairs = " ".join(f"{a}-{b}={radii[a] + radii[b]:.3f}" for i, a in enumerate(names) for b in names[i:])
    least = 2 * min(radii.values())
    return f"#VARVOL={volume:.4f}\n#SPECIES={species}\n#NFORM=1\n#SYMMOPS=1-8\n#MINSEP={least:.3f} {pairs}\n"


def _buildcell(composition: Mapping[str, int], volume: float, space: ChemicalSpace) -> MagneticStructure:
    try:
        done = subprocess.run(
            ["buildcell"],
            input=buildcell_input(composition, volume, space),
            capture_output=True,
            text=True,
            timeout=BUILDCELL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"buildcell gave nothing in {BUILDCELL_SECONDS:.0f} s") from None
    if done.returncode:
        raise ValueError(f"buildcell ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return parse_cell(done.stdout)


def parse_cell(text: str) -> MagneticStructure:
    """The crystal in a Castep .cell text with LATTICE_ABC or LATTICE_CART and POSITIONS_FRAC. ValueError without it."""
    blocks = {
        name.upper(): [line.split("#")[0].split() for line in body.strip().splitlines() if line.split("#")[0].strip()]
        for name, body in re.findall(r"(?is)%BLOCK\s+(\w+)\s*\n(.*?)%ENDBLOCK", text)
    }
    lattice = blocks.get("LATTICE_ABC") or blocks.get("LATTICE_CART")
    places = blocks.get("POSITIONS_FRAC")
    if not lattice or not places:
        raise ValueError("buildcell gave no lattice or no positions")
    rows = [[float(value) for value in row] for row in lattice if len(row) == 3]
    cell = cellpar_to_cell([*rows[0], *rows[1]]) if len(rows) == 2 else np.array(rows)
    atoms = Atoms(
        [row[0] for row in places],
        scaled_positions=[[float(value) for value in row[1:4]] for row in places],
        cell=cell,
        pbc=True,
    )
    return _without_moments(atoms)


def _without_moments(atoms: Atoms) -> MagneticStructure:
    return MagneticStructure.from_atoms(atoms, np.zeros((len(atoms), 3)))
