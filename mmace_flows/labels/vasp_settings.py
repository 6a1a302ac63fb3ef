"""Settings of one VASP calculation: everything that decides its numbers, and nothing else."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mmace_flows.schemas.document import Document
from mmace_flows.schemas.kpoints import SPACING, kpoint_grid

ISMEAR = {"fermi-dirac": -1, "gaussian": 0, "methfessel-paxton": 1}
# tags that other settings, the moments or the structure decide
OWN_TAGS = (
    "ENCUT", "EDIFF", "ISMEAR", "SIGMA", "NELM", "NBANDS", "ISYM", "ISPIN", "MAGMOM", "LSORBIT", "LNONCOLLINEAR",
    "SAXIS", "NUPDOWN", "NSW", "IBRION", "ISIF", "LORBIT", "KSPACING", "KGAMMA", "LVEL",
)  # fmt: skip
# tags whose part of the energy is no property of the moments that come out
PENALTIES = ("I_CONSTRAINED_M", "LAMBDA", "M_CONSTR", "RWIGS")


class Potcar(Document):
    """One POTCAR: its name in the folder of a functional, and what is in it."""

    symbol: str = Field(description="name in the folder of PMG_VASP_PSP_DIR, for example Fe_pv")
    sha256: str | None = Field(default=None, description="SHA-256 of the file; filled in before anything is computed")


class VaspSettings(Document):
    """One static calculation with VASP: spin-paired, collinear or non-collinear, with or without spin–orbit coupling.

    Moments decide the kind: all zero is spin-paired, along one axis is collinear, anything else is non-collinear.
    """

    cutoff: float = Field(default=400.0, gt=0.0, description="plane-wave cutoff (ENCUT), eV")
    potcar_functional: str = Field(default="PBE_54", description="family of POTCAR files, as pymatgen names it")
    potcars: dict[str, Potcar] = Field(
        default_factory=dict, description="POTCAR per element, Fe: Fe_pv; atomate2's choice for the rest"
    )
    kpoints: tuple[int, int, int] | None = Field(
        default=None, description="grid of the cell as given, with Γ; the same for every cell"
    )
    kpoint_spacing: float | None = Field(
        default=None,
        gt=0.0,
        description=SPACING,
    )
    smearing: Literal["fermi-dirac", "gaussian", "methfessel-paxton"] = Field(
        default="fermi-dirac", description="occupations (ISMEAR); the free energy belongs to the forces"
    )
    smearing_width: float = Field(default=0.1, gt=0.0, description="SIGMA, eV")
    bands: int | None = Field(default=None, gt=0, description="number of bands (NBANDS); None: VASP's choice")
    symmetry: bool = Field(default=True, description="use symmetry (ISYM) where spin–orbit coupling allows it")
    noncollinear: bool = Field(default=False, description="non-collinear also where the moments lie along one axis")
    spin_orbit: bool = Field(default=False, description="spin–orbit coupling (LSORBIT), moments in the lab frame")
    fix_total_magmom: bool = Field(
        default=False, description="hold the total moment of a collinear cell at the sum of the initial ones (NUPDOWN)"
    )
    energy_convergence: float = Field(default=1e-6, gt=0.0, description="EDIFF, eV per cell")
    max_iterations: int = Field(default=120, gt=0, description="NELM; beyond, it counts as not converged")
    incar: dict[str, Any] = Field(
        default_factory=dict, description="further tags of the INCAR, such as GGA, METAGGA, LDAU…, ALGO"
    )

    @field_validator("potcars", mode="before")
    @classmethod
    def _plain_names(cls, given: Any) -> Any:
        """``Fe: Fe_pv`` is short for ``Fe: {symbol: Fe_pv}``."""
        if not isinstance(given, dict):
            return given
        return {element: {"symbol": value} if isinstance(value, str) else value for element, value in given.items()}

    @field_validator("incar")
    @classmethod
    def _not_ours(cls, tags: dict[str, Any]) -> dict[str, Any]:
        for tag in tags:
            if tag != tag.upper():
                raise ValueError(f"tag {tag}: write tags in capitals, {tag.upper()}")
            if tag in OWN_TAGS:
                raise ValueError(f"tag {tag} follows from other settings or from the structure; leave it out")
            if tag in PENALTIES:
                raise ValueError(f"tag {tag}: the penalty of constrained moments would be in the label's energy")
        return tags

    @model_validator(mode="after")
    def _consistent(self) -> VaspSettings:
        if (self.kpoints is None) == (self.kpoint_spacing is None):
            raise ValueError("give exactly one of kpoints (a grid) and kpoint_spacing (Å⁻¹)")
        if self.kpoints is not None and min(self.kpoints) < 1:
            raise ValueError(f"kpoints {self.kpoints}: every number must be at least 1")
        if self.fix_total_magmom and (self.noncollinear or self.spin_orbit):
            raise ValueError("fix_total_magmom: only for collinear moments without spin_orbit")
        return self

    @classmethod
    def small(cls, **changes: Any) -> VaspSettings:
        """Good for order and sign."""
        grid = {} if changes.get("kpoints") is not None else {"kpoint_spacing": 0.05}
        return cls(**{"cutoff": 400.0, **grid, **changes})

    @classmethod
    def paper(cls, **changes: Any) -> VaspSettings:
        """As fine as the paper's GPAW and Quantum ESPRESSO settings."""
        grid = {} if changes.get("kpoints") is not None else {"kpoint_spacing": 0.03}
        return cls(**{"cutoff": 600.0, "energy_convergence": 1e-8, **grid, **changes})

    def safer(self) -> VaspSettings:
        """The same physics with steadier iterations: all bands at once, small steps in the moments, more iterations."""
        slower = {"ALGO": "All", "AMIX": 0.1, "BMIX": 0.0001, "AMIX_MAG": 0.4, "BMIX_MAG": 0.0001}
        return self.model_copy(update={"incar": {**self.incar, **slower}, "max_iterations": 2 * self.max_iterations})

    def grid(self, cell: Any) -> tuple[int, int, int]:
        """Number of k-points along each reciprocal vector of ``cell`` [3,3] Å."""
        if self.kpoints is not None:
            return self.kpoints
        assert self.kpoint_spacing is not None
        return kpoint_grid(cell, self.kpoint_spacing)
