"""Input of VASP through atomate2: structure with moments, INCAR tags, k-points.

Traps that are seen to here: VASP wants the atoms of one element together, so that its order is not ours; MAGMOM has one
number per atom without and three with non-collinear moments; a number where a vector belongs is written three times by
pymatgen, which tilts the moment to (1 1 1); without a MAGMOM of its own an atom starts at 1 μB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmace.errors import UserError
from mmace_flows.labels.collinear import OFF_AXIS, split_moments
from mmace_flows.labels.vasp_settings import ISMEAR, VaspSettings
from mmace_flows.schemas.structure import MagneticStructure

if TYPE_CHECKING:
    from atomate2.vasp.jobs.core import StaticMaker
    from pymatgen.core import Structure

Kind = Literal["none", "collinear", "noncollinear"]


@dataclass(frozen=True)
class VaspMagnetism:
    """How VASP treats the moments of a structure with N atoms."""

    kind: Kind
    starts: np.ndarray  # [N] signed lengths along ``axis``, or [N,3] in the lab frame, μB
    axis: np.ndarray  # [3] unit vector that VASP's up is, of collinear moments

    def to_lab(self, moments: np.ndarray) -> np.ndarray:
        """VASP's moments, [N] or [N,3] μB, as [N,3] in the lab frame."""
        if self.kind == "noncollinear":
            return np.asarray(moments, dtype=float)
        return np.outer(moments, self.axis) + 0.0


def magnetism_of(structure: MagneticStructure, settings: VaspSettings) -> VaspMagnetism:
    """Raises UserError for moments that these settings cannot treat."""
    along, axis, off = split_moments(structure.magmoms)
    if off > OFF_AXIS or settings.noncollinear or settings.spin_orbit:
        if settings.fix_total_magmom:
            raise UserError("structure: magmoms are not along one axis; fix_total_magmom is for collinear moments")
        return VaspMagnetism("noncollinear", np.asarray(structure.magmoms, dtype=float), axis)
    return VaspMagnetism("collinear" if np.any(along) else "none", along, axis)


def vasp_order(symbols: Sequence[str]) -> np.ndarray:
    """[N] our numbers in VASP's order: elements together, by first appearance, atoms of one element as they come."""
    elements = list(dict.fromkeys(symbols))
    return np.array(
        sorted(range(len(symbols)), key=lambda number: (elements.index(symbols[number]), number)), dtype=int
    )


def to_pymatgen(structure: MagneticStructure, magnetism: VaspMagnetism) -> Structure:
    """The structure in VASP's order, with MAGMOM as the site property that atomate2 reads."""
    from pymatgen.core import Structure

    order = vasp_order(structure.symbols)
    starts = magnetism.starts[order]
    moments = [[float(part) for part in one] for one in starts] if starts.ndim == 2 else [float(one) for one in starts]
    return Structure(
        structure.cell,
        [structure.symbols[number] for number in order],
        np.asarray(structure.positions)[order],
        coords_are_cartesian=True,
        site_properties={"magmom": moments},
    )


def incar_tags(structure: MagneticStructure, settings: VaspSettings, magnetism: VaspMagnetism) -> dict[str, Any]:
    """All tags that decide numbers, apart from MAGMOM, which stands at the sites."""
    tags: dict[str, Any] = {
        "ALGO": "Normal", "PREC": "Accurate", "LREAL": False, "LASPH": True, "ADDGRID": False, "LMIXTAU": None,
        "ENCUT": settings.cutoff, "EDIFF": settings.energy_convergence, "NELM": settings.max_iterations,
        "ISMEAR": ISMEAR[settings.smearing], "SIGMA": settings.smearing_width,
        "NSW": 0, "IBRION": -1, "ISIF": 2, "LORBIT": 11, "LWAVE": False, "LCHARG": False, "LAECHG": False,
        "LELF": False, "LVTOT": False, "GGA": None if "METAGGA" in settings.incar else "PE",  # atomate2's own is PBEsol
        "ISPIN": 1 if magnetism.kind == "none" else 2, "NBANDS": settings.bands, "KSPACING": None,
        **settings.incar,
    }  # fmt: skip
    if not settings.symmetry or magnetism.kind == "noncollinear":
        # VASP's symmetry of non-collinear moments is trusted by no one who compares directions
        tags["ISYM"] = -1
    if magnetism.kind == "noncollinear":
        tags |= {"LNONCOLLINEAR": True, "LSORBIT": settings.spin_orbit, "SAXIS": [0, 0, 1], "GGA_COMPAT": False}
        del tags["ISPIN"]
    if settings.fix_total_magmom and magnetism.kind == "collinear":
        tags["NUPDOWN"] = float(magnetism.starts.sum())
    return tags


def static_maker(structure: MagneticStructure, settings: VaspSettings, command: str | None = None) -> StaticMaker:
    """atomate2's StaticMaker for a structure: ``maker.make(to_pymatgen(structure, …))`` is a job of atomate2's own.

    ``command`` is how VASP is run; None: as atomate2 is configured. Raises UserError for moments that it cannot treat.
    """
    from atomate2.vasp.jobs.core import StaticMaker
    from atomate2.vasp.sets.core import StaticSetGenerator
    from pymatgen.io.vasp import Kpoints

    magnetism = magnetism_of(structure, settings)
    tags = incar_tags(structure, settings, magnetism)
    if magnetism.kind == "none":
        tags["MAGMOM"] = None
    generator = StaticSetGenerator(
        user_incar_settings=tags,
        user_kpoints_settings=Kpoints.gamma_automatic(settings.grid(structure.cell)),  # type: ignore[arg-type]
        user_potcar_settings={element: potcar.symbol for element, potcar in settings.potcars.items()},
        user_potcar_functional=settings.potcar_functional,  # type: ignore[arg-type]
        sort_structure=False,  # it would sort by electronegativity, and the labels would be of other atoms
        auto_ismear=False,
        auto_ispin=False,
        validate_magmom=False,
    )
    run = {} if command is None else {"vasp_cmd": command, "vasp_gamma_cmd": command}
    return StaticMaker(input_set_generator=generator, run_vasp_kwargs=run)
