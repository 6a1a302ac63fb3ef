"""Random distortions: what changes, by how much, and that a seed decides everything."""

import numpy as np
import pytest

from mmace.errors import UserError
from mmace_flows.structures.base_cells import bain_structure, base_candidates, tetragonal_ratio, volume_per_atom
from mmace_flows.structures.distort import DistortSettings, distort, distortions, minimum_distance, perturb, spawn_seeds
from mmace_flows.structures.moments import magnetic_state

PARENT = bain_structure(11.4, 1.2, "FM")


def test_a_seed_decides_everything():
    assert distort(PARENT, 7) == distort(PARENT, 7)
    assert distort(PARENT, 7).structure.hash() != distort(PARENT, 8).structure.hash()
    assert spawn_seeds(1, 5)[:3] == spawn_seeds(1, 3) and len(set(spawn_seeds(1, 5))) == 5


def test_volume_scale_is_uniform_and_keeps_the_shape():
    settings = DistortSettings(displacement=0.0)
    candidates = [distort(PARENT, seed, settings) for seed in range(300)]
    factors = np.array([volume_per_atom(c.structure) / 11.4 for c in candidates])
    assert factors.min() > 0.6 and factors.max() < 1.4
    assert factors.mean() == pytest.approx(1.0, abs=0.05) and factors.std() == pytest.approx(0.8 / 12**0.5, abs=0.03)
    assert factors == pytest.approx([c.details["volume_factor"] for c in candidates])
    fractional = PARENT.to_atoms().get_scaled_positions()
    for candidate in candidates[:5]:
        assert tetragonal_ratio(candidate.structure.cell) == pytest.approx(1.2)
        assert candidate.structure.to_atoms().get_scaled_positions() == pytest.approx(fractional)


def test_displacements_and_strain_have_their_sigma():
    still = DistortSettings(volume_scale=(1.0, 1.0), displacement=0.05)
    moved = np.concatenate(
        [np.ravel(distort(PARENT, s, still).structure.positions) - np.ravel(PARENT.positions) for s in range(200)]
    )
    assert moved.std() == pytest.approx(0.05, rel=0.06) and abs(moved.mean()) < 0.005
    strained = DistortSettings(volume_scale=(1.0, 1.0), displacement=0.0, strain=0.02)
    inverse = np.linalg.inv(np.asarray(PARENT.cell))
    strains = np.array(
        [inverse @ np.asarray(distort(PARENT, s, strained).structure.cell) - np.eye(3) for s in range(200)]
    )
    assert strains == pytest.approx(strains.transpose(0, 2, 1))
    assert strains[:, 0, 1].std() == pytest.approx(0.02, rel=0.15)


def test_where_it_comes_from_is_recorded():
    candidate = distort(PARENT, 3, state="AFM", group="train", iteration=1)
    assert candidate.parent == PARENT.hash() and candidate.seed == 3
    assert candidate.magnetic_state == magnetic_state(candidate.structure.magmoms) == "AFM"
    assert candidate.details["pattern"] == "AFM" and candidate.details["displacement"] == 0.05


def test_sets_of_distortions_reach_every_state_plain_and_varied():
    parents = base_candidates()
    candidates = distortions(
        parents, 5, seed=0, settings=DistortSettings(volume_scale=(0.9, 1.1)), states=("FM", "AFM")
    )
    assert len(candidates) == 15 and len({c.structure.hash() for c in candidates}) == 15
    assert candidates == distortions(parents, 5, 0, DistortSettings(volume_scale=(0.9, 1.1)), states=("FM", "AFM"))
    kinds = {(c.details["pattern"], c.details["moment_scale"] != [1.0, 1.0]) for c in candidates}
    assert kinds == {("FM", False), ("FM", True), ("AFM", False), ("AFM", True)}
    assert {c.parent for c in candidates} == {p.structure.hash() for p in parents}
    assert [c.details["base"] for c in candidates[::5]] == ["fcc", "bcc", "bct1.6"]


def test_atoms_never_come_too_close():
    settings = DistortSettings(displacement=0.3, minimum_distance=2.0)
    for seed in range(20):
        structure = distort(PARENT, seed, settings).structure
        assert minimum_distance(np.asarray(structure.cell), np.asarray(structure.positions)) >= 2.0
    with pytest.raises(UserError, match="lower minimum_distance"):
        distort(PARENT, 0, DistortSettings(minimum_distance=4.0))


def test_minimum_distance_agrees_with_ase_in_a_skewed_cell():
    generator = np.random.default_rng(5)
    for _ in range(20):
        atoms = PARENT.to_atoms()
        atoms.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + generator.normal(0, 0.3, (3, 3))), scale_atoms=True)
        supercell = atoms.repeat(3)
        expected = supercell.get_all_distances(mic=True)
        expected = expected[expected > 1e-8].min()
        assert minimum_distance(np.asarray(atoms.cell), atoms.positions) == pytest.approx(expected)


def test_perturb_keeps_the_volume_and_the_order():
    parent = bain_structure(11.4, 1.2, "AFM")
    candidate = perturb(parent, 1, displacement=0.03)
    assert volume_per_atom(candidate.structure) == pytest.approx(11.4)
    assert candidate.operation == "perturb"
    factors = np.asarray(candidate.structure.magmoms)[:, 2] / np.asarray(parent.magmoms)[:, 2]
    assert np.all((factors >= 0.7) & (factors <= 1.1))
