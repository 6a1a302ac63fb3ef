"""Settings of one Quantum ESPRESSO calculation: everything that decides its numbers, and nothing else."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mmace_flows.schemas.document import Document
from mmace_flows.schemas.kpoints import SPACING, Grid, kpoint_grid


class Pseudopotential(Document):
    """One UPF file: its name in the folder of pseudopotentials, and what is in it."""

    file: str = Field(description="name in the folder MMACE_PSEUDO_DIR, for example Fe.upf")
    sha256: str | None = Field(default=None, description="SHA-256 of the file; filled in before anything is computed")

    @field_validator("file")
    @classmethod
    def _a_name_only(cls, name: str) -> str:
        if not name or "/" in name or "'" in name or any(letter.isspace() for letter in name):
            raise ValueError(f"pseudopotential '{name}': give a file's name without folder, spaces and quotes")
        return name


class MixingSettings(Document):
    """How the density of one iteration becomes that of the next."""

    mode: Literal["plain", "TF", "local-TF"] = Field(default="plain", description="pw.x's mixing_mode")
    beta: float = Field(default=0.3, gt=0.0, le=1.0, description="fraction of the new density in a plain step")
    history: int = Field(default=8, gt=0, le=24, description="densities remembered")


class EspressoSettings(Document):
    """One plane-wave calculation with pw.x: spin-paired, collinear or non-collinear, with or without spin–orbit.

    Moments decide the kind: all zero is spin-paired, along one axis is collinear, anything else is non-collinear.
    """

    cutoff: float = Field(default=544.0, gt=0.0, description="plane-wave cutoff of the wavefunctions, eV")
    density_cutoff: float | None = Field(
        default=None,
        gt=0.0,
        description="plane-wave cutoff of the density, eV; None: four times the cutoff for norm-conserving "
        "pseudopotentials, ten times where one is ultrasoft or PAW",
    )
    xc: str = Field(default="PBE", description="functional that the pseudopotentials must be made for")
    pseudopotentials: dict[str, Pseudopotential] = Field(
        default_factory=dict, description="UPF file per element; the folder's own for the rest (see docs/espresso.md)"
    )
    kpoints: Grid | None = Field(
        default=None, description="Monkhorst–Pack grid of the cell as given; the same for every cell"
    )
    kpoint_spacing: float | None = Field(
        default=None,
        gt=0.0,
        description=SPACING,
    )
    gamma: bool | None = Field(
        default=None,
        description="True: grid contains Γ; None: as Monkhorst and Pack have it (even grids avoid Γ)",
    )
    smearing: Literal["fermi-dirac", "gaussian", "marzari-vanderbilt", "methfessel-paxton"] = Field(
        default="fermi-dirac", description="occupations; the free energy belongs to the forces"
    )
    smearing_width: float = Field(default=0.1, gt=0.0, description="eV")
    bands: int | None = Field(default=None, gt=0, description="number of bands; None: pw.x's choice")
    symmetry: bool = Field(default=True, description="use symmetry to save k-points")
    noncollinear: bool = Field(
        default=False, description="non-collinear also where the moments lie along one axis; slower, the same numbers"
    )
    spin_orbit: bool = Field(
        default=False, description="spin–orbit coupling; needs fully relativistic pseudopotentials"
    )
    fix_total_magmom: bool = Field(
        default=False,
        description="hold the total moment of a collinear cell at the sum of the initial moments (fixed spin moment)",
    )
    constraint: Literal["none", "atomic", "atomic direction"] = Field(
        default="none",
        description="penalty that holds the moments near the initial ones. atomic: whole vectors; atomic direction: "
        "only the angle with z, as pw.x has it. Gives magnetic forces",
    )
    constraint_stiffness: float = Field(
        default=5.0,
        gt=0.0,
        description="κ of the penalty κ Σ|m − m0|², eV/μB², or κ Σ(cos θ − cos θ0)², eV: the larger, the closer to the "
        "moments asked for and the harder to converge",
    )
    energy_convergence: float = Field(
        default=1e-8, gt=0.0, description="estimated error of the total energy at the end, eV per cell"
    )
    mixing: MixingSettings = Field(default_factory=MixingSettings)
    diagonalization: Literal["david", "cg"] = Field(default="david", description="eigensolver")
    max_iterations: int = Field(default=150, gt=0, description="SCF iterations before it counts as not converged")

    @field_validator("pseudopotentials", mode="before")
    @classmethod
    def _plain_names(cls, given: Any) -> Any:
        """``Fe: Fe.upf`` is short for ``Fe: {file: Fe.upf}``."""
        if not isinstance(given, dict):
            return given
        return {element: {"file": value} if isinstance(value, str) else value for element, value in given.items()}

    @model_validator(mode="after")
    def _consistent(self) -> EspressoSettings:
        if (self.kpoints is None) == (self.kpoint_spacing is None):
            raise ValueError("give exactly one of kpoints (a grid) and kpoint_spacing (Å⁻¹)")
        if self.kpoints is not None and min(self.kpoints) < 1:
            raise ValueError(f"kpoints {self.kpoints}: every number must be at least 1")
        if self.density_cutoff is not None and self.density_cutoff < 4.0 * self.cutoff:
            raise ValueError(f"density_cutoff {self.density_cutoff:g} eV: must be at least four times the cutoff")
        if self.fix_total_magmom and (self.noncollinear or self.spin_orbit or self.constraint != "none"):
            raise ValueError("fix_total_magmom: only for collinear moments without spin_orbit and without constraint")
        return self

    @classmethod
    def small(cls, **changes: Any) -> EspressoSettings:
        """For two cores and minutes: a few atoms with Debian's ultrasoft files.

        Bcc Fe at 50 Ry (its file with semicore states, 16 electrons): the energy of the magnetic order is right to
        1 meV, that of 4 % of the lattice constant to 4 meV per atom, the pressure to 6 GPa, against 70 Ry.
        Norm-conserving files want more: see docs/espresso.md.
        """
        chosen = {"cutoff": 680.0, "smearing_width": 0.1, **_grid(changes, 0.09)}
        return cls(**{**chosen, **changes})

    @classmethod
    def paper(cls, **changes: Any) -> EspressoSettings:
        """The paper's for Mn3Pt: PBE, 816 eV (60 Ry), k-point spacing 0.29 Å⁻¹ with the 2π, that is 0.046 without."""
        chosen = {"cutoff": 816.0, "smearing_width": 0.1, "energy_convergence": 1e-9, **_grid(changes, 0.046)}
        return cls(**{**chosen, **changes})

    def safer(self) -> EspressoSettings:
        """The same physics with slower, steadier iterations, for a second attempt.

        A smaller step, a longer history, conjugate gradients and twice the iterations. Cutoffs, k-points, smearing,
        penalty and convergence stay, so that energies remain comparable.
        """
        return self.model_copy(
            update={
                "mixing": MixingSettings(mode=self.mixing.mode, beta=min(0.1, self.mixing.beta / 2), history=12),
                "diagonalization": "cg",
                "max_iterations": 2 * self.max_iterations,
            }
        )

    def grid(self, cell: Any) -> Grid:
        """Number of k-points along each reciprocal vector of ``cell`` [3,3] Å."""
        if self.kpoints is not None:
            return self.kpoints
        assert self.kpoint_spacing is not None
        return kpoint_grid(cell, self.kpoint_spacing)

    def grid_shift(self, grid: Grid) -> Grid:
        """pw.x's half-step shifts: a grid of Monkhorst and Pack avoids Γ along even directions."""
        x, y, z = (0 if self.gamma or number % 2 else 1 for number in grid)
        return x, y, z


def _grid(changes: dict[str, Any], spacing: float) -> dict[str, float]:
    """A preset's spacing gives way to a grid of the user's."""
    return {} if changes.get("kpoints") is not None else {"kpoint_spacing": spacing}
