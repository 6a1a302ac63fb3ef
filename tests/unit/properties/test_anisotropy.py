"""The fit on the sphere, constants, axes and units against energies that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mmace.errors import UserError
from mmace_flows.properties.anisotropy import (
    EV_PER_CUBIC_ANGSTROM,
    cubic_constants,
    even_harmonics,
    fit_surface,
    uniaxial_constants,
)
from mmace_flows.properties.anisotropy_axes import magnetic_axes
from mmace_flows.properties.anisotropy_values import surface_of, values, values_from_document
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import directions
from tests.anisotropy_samples import run

Z = np.array([0.0, 0.0, 1.0])
SAID = {"source": "k", "method": {}, "created": "now"}


def uniaxial(vectors: np.ndarray, axis: np.ndarray, k1: float, k2: float) -> np.ndarray:
    squared = 1.0 - (vectors @ axis) ** 2
    return -3.0 + k1 * squared + k2 * squared**2


def cubic(vectors: np.ndarray, axes: np.ndarray, k1: float, k2: float) -> np.ndarray:
    x, y, z = (vectors @ axes.T).T ** 2
    return -40000.0 + k1 * (x * y + y * z + z * x) + k2 * x * y * z


def crystal(atoms: Atoms, lengths: list[float], turn: np.ndarray | None = None) -> MagneticStructure:
    """With moments along z, the lattice turned by [3,3]."""
    if turn is not None:
        atoms = Atoms(atoms.symbols, positions=atoms.positions @ turn.T, cell=np.asarray(atoms.cell) @ turn.T, pbc=True)
    return MagneticStructure.from_atoms(atoms, np.array(lengths))


FEPT = Atoms("FePt", cell=[2.73, 2.73, 3.76], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
LOW = Atoms("FePt", cell=[[2.7, 0, 0], [0.4, 3.1, 0], [0.3, 0.5, 3.8]], scaled_positions=[[0, 0, 0], [0.4, 0.6, 0.5]])
LOW.pbc = True


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-2e-3, 2e-3), st.floats(-1e-3, 1e-3))
def test_uniaxial_constants_about_any_axis(seed, k1, k2):
    axis = Rotation.random(random_state=seed).as_matrix()[2]
    vectors = directions("lebedev:50")
    surface = fit_surface(vectors, uniaxial(vectors, axis, k1, k2))
    assert surface.degree == 4 and surface.fit_error < 1e-12
    assert uniaxial_constants(surface, axis) == pytest.approx((k1, k2), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-1e-4, 1e-4), st.floats(-1e-4, 1e-4))
def test_cubic_constants_of_a_turned_crystal(seed, k1, k2):
    turn = Rotation.random(random_state=seed).as_matrix()
    structure = crystal(bulk("Fe", cubic=True), [2.2, 2.2], turn)
    vectors = directions("lebedev:74")
    energies = cubic(vectors, turn.T, k1, k2)  # rows of turnᵀ are the images of x, y, z
    found = values(structure, np.array([2.2, 2.2]), vectors, energies, **SAID)
    assert found.symmetry == "cubic"
    volume = 2.87**3
    assert found.k1 == pytest.approx(k1 / volume * EV_PER_CUBIC_ANGSTROM, abs=1e-6)
    assert found.k2 == pytest.approx(k2 / volume * EV_PER_CUBIC_ANGSTROM, abs=1e-5)


def test_cubic_constants_from_few_directions_and_beside_a_distortion():
    vectors = directions("lebedev:26")
    assert cubic_constants(vectors, cubic(vectors, np.eye(3), 2e-5, 3e-5), np.eye(3)) == pytest.approx((2e-5, 3e-5))
    distorted = cubic(vectors, np.eye(3), 2e-5, 3e-5) + uniaxial(vectors, Z, 1e-4, 0.0)
    assert cubic_constants(vectors, distorted, np.eye(3)) == pytest.approx((2e-5, 3e-5))
    few = directions("lebedev:14")  # six and eight points: two energies, and so one constant
    assert cubic_constants(few, cubic(few, np.eye(3), 2e-5, 0.0), np.eye(3)) == pytest.approx((2e-5, 0.0))
    with pytest.raises(UserError, match="too few directions"):
        cubic_constants(directions("lebedev:6"), np.zeros(6), np.eye(3))


def test_higher_harmonics_take_no_part_in_the_uniaxial_constants():
    vectors = directions("lebedev:110")
    sixth = even_harmonics(vectors, 6)[:, 15:] @ np.full(13, 1e-5)
    surface = fit_surface(vectors, uniaxial(vectors, Z, 1e-3, 1e-4) + sixth)
    assert surface.degree == 6
    assert uniaxial_constants(surface, Z) == pytest.approx((1e-3, 1e-4), abs=1e-12)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_axis_of_a_tetragonal_and_of_a_hexagonal_crystal(seed):
    turn = np.eye(3) if seed is None else Rotation.random(random_state=seed).as_matrix()
    for atoms, lengths in ((FEPT, [2.9, 0.3]), (bulk("Co", "hcp", a=2.51, c=4.07), [1.6, 1.6])):
        found = magnetic_axes(crystal(atoms, lengths, turn), np.array(lengths))
        assert found.cubic is None and found.unique is not None
        assert abs(found.unique @ turn[:, 2]) == pytest.approx(1.0)


def test_antiferromagnetic_order_makes_a_cubic_crystal_uniaxial():
    fcc = bulk("Fe", "fcc", a=3.6, cubic=True)  # layers along z: atoms 0 and 1 share z = 0
    layers = np.where(fcc.positions[:, 2] < 0.1, 2.0, -2.0)
    assert magnetic_axes(crystal(fcc, [2.0] * 4), np.full(4, 2.0)).cubic is not None
    found = magnetic_axes(crystal(fcc, layers.tolist()), layers)
    assert found.cubic is None and found.unique == pytest.approx(Z)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_what_lacks_of_the_crystals_symmetry_is_told(seed):
    turn = Rotation.random(random_state=seed).as_matrix()
    turns = magnetic_axes(crystal(bulk("Fe", cubic=True), [2.2, 2.2], turn), np.array([2.2, 2.2])).turns
    assert len(turns) == 24 and np.linalg.det(turns) == pytest.approx(np.ones(24))
    vectors = directions("lebedev:74")
    exact = cubic(vectors, turn.T, 2e-5, 3e-5)
    assert fit_surface(vectors, exact).asymmetry(turns) < 1e-10
    broken = fit_surface(vectors, exact + uniaxial(vectors, turn[:, 2], 1e-3, 0.0))
    assert broken.asymmetry(turns) == pytest.approx(1e-3, rel=0.05)  # the axis against the plane
    axis = magnetic_axes(crystal(FEPT, [2.9, 0.3], turn), np.array([2.9, 0.3])).turns
    assert len(axis) == 8 and broken.asymmetry(axis) < 1e-10  # about which it is allowed


def test_asymmetry_is_part_of_the_spread_of_a_run():
    iron, vectors = crystal(bulk("Fe", cubic=True), [2.2, 2.2]), directions("lebedev:26")
    made = run(iron, 0.0).model_copy(
        update={
            "directions": vectors.tolist(),
            "energies": uniaxial(vectors, Z, 4e-5, 0.0).tolist(),
            "band_cut_error": 3e-5,
        }
    )
    found = values_from_document(made)
    assert found.symmetry_error == pytest.approx(4e-5, rel=0.05)
    assert found.spread == pytest.approx(np.hypot(4e-5, 3e-5) / 2.87**3 * EV_PER_CUBIC_ANGSTROM, rel=0.05)


def test_without_an_axis_of_symmetry_the_quadrupole_names_one():
    axis = Rotation.random(random_state=5).as_matrix()[0]
    vectors = directions("lebedev:50")
    found = values(crystal(LOW, [2.0, 0.3]), np.array([2.0, 0.3]), vectors, uniaxial(vectors, axis, 1e-3, 1e-4), **SAID)
    assert abs(np.dot(found.axis, axis)) == pytest.approx(1.0)
    assert found.k1_mev_per_formula == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("k1", "k2", "kind", "height"),
    [(1e-3, 2e-4, "axis", 1.0), (-1e-3, 0.0, "plane", 0.0), (-1e-3, 1e-3, "cone", 0.5**0.5), (0.0, 0.0, "none", None)],
)
def test_what_easy_directions_form(k1, k2, kind, height):
    vectors = directions("lebedev:50")
    found = values(crystal(FEPT, [2.9, 0.3]), np.array([2.9, 0.3]), vectors, uniaxial(vectors, Z, k1, k2), **SAID)
    assert found.easy_kind == kind
    if height is not None:
        assert abs(found.easy[2]) == pytest.approx(height, abs=1e-3)
        extremes = uniaxial(ring_of_angles(), Z, k1, k2)
        assert found.strength_mev_per_atom == pytest.approx(500 * np.ptp(extremes), rel=1e-5)


def ring_of_angles() -> np.ndarray:
    angle = np.linspace(0.0, np.pi, 20001)
    return np.column_stack([np.sin(angle), 0.0 * angle, np.cos(angle)])


def test_a_plane_with_an_easy_line_in_it_is_an_axis():
    vectors = directions("lebedev:50")
    energies = uniaxial(vectors, Z, -1e-3, 0.0) - 5e-4 * vectors[:, 0] ** 2
    found = values(crystal(FEPT, [2.9, 0.3]), np.array([2.9, 0.3]), vectors, energies, axis=Z, **SAID)
    assert found.easy_kind == "axis" and found.easy == pytest.approx([1.0, 0.0, 0.0], abs=1e-4)


def test_figures_of_a_magnet():
    """Iron: 2.2 μB in 11.8 Å³ are 2.17 T; K1 = 1 MJ/m³ there gives Ha = 2 K1/Ms and κ as SI formulas say."""
    iron = crystal(bulk("Fe", cubic=True), [2.2, 2.2])
    vectors = directions("lebedev:50")
    energies = 2.87**3 / EV_PER_CUBIC_ANGSTROM * (1.0 - vectors[:, 2] ** 2)
    found = values(iron, np.array([2.2, 2.2]), vectors, energies, axis=Z, energy=-16.0, **SAID)
    magnetization = 2 * 2.2 * 9.2740100783e-24 / 2.87e-10**3  # A/m
    vacuum = 1.25663706212e-6
    assert found.k1 == pytest.approx(1.0) and found.energy_per_atom == -8.0
    assert found.polarization == pytest.approx(vacuum * magnetization, rel=1e-5)
    assert found.anisotropy_field == pytest.approx(2e6 / magnetization, rel=1e-5)
    assert found.hardness == pytest.approx((1e6 / (vacuum * magnetization**2)) ** 0.5, rel=1e-5)
    compensated = values(iron, np.array([2.2, -2.2]), vectors, energies, axis=Z, **SAID)
    assert compensated.anisotropy_field is None and compensated.hardness is None and compensated.polarization == 0.0


def test_ends_of_a_cubic_crystal():
    vectors = directions("lebedev:50")
    surface = fit_surface(vectors, cubic(vectors, np.eye(3), 1e-4, 0.0))
    easy, hard, strength = surface.ends()
    assert max(easy) == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(np.abs(hard), 3**-0.5, atol=1e-3)
    assert strength == pytest.approx(1e-4 / 3, rel=1e-5)


def test_values_of_a_stored_run_and_their_surface():
    vectors = directions("lebedev:50")
    document = SpinOrbitDocument(
        spin_orbit_key="key", status="converged", structure=crystal(FEPT, [3.0, 0.0]), parent="p",
        directions=vectors.tolist(), energies=uniaxial(vectors, Z, 3e-3, 0.0).tolist(), lengths=[2.9, 0.3],
        free_energy=-14.0, band_cut_error=1e-4, engine="gpaw", engine_version="1", settings={}, created="now",
        code_version="1",
    )  # fmt: skip
    found = values_from_document(document)
    assert found.source == "key" and found.energy_per_atom == -7.0
    assert found.k1_mev_per_formula == pytest.approx(3.0) and found.k1_mev_per_atom == pytest.approx(1.5)
    assert found.spread == pytest.approx(found.k1 / 30)
    np.testing.assert_allclose(np.ptp(surface_of(found).energies(np.eye(3))), 3e-3)
    assert values_from_document(document.model_copy(update={"status": "failed"})) is None


def test_the_error_of_the_fit_tells_what_harmonics_cannot_describe():
    vectors = directions("lebedev:50")
    smooth = uniaxial(vectors, Z, 1e-3, 0.0)
    noise = 1e-5 * np.random.default_rng(0).normal(size=len(vectors))
    assert fit_surface(vectors, smooth + noise).fit_error == pytest.approx(1e-5, rel=0.5)


def test_harmonics_are_orthonormal_on_a_lebedev_set():
    from scipy.integrate import lebedev_rule

    points, weights = lebedev_rule(17)
    found = even_harmonics(points.T, 8)
    gram = found.T @ (found * weights[:, None]) / (4 * np.pi)
    np.testing.assert_allclose(gram, np.eye(45), atol=1e-10)


def test_more_coefficients_than_directions_are_refused():
    vectors = directions("lebedev:6")
    with pytest.raises(UserError, match="3 directions cannot tell 6 harmonics"):
        fit_surface(vectors, np.zeros(6))
