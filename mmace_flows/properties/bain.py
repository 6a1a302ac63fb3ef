"""Bain path: energy against c/a at fixed volume per atom, for each magnetic state, from a model and from DFT.

Choices, stated once:

- The path is taken at **one fixed volume per atom**, that of the reference labels: it leads from bcc (c/a = 1) to
  fcc (c/a = √2), and both ends have the same volume, so energies along it differ by shape and magnetism alone.
- Energies are free energies per atom, the quantity the model is trained on and the forces belong to.
- The model's moments are relaxed collinearly from the pattern of the state, as DFT's own moments are; a
  non-magnetic state stays at zero moments by symmetry and is not relaxed. A second number per point is the model's
  energy at DFT's converged moments: it tells an energy error from an error of the moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from jobflow import Maker, job
from pydantic import Field

from mmace_flows.properties.energies import model_energies
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.structures.base_cells import volume_per_atom
from mmace_flows.structures.moments import as_vectors, magnetic_state

if TYPE_CHECKING:
    from mmace import Potential


class BainPoint(Document):
    """One point of the path in one magnetic state. N atoms in the cell."""

    state: str = Field(description="magnetic state asked for: NM, FM, AFM")
    c_over_a: float = Field(description="c/a of the body-centred tetragonal cell")
    energy: float = Field(description="model, moments relaxed, eV per atom")
    magmoms: list[list[float]] = Field(description="[N,3] model's relaxed moments, μB")
    converged: bool = Field(description="whether the relaxation of the moments converged")
    state_reached: str = Field(description="magnetic branch of the model's relaxed moments")
    dft_energy: float | None = Field(default=None, description="DFT free energy, eV per atom; none between DFT points")
    dft_magmoms: list[list[float]] | None = Field(default=None, description="[N,3] DFT moments, μB")
    dft_state_reached: str | None = Field(default=None, description="magnetic branch of DFT's moments")
    energy_at_dft_moments: float | None = Field(default=None, description="model at DFT's moments, eV per atom")
    label_key: str | None = Field(default=None, description="the DFT label")


class BainPath(Document):
    """The path of one model, in all states, with the DFT points it is held against."""

    points: list[BainPoint] = Field(description="sorted by state and c/a")
    volume_per_atom: float = Field(description="Å³")

    def of_state(self, state: str) -> list[BainPoint]:
        """Points of one state, by rising c/a."""
        return sorted((point for point in self.points if point.state == state), key=lambda point: point.c_over_a)

    @property
    def states(self) -> list[str]:
        """States on the path, in the order NM, FM, AFM, others."""
        order = {"NM": 0, "FM": 1, "AFM": 2}
        return sorted({point.state for point in self.points}, key=lambda state: (order.get(state, 9), state))


def strained(atoms: Atoms, from_ratio: float, to_ratio: float) -> Atoms:
    """Copy of ``atoms`` whose c/a goes from ``from_ratio`` to ``to_ratio`` at the same volume; c is along z."""
    scale = to_ratio / from_ratio
    strain = np.diag([scale ** (-1 / 3), scale ** (-1 / 3), scale ** (2 / 3)])
    copy = atoms.copy()
    copy.set_cell(np.asarray(atoms.cell) @ strain, scale_atoms=True)
    return copy


def bain_path(model: Potential, labels: Iterable[LabelDocument], curve_points: int = 0) -> BainPath:
    """The model's Bain path at the DFT points of ``labels``, and at ``curve_points`` more per state between them.

    Parameters: ``labels`` of the path, each with ``candidate.details["c_over_a"]``; failed ones still give a model
    point, without a DFT energy.
    Raises ValueError for no labels or labels at more than one volume.
    """
    labels = list(labels)
    if not labels:
        raise ValueError("no Bain-path labels: there is nothing to compare the model with")
    volumes = [volume_per_atom(label.structure) for label in labels]
    if max(volumes) - min(volumes) > 1e-3 * np.mean(volumes):
        raise ValueError(
            f"Bain-path labels at volumes from {min(volumes):.3f} to {max(volumes):.3f} Å³ per atom; give one"
        )
    places = [
        _Place(label.candidate.magnetic_state, ratio_of(label), label.structure.to_atoms(), label) for label in labels
    ]
    places += _between(places, curve_points)
    relaxed = _relaxed(model, places)
    fixed = _energies_at_dft_moments(model, places)
    points = [
        BainPoint(
            state=place.state,
            c_over_a=place.c_over_a,
            energy=energy,
            magmoms=magmoms.tolist(),
            converged=converged,
            state_reached=magnetic_state(magmoms),
            energy_at_dft_moments=at_dft,
            **_dft_part(place.label),
        )
        for place, (energy, magmoms, converged), at_dft in zip(places, relaxed, fixed, strict=True)
    ]
    points.sort(key=lambda point: (point.state, point.c_over_a))
    return BainPath(points=points, volume_per_atom=float(np.mean(volumes)))


def ratio_of(label: LabelDocument) -> float:
    """c/a of a Bain-path label."""
    return float(label.candidate.details["c_over_a"])


@dataclass
class BainPathMaker(Maker):
    """Job: the Bain path of a stored model against stored labels."""

    name: str = "bain path"
    curve_points: int = 8

    @job
    def make(self, model_hash: str, bain_keys: list[str]) -> dict[str, Any]:
        """``BainPath`` of the model with ``model_hash``, as a plain dictionary."""
        from mmace import from_bytes
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.learning.dataset import read_labels

        stores = open_stores()
        model, _ = from_bytes(stores.load_model(model_hash), f"model {model_hash}")
        return bain_path(model, read_labels(stores.labels, bain_keys), self.curve_points).model_dump()


@dataclass(frozen=True)
class _Place:
    """A point on the path: atoms with the moments of the pattern, and the label if DFT has been there."""

    state: str
    c_over_a: float
    atoms: Atoms
    label: LabelDocument | None


def _between(places: Sequence[_Place], count: int) -> list[_Place]:
    """Evenly spaced points for the model's curve, strained from the nearest DFT structure of the same state."""
    more = []
    for state in sorted({place.state for place in places}):
        own = [place for place in places if place.state == state]
        ratios = [place.c_over_a for place in own]
        for ratio in np.linspace(min(ratios), max(ratios), count) if count else []:
            nearest = min(own, key=lambda place: abs(place.c_over_a - ratio))
            if abs(nearest.c_over_a - ratio) > 1e-6:
                more.append(_Place(state, float(ratio), strained(nearest.atoms, nearest.c_over_a, float(ratio)), None))
    return more


def _relaxed(model: Potential, places: Sequence[_Place]) -> list[tuple[float, np.ndarray, bool]]:
    """Energy per atom, moments [N,3] and convergence at each place, moments relaxed from the pattern."""
    from mmace.spins.relax import relax_moments

    magnetic = [
        index
        for index, place in enumerate(places)
        if np.abs(as_vectors(place.atoms.get_initial_magnetic_moments())).max() > 1e-6
    ]
    zero = [index for index in range(len(places)) if index not in set(magnetic)]
    found: dict[int, tuple[float, np.ndarray, bool]] = {}
    for index, energy in zip(zero, model_energies(model, [places[i].atoms for i in zero]), strict=True):
        found[index] = (energy, np.zeros((len(places[index].atoms), 3)), True)
    if magnetic:
        results = relax_moments(model, [places[i].atoms for i in magnetic], mode="collinear")
        for index, result in zip(magnetic, results, strict=True):
            moments = np.asarray(result.magmoms, dtype=float).reshape(-1, 3)
            found[index] = (float(result.energy) / len(moments), moments, bool(result.converged))
    return [found[index] for index in range(len(places))]


def _energies_at_dft_moments(model: Potential, places: Sequence[_Place]) -> list[float | None]:
    """Model's energy per atom at DFT's moments where a converged label is, else None."""
    atoms_list, where = [], []
    for index, place in enumerate(places):
        if place.label is not None and place.label.status == "converged" and place.label.magmoms is not None:
            atoms = place.atoms.copy()
            atoms.set_initial_magnetic_moments(np.asarray(place.label.magmoms, dtype=float).reshape(-1, 3))
            atoms_list.append(atoms)
            where.append(index)
    energies: list[float | None] = [None] * len(places)
    for index, energy in zip(where, model_energies(model, atoms_list), strict=True):
        energies[index] = energy
    return energies


def _dft_part(label: LabelDocument | None) -> dict[str, Any]:
    """Fields of a BainPoint that come from DFT."""
    if label is None or label.status != "converged" or label.magmoms is None:
        return {"label_key": label.label_key if label else None}
    energy = label.free_energy if label.free_energy is not None else label.energy
    return {
        "label_key": label.label_key,
        "dft_energy": None if energy is None else energy / len(label.structure.symbols),
        "dft_magmoms": label.magmoms,
        "dft_state_reached": magnetic_state(label.magmoms),
    }
