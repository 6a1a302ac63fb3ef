"""Non-collinear GPAW itself: directions that are held, and the torque against energies."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mmace_flows.labels.gpaw_engine import GPAWEngine
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.moments import magnetic_state

pytestmark = pytest.mark.engine
pytest.importorskip("gpaw")

SETTINGS = GPAWSettings(
    xc="LDA", cutoff=200.0, kpoints=(1, 1, 2), smearing_width=0.3, bands=10, direction_penalty=10.0,
    density_convergence=1e-5,
)  # fmt: skip


def turned(angle: float) -> MagneticStructure:
    """Two atoms of iron, the second one's moment turned by ``angle`` degrees from z to x."""
    atoms = Atoms("Fe2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.6, 2.6, 2.9], pbc=True)
    direction = np.array([np.sin(np.radians(angle)), 0.0, np.cos(np.radians(angle))])
    return MagneticStructure.from_atoms(atoms, 2.3 * np.array([[0.0, 0.0, 1.0], direction]))


def angle_between(moments: np.ndarray) -> float:
    """Radians."""
    first, second = moments / np.linalg.norm(moments, axis=1, keepdims=True)
    return float(np.arccos(first @ second))


def test_directions_are_held_and_magnetic_forces_are_slopes_of_the_energy(tmp_path):
    results = [GPAWEngine(SETTINGS).run(turned(angle), tmp_path) for angle in (55.0, 65.0)]
    for angle, result in zip((55.0, 65.0), results, strict=True):
        assert result.converged, result.error
        assert result.details["largest_angle_off"] < 2.0 and result.stress is None
        assert np.degrees(angle_between(result.magmoms)) == pytest.approx(angle, abs=3.0)
        assert magnetic_state(result.magmoms) == "non-collinear" and np.abs(result.magmoms[:, 1]).max() < 0.01
    # the force on the second moment times its length is the torque −∂E/∂θ between the two; lengths are at rest
    torques = []
    for result in results:
        away = np.cross([0, 1.0, 0], result.magmoms[1])  # ∂m/∂θ
        torques.append(float(result.magnetic_forces[1] @ away))
    slope = results[1].free_energy - results[0].free_energy
    slope /= angle_between(results[1].magmoms) - angle_between(results[0].magmoms)
    assert abs(slope) > 0.05  # eV: a wrong sign or factor cannot hide
    assert np.mean(torques) == pytest.approx(-slope, rel=0.08)
