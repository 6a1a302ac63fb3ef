"""Anisotropy as a potential predicts it, and the table that users ask: one entry per parent crystal and ordering."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.structure import MagneticState, MagneticStructure

PREDICTION_SCHEMA_VERSION = 1
ENTRY_SCHEMA_VERSION = 1

Level = Literal["model", "DFT"]


class AnisotropyValues(Document):
    """What is known of one ordering of one crystal at one level."""

    strength_mev_per_atom: float = Field(description="ΔE_A [29], meV per atom")
    k1: float = Field(description="MJ/m³; of `symmetry`: uniaxial [30] about ``axis``, or cubic")
    k2: float = Field(description="MJ/m³, likewise")
    k1_mev_per_atom: float = Field(description="K1·V, meV per atom")
    k1_mev_per_formula: float = Field(description="K1·V, meV per formula unit")
    symmetry: Literal["uniaxial", "cubic"] = Field(description="which expansion K1 and K2 belong to")
    easy: list[float] = Field(description="[3] unit vector of the lowest energy")
    hard: list[float] = Field(description="[3] unit vector of the highest energy")
    axis: list[float] = Field(description="[3] axis of the uniaxial constants")
    easy_kind: Literal["axis", "plane", "cone", "none"] = Field(description="what the easy directions form")
    degree: int = Field(description="largest degree of the harmonics")
    coefficients: list[float] = Field(description="eV per cell, even harmonics of degree 2, 4, …: the surface itself")
    fit_error: float = Field(description="RMS of what the harmonics leave, eV per cell")
    symmetry_error: float | None = Field(
        default=None,
        description="largest difference of directions that the magnetic crystal makes alike, eV per cell; None from a "
        "model, which has the symmetry exactly",
    )
    spread: float | None = Field(
        default=None,
        description="of K1 over a committee, or over the cut of the bands and what DFT lacks of symmetry, MJ/m³",
    )
    polarization: float = Field(description="μ0 Ms, T")
    anisotropy_field: float | None = Field(description="μ0 Ha = 2 K1 μ0/(μ0 Ms) as a field, T; None without net moment")
    hardness: float | None = Field(description="κ = sqrt(|K1|/(μ0 Ms²)); None without net moment")
    energy_per_atom: float | None = Field(description="eV; None from a model that knows only anisotropy")
    source: str = Field(description="spin_orbit_key or prediction_key of the document that says so")
    method: dict[str, Any] = Field(description="engine and settings hash, or model hash: what made it")
    created: str = Field(description="ISO 8601 time, UTC")


class AnisotropyPrediction(Document):
    """Anisotropy of one structure by a potential, moments relaxed or as given. N atoms."""

    schema_version: int = PREDICTION_SCHEMA_VERSION
    prediction_key: str = Field(description="hash of structure (with moments), model and settings")
    structure: MagneticStructure = Field(description="geometry with the moments at the lowest-energy direction")
    parent: str = Field(description="structure hash without moments")
    ordering: MagneticState
    converged: bool = Field(default=True, description="the moments are as given, or relaxed to the tolerance")
    message: str | None = Field(default=None, description="why the moments did not relax, one line")
    values: AnisotropyValues
    model: str = Field(description="hash of the model, or of the members of a committee")
    settings: dict[str, Any] = Field(description="how moments were relaxed and directions chosen")
    code_version: str
    campaign: str | None = None


class AnisotropyEntry(Document):
    """One row of the table: a parent crystal with one magnetic ordering, the best value on top."""

    schema_version: int = ENTRY_SCHEMA_VERSION
    entry_id: str = Field(description="hash of parent and ordering")
    parent: str = Field(description="structure hash without moments")
    ordering: MagneticState
    formula: str = Field(description="reduced, as pymatgen writes it")
    chemical_system: str = Field(description="elements in alphabetical order, Fe-Pt")
    elements: list[str] = Field(description="in alphabetical order")
    num_elements: int
    num_atoms: int
    space_group: str = Field(description="Hermann–Mauguin symbol, of the crystal without moments")
    space_group_number: int
    crystal_system: str
    volume_per_atom: float = Field(description="Å³")
    structure: MagneticStructure
    magnetization: float = Field(description="net moment, μB per atom")
    energy_above_hull: float | None = Field(
        default=None, description="eV per atom, of what is known at the same level; None where an element is missing"
    )
    level: Level = Field(description="where the values on top come from: DFT where there is one")
    values: AnisotropyValues = Field(description="the best that is known")
    dft: AnisotropyValues | None = None
    model: AnisotropyValues | None = None
    became: MagneticState | None = Field(
        default=None, description="the ordering in which DFT ended that was started in this one, if none stayed"
    )
    campaigns: list[str] = Field(default=[])
    code_version: str
    updated: str = Field(description="ISO 8601 time, UTC")


def prediction_key(structure: MagneticStructure, model: str, settings: dict[str, Any]) -> str:
    """The key under which a prediction is stored and found again."""
    return content_hash(["anisotropy-prediction", PREDICTION_SCHEMA_VERSION, structure.hash(), model, settings])


def entry_id(parent: str, ordering: str) -> str:
    """The key of a row of the table."""
    return content_hash(["anisotropy-entry", parent, ordering])
