"""Runs as training data: their files, splits that keep crystals apart, scores, and the job that trains."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from jobflow import Flow, Job, run_locally
from memory_stores import MemoryStores, memory_store
from scipy.spatial.transform import Rotation

from mmace import Potential, PotentialConfig, from_bytes
from mmace.anisotropy import direction_energies
from mmace.errors import UserError
from mmace_flows.learning.anisotropy_data import (
    ParentLeakError,
    check_no_leak,
    configuration_of,
    crystal_groups,
    read_documents,
    split_by_crystal,
    with_directions,
)
from mmace_flows.learning.anisotropy_train_maker import AnisotropyTrainMaker
from mmace_flows.learning.anisotropy_training import POTENTIAL, anisotropy_potential, scores_of
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import directions

TINY = {
    "hidden": "4x0e", "r_max": 3.2, "l_pos": 2, "l_mag": 2, "num_bessel": 4, "num_chebyshev": 3, "radial_hidden": [8],
}  # fmt: skip
PAIRS = (("Fe", "Pt"), ("Fe", "Co"), ("Mn", "Pt"), ("Co", "Pt"), ("Fe", "Mn"), ("Mn", "Co"))
ELEMENTS = ["Mn", "Fe", "Co", "Pt"]


def crystal(number: int) -> Atoms:
    generator = np.random.default_rng(number)
    cell = np.diag([2.7, 2.7, 3.0 + 0.9 * generator.random()]) + generator.normal(scale=0.15, size=(3, 3))
    pair = PAIRS[number % len(PAIRS)]
    return Atoms(pair, cell=cell, scaled_positions=[[0, 0, 0], generator.uniform(0.35, 0.65, 3)], pbc=True)


def run(atoms: Atoms, teacher: Potential | None = None, lengths=None, **more: Any) -> SpinOrbitDocument:
    lengths = np.array([2.2] + [0.4] * (len(atoms) - 1) if lengths is None else lengths)
    atoms = atoms.copy()
    atoms.set_initial_magnetic_moments(np.outer(lengths, [0, 0, 1]))
    structure = MagneticStructure.from_atoms(atoms)
    vectors = directions("lebedev:26")
    energies = -100.0 + (1e-4 * vectors[:, 0] ** 2 if teacher is None else direction_energies(teacher, atoms, vectors))
    fields = {
        "spin_orbit_key": structure.hash(), "status": "converged", "structure": structure, "parent": structure.hash(),
        "directions": vectors.tolist(), "energies": energies.tolist(), "lengths": lengths.tolist(), "engine": "gpaw",
        "engine_version": "1", "settings": {}, "created": "now", "code_version": "1", "campaign": "study",
    }  # fmt: skip
    return SpinOrbitDocument(**{**fields, **more})


def teacher() -> Potential:
    model = Potential(PotentialConfig(elements=ELEMENTS, seed=3, **TINY))
    model.set_energy_scale(1e-3)
    return model


def test_a_run_becomes_a_configuration_with_each_direction_once():
    atoms = crystal(0)
    document = run(atoms, teacher())
    energies = np.array(document.energies)
    # the cut of the bands makes opposite directions differ a little
    energies[np.array(document.directions)[:, 2] < 0] += 2e-6
    found = configuration_of(document.model_copy(update={"energies": energies.tolist()}))
    assert len(found.anisotropy) == 13 and found.anisotropy.mean() == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(found.magmoms, np.outer([2.2, 0.4], [0, 0, 1]))
    exact = direction_energies(teacher(), found.to_atoms(), found.directions)
    np.testing.assert_allclose(found.anisotropy, exact - exact.mean(), atol=1.1e-6)


def test_directions_are_drawn_by_seed_and_run():
    found = configuration_of(run(crystal(0)))
    few = with_directions(found, 5, seed=1)
    assert len(few.anisotropy) == 5
    np.testing.assert_array_equal(few.directions, with_directions(found, 5, seed=1).directions)
    assert not np.array_equal(few.directions, with_directions(found, 5, seed=2).directions)
    assert len(with_directions(found, 50).anisotropy) == 13


def test_one_crystal_whatever_its_cell():
    atoms = crystal(1)
    double = make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    turn = Rotation.random(random_state=2).as_matrix()
    turned = Atoms(atoms.symbols, positions=atoms.positions @ turn.T + 0.3, cell=atoms.cell @ turn.T, pbc=True)
    strained = atoms.copy()
    strained.set_cell(atoms.cell * 1.01, scale_atoms=True)
    swapped = atoms[[1, 0]]
    structures = [run(one).structure for one in (atoms, crystal(0), double, turned, strained, swapped)]
    assert crystal_groups(structures) == [0, 1, 0, 0, 0, 0]


def test_splits_keep_crystals_apart_and_leaks_are_found():
    documents = [run(crystal(number)) for number in range(6)]
    documents += [
        run(make_supercell(crystal(number), np.diag([1, 1, 2])), lengths=[2, 0.3, -2, -0.3]) for number in (0, 3)
    ]
    for seed in range(4):
        training, held = split_by_crystal(documents, 0.34, seed)
        assert len(training) + len(held) == 8 and len({one.structure.symbols[0] for one in held}) >= 1
        check_no_leak(training, held)
    with pytest.raises(ParentLeakError, match="is the crystal of run"):
        check_no_leak(documents[:6], documents[6:])
    assert split_by_crystal(documents[:1], 0.5)[1] == []


def test_files_of_runs(tmp_path):
    documents = [run(crystal(number)) for number in range(2)]
    plain = [one.model_dump(mode="json") for one in documents]
    (tmp_path / "a.json").write_text(json.dumps({"results": [{"document": one} for one in plain]}))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, plain)))
    wanted = sorted(one.spin_orbit_key for one in documents)
    for name in ("a.json", "b.jsonl"):
        assert [one.spin_orbit_key for one in read_documents(str(tmp_path / name))] == wanted
    (tmp_path / "c.json").write_text("[{}]")
    (tmp_path / "d.json").write_text("{")
    for name, said in (("c.json", "run 0: spin_orbit_key"), ("d.json", "not valid JSON"), ("e.json", "cannot be read")):
        with pytest.raises(UserError, match=said):
            read_documents(str(tmp_path / name))


def test_scores_of_the_teacher_and_of_silence():
    truth = teacher()
    documents = [run(crystal(number), truth) for number in range(5)]
    found = scores_of(truth, documents)
    assert found.relative_error < 1e-6 and found.spearman == pytest.approx(1.0) and found.recall == 1.0
    silent = teacher()
    silent.set_energy_scale(0.0)
    # errors as large as what is there, but for the floor of 1 µeV per atom
    none = scores_of([silent, silent], documents)
    assert 0.5 < none.relative_error < 1.0 and none.spearman is None


def test_the_default_model_sees_the_anisotropy_of_a_cubic_crystal():
    iron = bulk("Fe")
    iron.arrays.pop("initial_magmoms")
    iron.set_initial_magnetic_moments([[0.0, 0.0, 2.2]])
    cubic = np.array([[0, 0, 1.0], [0, 1, 1], [1, 1, 1]]) / np.sqrt([[1], [2], [3]])
    found = direction_energies(Potential(anisotropy_potential(["Fe"], {"hidden": "4x0e"})), iron, cubic)
    assert np.ptp(found) > 1e-6
    assert POTENTIAL["l_pos"] == 4  # because without it there is none:
    flat = direction_energies(Potential(anisotropy_potential(["Fe"], {"hidden": "4x0e", "l_pos": 3})), iron, cubic)
    assert np.ptp(flat) < 1e-12


@pytest.fixture
def stores(tmp_path, monkeypatch):
    made = MemoryStores(tmp_path)
    made.spin_orbit = memory_store("spin_orbit_key")
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda *_: made)
    return made


def test_runs_of_a_campaign_are_those_that_it_found_too(stores):
    documents = [run(crystal(number)) for number in range(3)]
    stores.spin_orbit.update([one.model_dump() for one in documents], key="spin_orbit_key")
    job = {"uuid": "1", "metadata": {"campaign": "again"}, "output": {"spin_orbit_key": documents[1].spin_orbit_key}}
    stores.jobs.docs_store.update([job], key="uuid")
    assert [one.spin_orbit_key for one in read_documents("store:again")] == [documents[1].spin_orbit_key]
    assert len(read_documents("store:study")) == len(read_documents("store:")) == 3


def outputs_of(jobs: list[Job]) -> list[dict[str, Any]]:
    responses = run_locally(Flow(jobs), ensure_success=True, log=False)
    return [responses[one.uuid][1].output for one in jobs]


def test_the_job_trains_and_stores_a_member(stores):
    documents = [run(crystal(number), teacher()) for number in range(6)]
    stores.spin_orbit.update([one.model_dump() for one in documents], key="spin_orbit_key")
    maker = AnisotropyTrainMaker(potential=TINY, training={"epochs": 2, "num_threads": 1}, committee=2)
    jobs = maker.make_committee("study", [one.spin_orbit_key for one in documents], 1)
    assert [one.name for one in jobs] == ["train: round 1, member 0", "train: round 1, member 1"]
    outputs = outputs_of(jobs)
    models = [from_bytes(stores.load_model(one["model_hash"]))[0] for one in outputs]
    assert outputs[0]["model_hash"] != outputs[1]["model_hash"] and not models[0].knows_energies
    assert outputs[0]["scores"]["runs"] == 1 and models[0].config.elements == ELEMENTS
    assert any("validation" in line for _, _, line in stores.events)


def test_the_job_adds_anisotropy_to_a_model_of_energies(stores):
    from mmace import to_bytes

    exchange = Potential(PotentialConfig(elements=ELEMENTS, symmetry="nonsoc", **{**TINY, "l_mag": 1}))
    exchange.set_atomic_energies(dict.fromkeys(ELEMENTS, -8.0))
    key = stores.save_model(to_bytes(exchange), {})
    documents = [run(crystal(number), teacher()) for number in range(3)]
    stores.spin_orbit.update([one.model_dump() for one in documents], key="spin_orbit_key")
    part = {name: value for name, value in TINY.items() if name != "r_max"}
    maker = AnisotropyTrainMaker(potential=part, training={"epochs": 1}, exchange=key, committee=1)
    (output,) = outputs_of(maker.make_committee("study", [document.spin_orbit_key for document in documents]))
    model = from_bytes(stores.load_model(output["model_hash"]))[0]
    assert model.knows_energies and model.anisotropy is not None and output["parent"] == key
