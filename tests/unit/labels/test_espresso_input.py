"""Input files of pw.x: moments by species, constraints, what is refused."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, Rydberg
from hypothesis import given
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.labels.espresso_input import Plan, magnetism_of, species_of, write_input
from mmace_flows.labels.espresso_settings import EspressoSettings
from mmace_flows.labels.pseudopotentials import UPFHeader
from mmace_flows.schemas.structure import MagneticStructure

HEADERS = {"Fe": UPFHeader("Fe", "US", "PBE", 8.0, True), "N": UPFHeader("N", "NC", "PBE", 5.0, True)}
FILES = {"Fe": "Fe.upf", "N": "N.upf"}


def structure(magmoms, symbols="Fe2N"):
    atoms = Atoms(symbols, positions=np.arange(9.0).reshape(3, 3) * 0.7, cell=[2.8, 2.9, 3.8], pbc=True)
    return MagneticStructure.from_atoms(atoms, np.array(magmoms, dtype=float))


def text_of(magmoms, version=(6, 7), preparing=False, **changes):
    settings = EspressoSettings(**{"kpoints": (2, 2, 1), "cutoff": 400.0, **changes})
    one = structure(magmoms)
    plan = Plan(one, settings, magnetism_of(one, settings), HEADERS, version)
    return write_input(plan, FILES, preparing), plan


def value(text, name):
    found = re.search(rf"^\s*{re.escape(name)} = (.*)$", text, re.MULTILINE)
    if found is None:
        return None
    words = found.group(1)
    return words.strip("'") if "'" in words or words.startswith(".") else float(words.replace("d", "e"))


def test_no_moments_are_spin_paired():
    text, _ = text_of([[0, 0, 0]] * 3)
    assert value(text, "nspin") is None and value(text, "noncolin") is None and "starting" not in text
    assert value(text, "ntyp") == 2 and value(text, "ecutwfc") == pytest.approx(400 / Rydberg)
    assert value(text, "ecutrho") == pytest.approx(10 * 400 / Rydberg)  # Fe's file is ultrasoft
    assert text.endswith("K_POINTS automatic\n2 2 1 1 1 0\n")


def test_collinear_moments_along_any_axis_are_one_species_per_moment():
    axis = np.array([0.6, 0.0, 0.8])
    text, plan = text_of([2.2 * axis, -2.2 * axis, 0 * axis])
    assert value(text, "nspin") == 2 and value(text, "ntyp") == 3
    # the starting polarisation is the moment over the file's valence electrons
    assert [value(text, f"starting_magnetization({i})") for i in (1, 2, 3)] == pytest.approx([2.2 / 8, -2.2 / 8, 0.0])
    assert re.search(r"\nFe1 55\.8\d+ Fe\.upf\nFe2 55\.8\d+ Fe\.upf\nN1 14\.0\d+ N\.upf\n", text)
    assert "\nFe1 0.0000" in text and "\nFe2 2.1000" in text and "\nN1 4.2000" in text
    assert np.allclose(plan.magnetism.to_lab(plan.magnetism.starts), [2.2 * axis, -2.2 * axis, 0 * axis])


@given(st.lists(st.lists(st.floats(-4, 4), min_size=3, max_size=3), min_size=3, max_size=3))
def test_vectors_come_back_from_lengths_and_angles(magmoms):
    """What pw.x makes of the input, s·z_valence·(sin θ cos φ, sin θ sin φ, cos θ), is what was asked for."""
    text, plan = text_of(magmoms, noncollinear=True)
    if not np.any(plan.magnetism.starts):
        return
    _, first = species_of(["Fe", "Fe", "N"], plan.magnetism.starts)
    for number, atom in enumerate(first, 1):
        theta, phi = (np.radians(value(text, f"angle{k}({number})")) for k in (1, 2))
        length = value(text, f"starting_magnetization({number})") * HEADERS["FeFeN"[2 * atom : 2 * atom + 2]].valence
        if atom == 2 and np.linalg.norm(magmoms[2]) > 5.0:  # no more than all electrons
            assert length == pytest.approx(5.0)
            continue
        found = length * np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
        assert found == pytest.approx(np.array(magmoms[atom]), abs=1e-9)


def test_spin_orbit_keeps_the_lab_frame():
    text, plan = text_of([[2.2, 0, 0], [2.2, 0, 0], [0, 0, 0]], spin_orbit=True)
    assert value(text, "noncolin") == value(text, "lspinorb") == ".true."
    assert value(text, "angle1(1)") == pytest.approx(90.0) and plan.magnetism.kind == "non-collinear"
    text, plan = text_of([[0, 0, 0]] * 3, spin_orbit=True, constraint="atomic")
    assert value(text, "noncolin") == ".true." and value(text, "lambda") is None  # nothing to hold


def test_targets_of_a_constraint_are_moments_and_its_penalty_does_not_depend_on_the_grid():
    moments = [[2.2, 0, 0], [0, 0, 1.8], [0, 0, 0]]
    text, _ = text_of(moments, constraint="atomic", constraint_stiffness=5.0)
    lengths = [value(text, f"starting_magnetization({i})") for i in (1, 2, 3)]
    assert lengths == pytest.approx([2.2, 1.8, 0.0]) and value(text, "startingpot") == "file"
    grid = [value(text, f"nr{i}") for i in (1, 2, 3)]
    # the grid must hold every plane wave of the density: n ≥ 2 √E_rho |a| / 2π + 1
    least = 2 * np.sqrt(10 * 400 / Rydberg) * np.array([2.8, 2.9, 3.8]) / Bohr / (2 * np.pi)
    assert np.all(np.array(grid) >= least) and np.all(np.array(grid) < least + 8)
    point = 2.8 * 2.9 * 3.8 / Bohr**3 / np.prod(grid)
    assert value(text, "lambda") * point == pytest.approx(5.0 / Rydberg)
    later, _ = text_of(moments, version=(7, 4), constraint="atomic", constraint_stiffness=5.0)
    assert value(later, "lambda") == pytest.approx(5.0 / Rydberg)
    first, _ = text_of(moments, constraint="atomic", preparing=True)
    assert value(first, "electron_maxstep") == 1 and value(first, "lambda") is None
    assert value(first, "starting_magnetization(1)") == pytest.approx(2.2 / 8) and value(first, "nr1") == grid[0]


def test_the_polar_angle_needs_moments_on_all_atoms():
    text, _ = text_of([[0, 0, 2.0]] * 3, constraint="atomic direction")
    assert value(text, "noncolin") == ".true." and value(text, "constrained_magnetization") == "atomic direction"
    with pytest.raises(UserError, match=r"atom 3 \(N\) has no moment"):
        text_of([[0, 0, 2.0], [0, 0, 2.0], [0, 0, 0]], constraint="atomic direction")


def test_a_fixed_total_moment_is_positive_for_pw():
    text, plan = text_of([[0, 0, -2.0], [0, 0, -1.0], [0, 0, 0.5]], fix_total_magmom=True)
    assert value(text, "tot_magnetization") == pytest.approx(2.5)
    assert np.allclose(plan.magnetism.to_lab(plan.magnetism.starts)[:, 2], [-2.0, -1.0, 0.5])
    with pytest.raises(UserError, match="not along one axis"):
        text_of([[2.0, 0, 0], [0, 0, -1.0], [0, 0, 0]], fix_total_magmom=True)


def test_species_have_labels_that_pw_can_read_and_a_limit():
    starts = np.zeros((12, 3))
    starts[:, 2] = [*np.arange(10) * 0.1, 0.0, 0.10001]
    labels, first = species_of(["Fe"] * 12, starts)
    assert len(set(labels)) == 10 and max(map(len, labels)) == 3 and labels[10] == labels[0] and labels[11] == labels[1]
    assert first == list(range(10))
    starts[10, 2] = 3.0
    with pytest.raises(UserError, match=r"11 different pairs .* at most 10 species"):
        species_of(["Fe"] * 12, starts)
