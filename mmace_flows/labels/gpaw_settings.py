"""Settings of one GPAW calculation: everything that decides its numbers, and nothing else."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mmace_flows.schemas.document import Document
from mmace_flows.schemas.kpoints import SPACING, Grid, kpoint_grid


class MixerSettings(Document):
    """How the density of one iteration becomes that of the next."""

    name: Literal["msr1", "pulay"] = Field(default="msr1", description="GPAW's mixer: multi-secant rank-1, or Pulay")
    beta: float = Field(default=0.05, gt=0.0, le=1.0, description="fraction of the new density in a plain step")
    history: int = Field(default=10, gt=0, description="densities remembered")
    weight: float = Field(default=20.0, gt=0.0, description="weight of long wavelengths in the metric")

    def to_gpaw(self) -> dict[str, Any]:
        """GPAW's own dictionary."""
        return {"name": self.name, "beta": self.beta, "nmaxold": self.history, "weight": self.weight}


class GPAWSettings(Document):
    """One plane-wave calculation with GPAW, without spin–orbit coupling.

    Moments decide the kind: all zero is spin-paired, along one axis is collinear, anything else is non-collinear, which
    GPAW does in LDA only.
    """

    cutoff: float = Field(default=340.0, gt=0.0, description="plane-wave cutoff, eV")
    xc: str = Field(default="PBE", description="exchange–correlation functional")
    kpoints: tuple[int, int, int] | None = Field(
        default=None, description="Monkhorst–Pack grid of the cell as given; the same for every cell"
    )
    kpoint_spacing: float | None = Field(
        default=None,
        gt=0.0,
        description=SPACING,
    )
    gamma: bool | None = Field(
        default=None,
        description="True: grid moved to contain Γ; None: as Monkhorst and Pack have it (even grids avoid Γ, and "
        "break the symmetry of hexagonal and face-centred lattices)",
    )
    smearing: Literal["fermi-dirac", "marzari-vanderbilt", "methfessel-paxton"] = Field(
        default="fermi-dirac", description="occupations; the free energy belongs to the forces"
    )
    smearing_width: float = Field(default=0.1, ge=0.0, description="eV")
    fix_total_magmom: bool = Field(
        default=False,
        description="hold the total moment of the cell at the sum of the initial moments (fixed spin moment): energies "
        "and magnetic forces at moments that are not self-consistent",
    )
    direction_penalty: float | None = Field(
        default=None,
        gt=0.0,
        description="hold the directions of the moments: λ of the penalty λ Σ(|m|² − (m·u)²), eV/μB²; 10 holds them to "
        "half a degree. Needs xc LDA; gives magnetic forces",
    )
    bands: int | str | None = Field(default=None, description="number of bands; '120%' of the occupied; None: GPAW's")
    setups: dict[str, str] = Field(default_factory=dict, description="PAW setup per element; GPAW's own for the rest")
    symmetry: bool = Field(default=True, description="use point-group symmetry to save k-points")
    energy_convergence: float = Field(default=5e-4, gt=0.0, description="last three energies within, eV per electron")
    density_convergence: float = Field(
        default=1e-4, gt=0.0, description="change of the density, electrons per electron"
    )
    eigenstates_convergence: float = Field(default=4e-8, gt=0.0, description="residual, eV² per electron")
    forces_convergence: float | None = Field(
        default=None, gt=0.0, description="change of the forces, eV/Å; None: unused"
    )
    mixer: MixerSettings = Field(default_factory=MixerSettings)
    cutoff_slope: float = Field(
        default=0.0,
        le=0.0,
        description="dE/dcutoff, eV per eV and atom, measured once. The stress becomes that of energies at "
        "a fixed cutoff, σ + ⅔·cutoff·slope·N/V; 0: GPAW's own stress, that of a fixed set of plane waves",
    )
    eigensolver: Literal["davidson", "ppcg"] = Field(
        default="davidson", description="RMM-DIIS is left out: it diverged for distorted FeNi"
    )
    eigensolver_steps: int = Field(default=2, gt=0, description="steps per iteration")
    max_iterations: int = Field(default=333, gt=0, description="SCF iterations before it counts as not converged")

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of labels are hashes of these settings: a setting that came later may not change those of older ones."""
        values: dict[str, Any] = dump(self)
        if values.get("direction_penalty") is None:
            values.pop("direction_penalty", None)
        return values

    @model_validator(mode="after")
    def _one_kind_of_grid(self) -> GPAWSettings:
        if (self.kpoints is None) == (self.kpoint_spacing is None):
            raise ValueError("give exactly one of kpoints (a grid) and kpoint_spacing (Å⁻¹)")
        if self.kpoints is not None and min(self.kpoints) < 1:
            raise ValueError(f"kpoints {self.kpoints}: every number must be at least 1")
        if self.direction_penalty is not None and self.xc != "LDA":
            raise ValueError(f"direction_penalty: non-collinear moments are LDA in GPAW; set xc: LDA, not {self.xc}")
        if self.direction_penalty is not None and self.fix_total_magmom:
            raise ValueError("direction_penalty: not together with fix_total_magmom, which is for collinear moments")
        return self

    @classmethod
    def small(cls, **changes: Any) -> GPAWSettings:
        """For two cores and minutes, chosen by ``benchmarks/gpaw_small_preset.py`` for the four-atom FeNi cells.

        One grid for every cell keeps energies along the Bain path comparable. An even grid in the plane, off Γ: with
        3 × 3 × 2 energies of fcc and bcc are wrong by 90 meV per atom against each other. The slope takes 2.6 GPa of
        Pulay stress out of the stress labels, so that they agree with the energies.
        """
        chosen = {"cutoff": 300.0, "kpoints": (4, 4, 2), "smearing_width": 0.1, "bands": 32, "cutoff_slope": -1.0e-3}
        return cls(**{**chosen, **changes})

    @classmethod
    def paper(cls, **changes: Any) -> GPAWSettings:
        """The paper's: PBE, 600 eV, Monkhorst–Pack grids at 0.03 Å⁻¹, GPAW's default convergence.

        At 0.03 Å⁻¹ the 2π is left out: with it a four-atom cell would need a grid of about 80 × 80 × 40.
        The paper relaxes at fixed cell until forces are below 1e-4 eV/Å: see ``RelaxSettings.paper``.
        """
        return cls(**{"cutoff": 600.0, "kpoint_spacing": 0.03, "smearing_width": 0.1, **changes})

    def safer(self) -> GPAWSettings:
        """The same physics with slower, steadier iterations, for a second attempt.

        Pulay mixing with a small step and a long history, more bands' updates per iteration, twice the iterations.
        Cutoff, k-points, smearing, bands and convergence stay, so that energies remain comparable.
        """
        return self.model_copy(
            update={
                "mixer": MixerSettings(name="pulay", beta=0.02, history=20, weight=50.0),
                "eigensolver": "davidson",
                "eigensolver_steps": max(3, self.eigensolver_steps),
                "max_iterations": 2 * self.max_iterations,
            }
        )

    def pulay_stress(self, cell: Any, num_atoms: int) -> float:
        """Pressure-like term σ_P, eV/Å³, that is added to the diagonal of GPAW's stress."""
        volume = abs(float(np.linalg.det(np.asarray(cell, dtype=float))))
        return 2.0 / 3.0 * self.cutoff * self.cutoff_slope * num_atoms / volume

    def grid(self, cell: Any) -> Grid:
        """Number of k-points along each reciprocal vector of ``cell`` [3,3] Å."""
        if self.kpoints is not None:
            return self.kpoints
        assert self.kpoint_spacing is not None
        return kpoint_grid(cell, self.kpoint_spacing)

    def to_gpaw(self, cell: Any, spin_polarised: bool = True) -> dict[str, Any]:
        """Keyword arguments of ``gpaw.GPAW`` for this cell, apart from the text file."""
        kpts: dict[str, Any] = {"size": self.grid(cell)}
        if self.gamma is not None:
            kpts["gamma"] = self.gamma
        occupations: dict[str, Any] = {"name": self.smearing, "width": self.smearing_width}
        if self.smearing == "methfessel-paxton":
            occupations["order"] = 1
        if self.fix_total_magmom and spin_polarised:
            occupations["fixmagmom"] = True
        convergence: dict[str, Any] = {
            "energy": self.energy_convergence,
            "density": self.density_convergence,
            "eigenstates": self.eigenstates_convergence,
        }
        if self.forces_convergence is not None:
            convergence["forces"] = self.forces_convergence
        arguments: dict[str, Any] = {
            "mode": {"name": "pw", "ecut": self.cutoff},
            "xc": self.xc,
            "kpts": kpts,
            "occupations": occupations,
            "convergence": convergence,
            "mixer": self.mixer.to_gpaw(),
            "eigensolver": {"name": self.eigensolver, "niter": self.eigensolver_steps},
            "maxiter": self.max_iterations,
        }
        if not self.symmetry:
            arguments["symmetry"] = {"point_group": False}
        if self.bands is not None:
            arguments["nbands"] = self.bands
        if self.setups:
            arguments["setups"] = dict(self.setups)
        return arguments
