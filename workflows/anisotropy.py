"""Magnetocrystalline anisotropy of L1_0 FePt (ferromagnetic) and FeMn (ferrimagnetic) by GPAW and the force theorem.

One collinear ground state per crystal, Σ f ε with spin–orbit coupling on a Lebedev set of directions, K1 about the
four-fold axis.
"""

from __future__ import annotations

from ase import Atoms
from jobflow import Flow
from pydantic import BaseModel, ConfigDict, Field

from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings
from mmace_flows.labels.spin_orbit_maker import SpinOrbitMaker
from mmace_flows.properties.anisotropy_maker import AnisotropyMaker
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.moments import magnetic_state


class Crystal(BaseModel):
    """Two atoms of an L1_0 crystal in its primitive tetragonal cell."""

    model_config = ConfigDict(extra="forbid")

    elements: tuple[str, str] = Field(description="at the corner and in the middle of the cell")
    a: float = Field(gt=0.0, description="side of the square base, Å")
    c: float = Field(gt=0.0, description="height, Å")
    magmoms: tuple[float, float] = Field(description="at the start, μB")


FEPT = Crystal(elements=("Fe", "Pt"), a=2.724, c=3.712, magmoms=(3.0, 0.4))
FEMN = Crystal(elements=("Fe", "Mn"), a=2.55, c=3.55, magmoms=(1.6, -1.7))


class AnisotropySettings(BaseModel):
    """Everything that decides the campaign's numbers."""

    model_config = ConfigDict(extra="forbid")

    spin_orbit: SpinOrbitSettings = Field(description="ground state, bands and directions")
    crystals: dict[str, Crystal] = Field(default={"FePt": FEPT, "FeMn": FEMN}, description="name → crystal")
    seconds_per_direction: float = Field(gt=0.0, description="core-seconds of one direction, for the estimate only")
    seconds_per_ground_state: float = Field(gt=0.0, description="core-seconds of one ground state, likewise")


def spin_orbit(cutoff: float, kpoints: tuple[int, int, int], width: float, directions: str) -> SpinOrbitSettings:
    """Settings of this study: one grid for both crystals, densities converged to 1e-5."""
    # a grid with Γ keeps the symmetry of the crystal whatever its size: even and odd grids converge as one
    dft = GPAWSettings(cutoff=cutoff, kpoints=kpoints, gamma=True, smearing_width=width, density_convergence=1e-5)
    return SpinOrbitSettings(dft=dft, directions=directions)


PRESETS: dict[str, AnisotropySettings] = {
    "small": AnisotropySettings(
        spin_orbit=spin_orbit(400.0, (8, 8, 6), 0.05, "lebedev:26"),
        seconds_per_direction=5.0,
        seconds_per_ground_state=150.0,
    ),
    "paper": AnisotropySettings(
        spin_orbit=spin_orbit(600.0, (20, 20, 14), 0.05, "lebedev:146"),
        seconds_per_direction=40.0,
        seconds_per_ground_state=3000.0,
    ),
    "tiny": AnisotropySettings(
        spin_orbit=spin_orbit(250.0, (3, 3, 2), 0.2, "lebedev:14"),
        crystals={"FePt": FEPT},
        seconds_per_direction=0.5,
        seconds_per_ground_state=10.0,
    ),
}


def candidates(settings: AnisotropySettings) -> dict[str, Candidate]:
    """One structure per crystal."""
    found = {}
    for name, crystal in settings.crystals.items():
        atoms = Atoms(
            list(crystal.elements),
            scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]],
            cell=[crystal.a, crystal.a, crystal.c],
            pbc=True,
        )
        structure = MagneticStructure.from_atoms(atoms, crystal.magmoms)
        found[name] = Candidate(
            structure=structure,
            operation="crystal",
            magnetic_state=magnetic_state(structure.magmoms),
            details={"base": name},
        )
    return found


def build(settings: AnisotropySettings, campaign: str) -> Flow:
    """A force-theorem run per crystal, and what they say."""
    maker = SpinOrbitMaker(settings=settings.spin_orbit)
    runs = {name: maker.make(candidate, campaign) for name, candidate in candidates(settings).items()}
    found = AnisotropyMaker().make({name: run.output for name, run in runs.items()}, campaign)
    return Flow([*runs.values(), found], output=found.output, name=campaign)


def estimate(settings: AnisotropySettings) -> CostEstimate:
    """Jobs and core-seconds of each stage."""
    from mmace_flows.structures.directions import directions

    count = len(directions(settings.spin_orbit.directions)) + 2 * (settings.spin_orbit.cuts + 1)
    each = settings.seconds_per_ground_state + count * settings.seconds_per_direction
    runs = StageEstimate(stage="soc", jobs=len(settings.crystals), core_seconds_per_job=each)
    return CostEstimate(stages=[runs, StageEstimate(stage="anisotropy", jobs=1, core_seconds_per_job=1.0)])
