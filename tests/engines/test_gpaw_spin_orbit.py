"""The magnetic force theorem with GPAW: symmetry of the energies, the cut of the bands, going on after a kill."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mmace.errors import UserError
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings, run_spin_orbit
from mmace_flows.properties.anisotropy_values import values_from_document
from mmace_flows.schemas.structure import MagneticStructure

pytestmark = pytest.mark.engine
pytest.importorskip("gpaw")

SETTINGS = SpinOrbitSettings(
    dft=GPAWSettings(cutoff=250.0, kpoints=(3, 3, 2), smearing_width=0.2, density_convergence=1e-3),
    directions="lebedev:14",
    bands=250,
    cuts=2,
)


def iron_platinum(moments=(3.0, 0.4)) -> MagneticStructure:
    atoms = Atoms("FePt", cell=[2.73, 2.73, 3.76], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    return MagneticStructure.from_atoms(atoms, moments)


def test_iron_platinum_resumes_and_has_the_symmetry_of_its_lattice(tmp_path):
    def stop(done: int, of: int, seconds: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_spin_orbit(iron_platinum(), SETTINGS, tmp_path, progress=stop)
    lines = next(tmp_path.glob("*.jsonl"))
    with lines.open("a") as file:
        file.write("[5, -1")  # as a kill leaves it
    seen = []
    document = run_spin_orbit(iron_platinum(), SETTINGS, tmp_path, progress=lambda *one: seen.append(one[:2]))
    assert seen == [(done, 14) for done in range(6, 15)]
    assert len(list(tmp_path.glob("*.txt"))) == 1  # the ground state was not computed again

    assert document.status == "converged" and document.magnetic_state_reached == "FM"
    vectors, energies = np.array(document.directions), np.array(document.energies)
    along = {axis: energies[np.abs(np.abs(vectors[:, axis]) - 1) < 1e-9] for axis in range(3)}
    assert along[0] == pytest.approx(along[1][::-1], abs=2e-5)  # four-fold axis along z
    assert along[0].mean() - along[2].mean() > 1e-3  # and it is the easy one
    assert document.opposite_error == pytest.approx(0.0, abs=1e-4)
    assert list(document.band_cuts)[-1] == str(document.bands)
    assert document.band_cuts[str(document.bands)] == pytest.approx(along[0].mean() - along[2].mean(), abs=1e-4)
    # with few bands a cut goes between degenerate ones, and which of them are left depends on the processor's rounding
    assert document.band_cut_error < 3e-3
    found = values_from_document(document)
    assert found.easy == pytest.approx([0, 0, 1], abs=0.02) and found.k1 > 3.0


def test_a_cubic_crystal_stays_cubic_in_a_skewed_cell(tmp_path):
    a = 3.52
    primitive = 0.5 * a * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    skewed = np.array([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ primitive  # the same lattice
    dft = {"cutoff": 250.0, "gamma": True, "smearing_width": 0.2, "density_convergence": 1e-5}
    by_spacing, by_numbers = (
        SpinOrbitSettings(dft=GPAWSettings(**dft, **grid), directions="lebedev:14", bands=250, cuts=0)
        for grid in ({"kpoint_spacing": 0.14}, {"kpoints": (4, 3, 3)})
    )
    nickel = MagneticStructure.from_atoms(Atoms("Ni", cell=skewed, pbc=True), (0.7,))
    reciprocal = np.linalg.norm(np.linalg.inv(skewed).T, axis=1)
    assert len(set(np.ceil(reciprocal / 0.14).tolist())) > 1  # plain rounding would not have the same numbers
    document = run_spin_orbit(nickel, by_spacing, tmp_path)
    assert document.status == "converged" and abs(document.lengths[0]) > 0.3
    found = values_from_document(document)
    assert found.symmetry == "cubic"
    assert found.symmetry_error < 2e-6  # eV per cell
    assert values_from_document(run_spin_orbit(nickel, by_numbers, tmp_path)).symmetry_error > 1e-4


def test_structures_without_an_anisotropy_to_compute_are_refused(tmp_path):
    with pytest.raises(UserError, match="no moments"):
        run_spin_orbit(iron_platinum((0.0, 0.0)), SETTINGS, tmp_path)
    with pytest.raises(UserError, match="not along one axis"):
        run_spin_orbit(iron_platinum(((0, 0, 3.0), (0.4, 0, 0))), SETTINGS, tmp_path)
