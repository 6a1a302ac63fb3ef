"""The Bain path of a model against labels."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import bain_labels, label_of

from mmace import Potential, PotentialConfig
from mmace.spins.relax import relax_moments
from mmace_flows.properties.bain import bain_path, strained
from mmace_flows.properties.energies import model_energies
from mmace_flows.structures.base_cells import bain_structure, tetragonal_ratio


@pytest.fixture(scope="module")
def model() -> Potential:
    return Potential(
        PotentialConfig(
            elements=["Fe", "Ni"], r_max=3.2, hidden="4x0e", l_pos=1, correlation=2, num_bessel=4, num_chebyshev=3,
            radial_hidden=(8,), m_max={"Fe": 4.0, "Ni": 2.0}, seed=1,
        )
    )  # fmt: skip


def test_strain_keeps_the_volume_and_reaches_the_ratio() -> None:
    atoms = bain_structure(11.4, 1.0, "FM").to_atoms()
    moved = strained(atoms, 1.0, 1.3)
    assert moved.get_volume() == pytest.approx(atoms.get_volume())
    assert tetragonal_ratio(np.asarray(moved.cell)) == pytest.approx(1.3)
    np.testing.assert_allclose(moved.get_scaled_positions(), atoms.get_scaled_positions(), atol=1e-12)
    target = bain_structure(11.4, 1.3, "FM").to_atoms()
    np.testing.assert_allclose(np.asarray(moved.cell), np.asarray(target.cell), atol=1e-10)


def test_points_hold_dft_and_both_energies_of_the_model(model: Potential) -> None:
    labels = bain_labels((1.0, 1.3))
    path = bain_path(model, labels, curve_points=3)
    assert path.states == ["NM", "FM", "AFM"]
    assert path.volume_per_atom == pytest.approx(11.4)
    for state in path.states:
        points = path.of_state(state)
        assert [point.c_over_a for point in points] == pytest.approx([1.0, 1.15, 1.3])
        assert points[1].dft_energy is None and points[1].label_key is None
    label = next(one for one in labels if one.magnetic_state_asked == "FM")
    point = path.of_state("FM")[0]
    assert point.label_key == label.label_key
    assert point.dft_energy == pytest.approx(label.free_energy / 4)
    atoms = label.structure.to_atoms()
    assert point.energy_at_dft_moments == pytest.approx(model_energies(model, [atoms])[0])
    relaxed = relax_moments(model, atoms, mode="collinear")[0]
    assert point.energy == pytest.approx(relaxed.energy / 4)
    assert point.energy <= point.energy_at_dft_moments + 1e-9
    assert point.converged == relaxed.converged


def test_a_non_magnetic_state_stays_without_moments(model: Potential) -> None:
    path = bain_path(model, bain_labels((1.0,)))
    (point,) = path.of_state("NM")
    assert np.all(np.asarray(point.magmoms) == 0.0)
    assert point.state_reached == "NM"
    assert point.energy == pytest.approx(point.energy_at_dft_moments)


def test_a_failed_label_gives_a_model_point_without_dft(model: Potential) -> None:
    structure = bain_structure(11.4, 1.1, "FM")
    failed = label_of(structure, "FM", "bain", "bain", status="failed", free_energy=None, energy=None, magmoms=None)
    (point,) = bain_path(model, [failed]).points
    assert point.dft_energy is None and point.energy_at_dft_moments is None
    assert np.isfinite(point.energy)


def test_labels_at_two_volumes_or_none_are_refused(model: Potential) -> None:
    other = label_of(bain_structure(12.0, 1.0, "FM"), "FM", "bain", "bain")
    with pytest.raises(ValueError, match="one"):
        bain_path(model, [*bain_labels((1.0,)), other])
    with pytest.raises(ValueError, match="no Bain-path labels"):
        bain_path(model, [])


def test_energies_do_not_depend_on_batching(model: Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    structures = [label.structure.to_atoms() for label in bain_labels((0.95, 1.2, 1.5))]
    together = model_energies(model, structures)
    monkeypatch.setattr("mmace_flows.properties.energies.BATCH", 2)
    assert model_energies(model, structures) == pytest.approx(together, abs=1e-10)
