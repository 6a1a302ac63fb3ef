"""The anisotropy surface of an entry as points to draw, and model against DFT in numbers and along a great circle."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from mmace_flows.properties.anisotropy import perpendicular
from mmace_flows.properties.anisotropy_values import surface_of
from mmace_flows.schemas.anisotropy_entry import AnisotropyEntry, AnisotropyValues, Level

CIRCLE_POINTS = 91
MEV = 1000.0

# quantity → field of AnisotropyValues, unit
COMPARED: tuple[tuple[str, str, str], ...] = (
    ("K1", "k1", "MJ/m³"),
    ("K2", "k2", "MJ/m³"),
    ("ΔE_A", "strength_mev_per_atom", "meV/atom"),
    ("K1·V", "k1_mev_per_formula", "meV/f.u."),
    ("μ0 Ms", "polarization", "T"),
    ("μ0 Ha", "anisotropy_field", "T"),
    ("κ", "hardness", ""),
)


class SurfacePoints(BaseModel):
    """Energies on a grid of directions: rows from θ = 0 to 180°, columns from φ = 0 to 360°, both ends included."""

    level: Level
    theta: list[float] = Field(description="[T] degrees")
    phi: list[float] = Field(description="[P] degrees")
    energies: list[list[float]] = Field(description="[T,P] meV per atom above the lowest")
    easy: list[float] = Field(description="[3]")
    hard: list[float] = Field(description="[3]")


class Quantity(BaseModel):
    """One quantity by both."""

    name: str
    unit: str
    model: float | None
    dft: float | None
    difference: float | None = Field(description="model − DFT")


class Circle(BaseModel):
    """Energies along the great circle from the easy towards the hard direction of the values on top."""

    degrees: list[float] = Field(description="[C] angle from the easy direction")
    model: list[float] | None = Field(description="[C] meV per atom above the lowest of the circle")
    dft: list[float] | None = Field(description="[C] likewise")


class Comparison(BaseModel):
    """Model against DFT for one entry; None where one of them says nothing."""

    quantities: list[Quantity]
    circle: Circle


def warm_up() -> None:
    """Import what surfaces are computed with, which takes seconds; for a thread beside a server that starts."""
    from mmace_flows.properties.anisotropy import even_harmonics

    even_harmonics(np.eye(3), 8)


def values_at(entry: AnisotropyEntry, level: Level) -> AnisotropyValues | None:
    """What one level says."""
    return entry.dft if level == "DFT" else entry.model


def surface_points(entry: AnisotropyEntry, level: Level, rows: int) -> SurfacePoints | None:
    """The surface at ``rows`` + 1 polar and twice as many azimuthal angles; None if this level says nothing."""
    values = values_at(entry, level)
    if values is None:
        return None
    theta, phi = np.linspace(0.0, np.pi, rows + 1), np.linspace(0.0, 2.0 * np.pi, 2 * rows + 1)
    sine = np.sin(theta)[:, None]
    vectors = np.stack([sine * np.cos(phi), sine * np.sin(phi), np.cos(theta)[:, None] + 0.0 * phi], axis=-1)
    return SurfacePoints(
        level=level,
        theta=np.degrees(theta).round(3).tolist(),
        phi=np.degrees(phi).round(3).tolist(),
        energies=_relative(values, entry.num_atoms, vectors.reshape(-1, 3)).reshape(len(theta), -1).tolist(),
        easy=values.easy,
        hard=values.hard,
    )


def comparison(entry: AnisotropyEntry) -> Comparison:
    """Both levels side by side."""
    angles = np.linspace(0.0, np.pi, CIRCLE_POINTS)
    easy, hard = np.array(entry.values.easy), np.array(entry.values.hard)
    across = hard - (hard @ easy) * easy
    size = np.linalg.norm(across)
    across = across / size if size > 1e-6 else perpendicular(easy)[0]  # no anisotropy: any circle is as good
    vectors = np.cos(angles)[:, None] * easy + np.sin(angles)[:, None] * across

    def along(values: AnisotropyValues | None) -> list[float] | None:
        return None if values is None else _relative(values, entry.num_atoms, vectors).tolist()

    circle = Circle(degrees=np.degrees(angles).round(3).tolist(), model=along(entry.model), dft=along(entry.dft))
    return Comparison(quantities=[_quantity(entry, *one) for one in COMPARED], circle=circle)


def _quantity(entry: AnisotropyEntry, name: str, field: str, unit: str) -> Quantity:
    model, dft = (None if one is None else getattr(one, field) for one in (entry.model, entry.dft))
    difference = None if model is None or dft is None else model - dft
    return Quantity(name=name, unit=unit, model=model, dft=dft, difference=difference)


def _relative(values: AnisotropyValues, num_atoms: int, vectors: Any) -> np.ndarray:
    """meV per atom above the lowest of these directions [D,3]."""
    energies = surface_of(values).anisotropy(vectors)
    return np.round(MEV * (energies - energies.min()) / num_atoms, 6)
