"""GPAW itself: the states it reaches, its stress against energies, and failures that are no crash."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

from mmace.errors import UserError
from mmace_flows.labels.gpaw_engine import GPAWEngine
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.base_cells import bain_structure
from mmace_flows.structures.moments import magnetic_state

pytestmark = pytest.mark.engine
pytest.importorskip("gpaw")


def engine(**changes) -> GPAWEngine:
    return GPAWEngine(GPAWSettings(**{"cutoff": 280.0, "kpoints": (2, 2, 1), "smearing_width": 0.2, **changes}))


def strained_aluminium(strain: np.ndarray) -> MagneticStructure:
    """One compressed, tetragonal and sheared atom of Al, strained: far from equilibrium, so that stress is large."""
    cell = np.array([[0.0, 1.9, 1.9], [1.9, 0.0, 1.9], [1.9, 1.9, 0.0]]) @ np.diag([1.0, 1.0, 1.06])
    cell = cell @ (np.eye(3) + np.array([[0, 0.04, 0], [0.04, 0, 0], [0, 0, 0]]))
    atoms = Atoms("Al", cell=cell @ (np.eye(3) + strain), pbc=True)
    return MagneticStructure.from_atoms(atoms, np.zeros((1, 3)))


@pytest.mark.parametrize(("row", "column"), [(2, 2), (0, 1)])
def test_stress_is_the_derivative_of_the_free_energy_by_strain(row, column, tmp_path):
    # a cutoff far beyond Al's need, for the stress is that of a fixed set of plane waves, energies of a fixed cutoff
    al = engine(cutoff=500.0, kpoints=(3, 3, 3), density_convergence=1e-7, bands=8)
    step = 0.01
    energies = []
    for sign in (-1, 1):
        strain = np.zeros((3, 3))
        strain[row, column] += sign * step / 2
        strain[column, row] += sign * step / 2
        energies.append(al.run(strained_aluminium(strain), tmp_path).free_energy)
    middle = al.run(strained_aluminium(np.zeros((3, 3))), tmp_path)
    volume = strained_aluminium(np.zeros((3, 3))).to_atoms().get_volume()
    from_energies = (energies[1] - energies[0]) / (2 * step) / volume
    assert abs(from_energies) > 0.01  # over 1.6 GPa: a wrong sign, unit or component cannot hide
    assert middle.stress[row, column] == pytest.approx(from_energies, rel=0.03)


REPEATED = """
from pathlib import Path
from test_gpaw import bain_structure, engine
result = engine(cutoff=220.0, kpoints=(1, 1, 1)).run(bain_structure(11.4, 1.2, "FM"), Path("."))
print(result.free_energy.hex(), result.magmoms.tobytes().hex(), result.forces.tobytes().hex())
"""


def test_two_processes_agree_to_the_last_bit(tmp_path):
    def lines() -> str:
        done = subprocess.run(
            [sys.executable, "-c", REPEATED], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    first = lines()
    assert first and lines() == first


def test_nonmagnetic_is_spin_paired_with_no_moments(tmp_path):
    result = engine().run(bain_structure(11.4, 1.2, "NM"), tmp_path)
    assert result.converged and not np.any(result.magmoms) and result.total_magmom == 0.0
    text = next(tmp_path.glob("*.0.txt")).read_text()
    assert "magmom|" not in text.replace(" ", "")  # no column of moments: half the work


def test_fixed_total_moment_gives_the_slope_of_the_energy_by_the_moments(tmp_path):
    held = engine(kpoints=(3, 3, 1), bands=32, fix_total_magmom=True)
    results = []
    for scale in (0.9, 1.0, 1.1):
        structure = bain_structure(11.4, 2**0.5, "FM")
        moments = (scale * np.asarray(structure.magmoms)).tolist()
        results.append(held.run(structure.model_copy(update={"magmoms": moments}), tmp_path, f"scale-{scale}"))
    low, middle, high = results
    assert [result.total_magmom for result in results] == pytest.approx([5.04, 5.6, 6.16], abs=1e-3)
    work = (high.free_energy - low.free_energy) / (high.magmoms - low.magmoms)[:, 2].sum()
    assert abs(work) > 0.02
    assert -middle.magnetic_forces[:, 2] == pytest.approx(np.full(4, work), rel=0.1)
    assert not np.any(middle.magnetic_forces[:, :2])


def test_antiferromagnet_keeps_its_order_and_lies_above_the_ferromagnet(tmp_path):
    small = engine(kpoints=(3, 3, 1), bands=32)
    ferro, antiferro = (small.run(bain_structure(11.4, 2**0.5, state), tmp_path, state) for state in ("FM", "AFM"))
    assert magnetic_state(ferro.magmoms) == "FM" and magnetic_state(antiferro.magmoms) == "AFM"
    assert np.abs(antiferro.magmoms[[1, 3]]).max() < 0.05  # Ni between antiparallel Fe layers
    assert abs(antiferro.total_magmom) < 0.05
    assert antiferro.free_energy > ferro.free_energy


def test_atoms_on_top_of_each_other_fail_without_a_second_attempt(tmp_path):
    structure = bain_structure(11.4, 1.0, "FM")
    structure = structure.model_copy(update={"positions": [structure.positions[0]] * 4})
    result = engine().run(structure, tmp_path)
    assert not result.converged and len(result.attempts) == 1 and "close" in result.error


def test_canted_moments_are_refused_before_anything_runs(tmp_path):
    structure = bain_structure(11.4, 1.0, "FM").model_copy(
        update={"magmoms": [[2.2, 0, 0], [0, 0, 0.6], [0, 2.2, 0], [0, 0, 0.6]]}
    )
    with pytest.raises(UserError, match="not along one axis"):
        engine().run(structure, tmp_path)
    assert not list(tmp_path.iterdir())
