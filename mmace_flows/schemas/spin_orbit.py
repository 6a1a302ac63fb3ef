"""Energies with spin–orbit coupling for many directions of the moments: one document per parent structure."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.kpoints import grid_in_key
from mmace_flows.schemas.structure import MagneticState, MagneticStructure

SPIN_ORBIT_SCHEMA_VERSION = 1


class SpinOrbitDocument(Document):
    """What the magnetic force theorem gave for one structure. N atoms, D directions."""

    schema_version: int = SPIN_ORBIT_SCHEMA_VERSION
    spin_orbit_key: str = Field(description="hash of structure (with initial moments), engine and settings")
    status: Literal["converged", "failed"] = Field(description="failed: the ground state did not converge")
    error: str | None = Field(default=None, description="why it failed, one line")

    structure: MagneticStructure = Field(description="input geometry, with the initial moments asked for")
    parent: str = Field(description="structure hash without moments: directions of one parent belong together")
    directions: list[list[float]] = Field(
        default=[], description="[D,3] unit vectors that positive moments point along"
    )
    energies: list[float] = Field(default=[], description="[D] Σ f ε with spin–orbit coupling, eV per cell [B1]")
    lengths: list[float] = Field(default=[], description="[N] signed atomic moments of the collinear state, μB")
    free_energy: float | None = Field(default=None, description="of the collinear state, eV per cell")
    magnetic_state_reached: MagneticState | None = None

    opposite_error: float | None = Field(
        default=None, description="largest |E(n) − E(−n)|, eV per cell: zero but for the cut of the bands"
    )
    bands: int | None = Field(default=None, description="bands that take part, per spin")
    band_cuts: dict[str, float] = Field(
        default={}, description="bands → E(second) − E(first probe direction), eV per cell: the study of the cut"
    )
    band_cut_error: float | None = Field(default=None, description="spread of the last cuts, eV per cell")

    engine: str
    engine_version: str
    settings: dict[str, Any] = Field(description="complete settings: enough to make the numbers again")
    seconds_per_direction: float | None = None
    wall_seconds: float | None = None
    host: str | None = None
    created: str = Field(description="ISO 8601 time, UTC")
    code_version: str = Field(description="version of mmace-flows")
    campaign: str | None = None


def spin_orbit_key(structure: MagneticStructure, engine: str, settings: dict[str, Any]) -> str:
    """The key under which a document is stored and found again."""
    grid = grid_in_key(structure.cell, settings.get("dft", {}))
    return content_hash(["spin-orbit", SPIN_ORBIT_SCHEMA_VERSION, structure.hash(), engine, settings, *grid])
