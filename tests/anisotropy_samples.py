"""Entries, predictions and force-theorem runs that look real, made from a seed; and stores in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from maggma.stores import MemoryStore

from mmace_flows.schemas.anisotropy_entry import AnisotropyPrediction, AnisotropyValues, prediction_key
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument, spin_orbit_key
from mmace_flows.schemas.structure import MagneticStructure

DFT = {"cutoff": 400.0, "kpoint_spacing": 0.06}
Z = np.array([0.0, 0.0, 1.0])


def structure(symbols: list[str], a: float = 2.72, c: float = 3.71, moment: float = 1.5) -> MagneticStructure:
    """One atom in a simple tetragonal cell, or two in the L1₀ one (P4/mmm), or three and more stacked along c."""
    n = len(symbols)
    places = [[0.5 * a * (i % 2), 0.5 * a * (i % 2), c * i / n] for i in range(n)]
    cell = [[a, 0.0, 0.0], [0.0, a, 0.0], [0.0, 0.0, c]]
    return MagneticStructure(symbols=symbols, positions=places, cell=cell, magmoms=[[0.0, 0.0, moment]] * n)


def parent_of(given: MagneticStructure) -> str:
    return given.model_copy(update={"magmoms": [[0.0, 0.0, 0.0]] * len(given.symbols)}).hash()


def directions(count: int = 30, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


def run(
    given: MagneticStructure,
    k1_volume: float = 0.003,
    ordering: str = "FM",
    free_energy: float = -10.0,
    created: str = "2026-01-01T00:00:00+00:00",
    campaign: str | None = "tests",
    **settings: Any,
) -> SpinOrbitDocument:
    """A force-theorem run with E = k1_volume · sin²θ (eV per cell)."""
    vectors = directions()
    used = {"dft": DFT | settings, "directions": "random:30"}
    return SpinOrbitDocument(
        spin_orbit_key=spin_orbit_key(given, "gpaw", used),
        status="converged",
        structure=given,
        parent=parent_of(given),
        directions=vectors.tolist(),
        energies=(k1_volume * (1.0 - vectors[:, 2] ** 2)).tolist(),
        lengths=[float(moment[2]) for moment in given.magmoms],
        free_energy=free_energy,
        magnetic_state_reached=ordering,  # type: ignore[arg-type]
        band_cut_error=1e-5,
        engine="gpaw",
        engine_version="1",
        settings=used,
        created=created,
        code_version="0",
        campaign=campaign,
    )


def values(k1: float = 5.0, energy: float = -5.0, source: str = "source", **changes: Any) -> AnisotropyValues:
    """Values of a uniaxial magnet; the surface is K1 sin²θ alone."""
    fields: dict[str, Any] = {
        "strength_mev_per_atom": abs(k1) * 0.08,
        "k1": k1,
        "k2": 0.1,
        "k1_mev_per_atom": k1 * 0.08,
        "k1_mev_per_formula": k1 * 0.16,
        "symmetry": "uniaxial",
        "easy": [0.0, 0.0, 1.0] if k1 > 0 else [1.0, 0.0, 0.0],
        "hard": [1.0, 0.0, 0.0] if k1 > 0 else [0.0, 0.0, 1.0],
        "axis": [0.0, 0.0, 1.0],
        "easy_kind": "axis" if k1 > 0 else "plane",
        "degree": 2,
        "coefficients": [0.0, 0.0, -4.77e-5 * k1, 0.0, 0.0],  # of K1 sin²θ, two atoms of 0.08 meV per MJ/m³
        "fit_error": 1e-6,
        "spread": 0.2,
        "polarization": 1.4,
        "anisotropy_field": 8.0,
        "hardness": 1.7,
        "energy_per_atom": energy,
        "source": source,
        "method": {"model": "m"},
        "created": "2026-02-01T00:00:00+00:00",
    }
    return AnisotropyValues(**fields | changes)


def prediction(
    given: MagneticStructure, k1: float = 5.0, model: str = "m" * 32, ordering: str = "FM", **changes: Any
) -> AnisotropyPrediction:
    """What a model says of a structure. ``changes`` go to its values."""
    key = prediction_key(given, model, {})
    return AnisotropyPrediction(
        prediction_key=key,
        structure=given,
        parent=parent_of(given),
        ordering=ordering,  # type: ignore[arg-type]
        values=values(k1, source=key, method={"model": model}, **changes),
        model=model,
        settings={},
        code_version="0",
        campaign="screening",
    )


class Collections:
    """Empty stores in memory, as those of `mmace_flows.execution.stores.Stores`."""

    def __init__(self) -> None:
        self.spin_orbit, self.predictions = MemoryStore(key="spin_orbit_key"), MemoryStore(key="prediction_key")
        self.labels, self.anisotropy = MemoryStore(key="label_key"), MemoryStore(key="entry_id")
        for store in (self.spin_orbit, self.predictions, self.labels, self.anisotropy):
            store.connect()

    def add(self, *documents: SpinOrbitDocument | AnisotropyPrediction) -> None:
        for one in documents:
            store = self.spin_orbit if isinstance(one, SpinOrbitDocument) else self.predictions
            store.update([one.model_dump(mode="json")])

    def entries(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {(one["formula"], one["ordering"]): one for one in self.anisotropy.query({})}
