"""Settings of GPAW: k-point grids, what is refused, what a second attempt may change."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import kpts2mp
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.kpoints import kpoint_grid, spacing_with_two_pi
from mmace_flows.structures.base_cells import FCC_RATIO, bain_structure

PHYSICS = (
    "cutoff",
    "xc",
    "kpoints",
    "kpoint_spacing",
    "gamma",
    "smearing",
    "smearing_width",
    "bands",
    "setups",
    "symmetry",
    "cutoff_slope",
)
CONVERGENCE = ("energy_convergence", "density_convergence", "eigenstates_convergence", "forces_convergence")


def test_paper_grids_are_the_usual_ones():
    settings = GPAWSettings.paper()
    assert (settings.cutoff, settings.xc) == (600.0, "PBE")
    bcc_iron = np.eye(3) * 2.87
    assert settings.grid(bcc_iron) == (12, 12, 12)  # as the 12³ grid of a 600 eV reference of bcc Fe
    fcc = bain_structure(11.4, FCC_RATIO, "FM").cell  # 2.53 × 2.53 × 7.15 Å
    assert settings.grid(fcc) == (14, 14, 5)


@given(st.floats(1.5, 20.0), st.floats(1.5, 20.0), st.floats(-3.0, 3.0), st.floats(0.02, 0.5))
def test_spacing_is_kept_and_no_point_is_wasted(a, c, shear, spacing):
    cell = np.array([[a, 0, 0], [shear, a, 0], [0, 0, c]])
    grid = np.array(kpoint_grid(cell, spacing))
    lengths = np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    assert np.all(lengths / grid <= spacing * (1 + 1e-6))
    wasted = (grid > 1) & (lengths / np.maximum(grid - 1, 1) <= spacing * (1 - 1e-6))
    assert not wasted[np.argmax(lengths)]
    assert all((grid == number).sum() > 1 for number in grid[wasted])  # only for the sake of the lattice's symmetry


def test_the_convention_agrees_with_ase_density():
    # ASE's density is k-points per Å⁻¹ with the 2π, and it rounds up to even
    cell = np.diag([2.5, 2.5, 7.0])
    ase = kpts2mp(Atoms("H", cell=cell, pbc=True), 1.0 / spacing_with_two_pi(0.05), even=False)
    assert kpoint_grid(cell, 0.05) == tuple(ase)


def test_exactly_one_kind_of_grid():
    with pytest.raises(ValidationError, match="exactly one"):
        GPAWSettings()
    with pytest.raises(ValidationError, match="exactly one"):
        GPAWSettings(kpoints=(2, 2, 2), kpoint_spacing=0.03)
    with pytest.raises(ValidationError, match="at least 1"):
        GPAWSettings(kpoints=(2, 0, 2))
    with pytest.raises(ValidationError, match="Extra inputs"):
        GPAWSettings(kpoints=(2, 2, 2), cutof=300)


def test_small_keeps_one_grid_for_every_cell():
    settings = GPAWSettings.small()
    grids = {settings.grid(bain_structure(v, r, "FM").cell) for v in (7.0, 11.4, 16.0) for r in (0.9, 1.2, 1.7)}
    assert len(grids) == 1


def test_a_second_attempt_changes_iterations_and_nothing_else():
    for settings in (GPAWSettings.small(), GPAWSettings.paper(), GPAWSettings(kpoints=(2, 2, 2), eigensolver="ppcg")):
        safer = settings.safer()
        for name in PHYSICS + CONVERGENCE:
            assert getattr(safer, name) == getattr(settings, name)
        assert safer.mixer != settings.mixer and safer.mixer.beta < settings.mixer.beta
        assert safer.max_iterations > settings.max_iterations


def test_the_pulay_stress_is_that_of_a_cutoff_that_follows_the_volume():
    """Energies at fixed cutoff and at a fixed set of plane waves differ by slope × the change of the cutoff."""
    settings = GPAWSettings(kpoints=(1, 1, 1), cutoff=300.0, cutoff_slope=-1e-3)
    cell, num_atoms, step = np.diag([2.8, 2.8, 5.8]), 4, 1e-4
    volume = np.linalg.det(cell)
    # growing the cell at a fixed set of plane waves lowers their cutoff by V^(−2/3); bringing it back gains this energy
    gained = [num_atoms * -1e-3 * (300.0 - 300.0 * (1 + s) ** (-2 / 3)) for s in (-step, step)]
    expected = (gained[1] - gained[0]) / (2 * step * volume)
    assert settings.pulay_stress(cell, num_atoms) == pytest.approx(expected, rel=1e-6)
    assert GPAWSettings.paper().pulay_stress(cell, 4) == 0.0


def test_settings_survive_json():
    for settings in (GPAWSettings.small(), GPAWSettings.paper(setups={"Ni": "10"})):
        assert GPAWSettings.model_validate_json(settings.model_dump_json()) == settings


def test_gpaw_understands_the_arguments():
    dft = pytest.importorskip("gpaw.dft")
    settings = GPAWSettings.small(
        gamma=True, symmetry=False, setups={"Ni": "10"}, forces_convergence=0.01, smearing="methfessel-paxton"
    )
    parameters = dft.Parameters(**settings.to_gpaw(np.eye(3) * 3.0))
    assert parameters.mode.ecut == settings.cutoff
    assert tuple(parameters.kpts.size) == settings.kpoints and parameters.kpts.gamma is True
    assert parameters.symmetry.point_group is False
    dft.Parameters(**settings.safer().to_gpaw(np.eye(3) * 3.0))
