"""The engine-neutral label document: one DFT calculation, with everything needed to make it again."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.kpoints import grid_in_key
from mmace_flows.schemas.structure import Candidate, MagneticState, MagneticStructure

LABEL_SCHEMA_VERSION = 1


class LabelDocument(Document):
    """What an engine computed for one structure. N atoms."""

    schema_version: int = LABEL_SCHEMA_VERSION
    label_key: str = Field(description="hash of structure (with initial moments), engine and settings")
    status: Literal["converged", "failed"] = Field(description="failed: set aside, never trained on")
    error: str | None = Field(default=None, description="why it failed, one line")

    structure: MagneticStructure = Field(description="input geometry, with the initial moments asked for")
    energy: float | None = Field(default=None, description="total energy, eV (extrapolated to zero smearing)")
    free_energy: float | None = Field(default=None, description="energy consistent with the forces, eV")
    forces: list[list[float]] | None = Field(default=None, description="[N,3] eV/Å")
    stress: list[list[float]] | None = Field(default=None, description="[3,3] eV/Å³, ASE's sign")
    magmoms: list[list[float]] | None = Field(default=None, description="[N,3] converged atomic moments, μB")
    magnetic_forces: list[list[float]] | None = Field(default=None, description="[N,3] −∂E/∂m, eV/μB, if available")
    total_magmom: float | None = Field(default=None, description="total moment of the cell along z, μB")

    magnetic_state_asked: MagneticState = Field(description="state of the initial moments")
    magnetic_state_reached: MagneticState | None = Field(default=None, description="state of the converged moments")
    ordering_changed: bool | None = Field(default=None, description="asked and reached differ")

    engine: str = Field(description="gpaw, espresso, vasp")
    engine_version: str
    settings: dict[str, Any] = Field(description="complete engine settings: enough to make the number again")
    attempts: list[str] = Field(default_factory=list, description="outcome of each attempt (safer mixing on retry)")
    scf_iterations: int | None = None
    details: dict[str, Any] = Field(
        default_factory=dict,
        description="what the engine decided itself, such as k-points and bands, and its SCF history if it gives one",
    )
    wall_seconds: float | None = None
    cores: int = 1
    host: str | None = None
    created: str = Field(description="ISO 8601 time, UTC")
    code_version: str = Field(description="version of mmace-flows")

    candidate: Candidate = Field(description="where the structure comes from")
    campaign: str | None = Field(default=None, description="campaign that first asked for it")


def label_key(structure: MagneticStructure, engine: str, settings: dict[str, Any]) -> str:
    """The key under which a label is stored and found again."""
    grid = grid_in_key(structure.cell, settings)
    return content_hash([LABEL_SCHEMA_VERSION, structure.hash(), engine, settings, *grid])
