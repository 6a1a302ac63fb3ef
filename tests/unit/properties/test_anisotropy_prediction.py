"""Predictions of random potentials: the same numbers as single evaluations, axes, spread, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mmace import Potential, PotentialConfig, build_graph
from mmace.anisotropy import direction_energies, turns_to
from mmace.errors import UserError
from mmace_flows.properties.anisotropy_prediction import PredictionSettings, predict_anisotropy
from mmace_flows.properties.anisotropy_values import surface_of
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import directions

FIXED = PredictionSettings(moments="fixed", directions="lebedev:74")


def model(seed: int = 0, **settings) -> Potential:
    config = PotentialConfig(
        elements=["Fe", "Pt"], hidden="4x0e", r_max=3.5, l_pos=2, l_mag=2, num_bessel=4, num_chebyshev=3, seed=seed,
        **settings,
    )  # fmt: skip
    return Potential(config)


def fept(lengths=(2.9, 0.3)) -> MagneticStructure:
    atoms = Atoms("FePt", cell=[2.73, 2.73, 3.76], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
    return MagneticStructure.from_atoms(atoms, np.array(lengths))


def test_half_turns_take_the_axis_to_each_direction():
    vectors = np.concatenate([directions("random:20"), [[0, 0, -1.0], [0, 0, 1.0]]])
    turns = turns_to(np.array([0.0, 0.0, 1.0]), vectors)
    np.testing.assert_allclose(turns[:, :, 2], vectors, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)


def test_energies_are_those_of_single_evaluations():
    potential, structure, vectors = model(), fept((2.9, -0.3)), directions("random:5")
    found = direction_energies(potential, structure.to_atoms(), vectors)
    for vector, energy in zip(vectors, found, strict=True):
        atoms = structure.to_atoms()
        atoms.set_initial_magnetic_moments(np.outer([2.9, -0.3], vector))
        graph = build_graph(atoms, ["Fe", "Pt"], 3.5)
        assert energy == pytest.approx(float(potential(graph)["energy"]), abs=1e-10)


def test_prediction_of_fixed_moments():
    potential = model()
    (found,) = predict_anisotropy(potential, [fept()], FIXED)
    assert found.ordering == "FM" and found.converged and found.values.symmetry == "uniaxial"
    assert found.values.axis == pytest.approx([0, 0, 1]) and found.values.energy_per_atom is None
    assert found.parent == fept((0.0, 0.0)).parent_hash() == fept((0.0, 0.0)).hash()
    vectors = directions("random:50")
    scan = direction_energies(potential, fept().to_atoms(), vectors)
    fitted = surface_of(found.values).energies(vectors)
    assert np.ptp(scan) > 1e-6  # there is something to predict
    np.testing.assert_allclose(fitted - fitted.mean(), scan - scan.mean(), atol=0.02 * np.ptp(scan))
    moments = np.array(found.structure.magmoms)
    np.testing.assert_allclose(moments, np.outer([2.9, 0.3], found.values.easy))


def test_moments_are_relaxed_by_a_model_that_knows_energies():
    potential = model()
    potential.set_atomic_energies({"Fe": -8.0, "Pt": -6.0})
    start = fept()
    found, single = predict_anisotropy(potential, [start, fept((2.0, 0.1))])
    lengths = np.array(found.structure.magmoms) @ np.array(found.values.easy)
    assert not np.allclose(lengths, [2.9, 0.3], atol=1e-3)
    assert found.prediction_key != single.prediction_key and found.parent == single.parent
    assert found.values.energy_per_atom < predict_anisotropy(potential, [start], FIXED)[0].values.energy_per_atom


def test_a_committee_tells_its_spread():
    (found,) = predict_anisotropy([model(0), model(1), model(2)], [fept()], FIXED)
    single = [predict_anisotropy(model(seed), [fept()], FIXED)[0].values for seed in range(3)]
    assert found.values.spread == pytest.approx(np.std([one.k1 for one in single], ddof=1))
    assert found.values.k1 == pytest.approx(np.mean([one.k1 for one in single]))
    assert found.model != single[0].method["model"]


def test_a_cubic_crystal_has_cubic_constants():
    iron = MagneticStructure.from_atoms(bulk("Fe"), np.array([2.2]))
    (found,) = predict_anisotropy(model(), [iron], FIXED)
    assert found.values.symmetry == "cubic" and found.values.easy_kind in ("axis", "none")


def test_what_cannot_be_predicted_is_said():
    crooked = fept().model_copy(update={"magmoms": [[0, 0, 2.9], [1.0, 0, 0]]})
    with pytest.raises(UserError, match="not collinear"):
        predict_anisotropy(model(), [crooked], FIXED)
    with pytest.raises(UserError, match="only differences between directions"):
        predict_anisotropy(model(), [fept()], PredictionSettings(moments="relaxed"))
    with pytest.raises(ValueError, match="there are 14 and 26 points"):
        PredictionSettings(directions="lebedev:15")


def test_predictions_are_kept_and_found_again(tmp_path, monkeypatch):
    from jobflow import Flow, run_locally
    from memory_stores import MemoryStores, memory_store

    from mmace import to_bytes
    from mmace_flows.properties.anisotropy_prediction_maker import AnisotropyPredictionMaker

    stores = MemoryStores(tmp_path)
    stores.predictions = memory_store("prediction_key")
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda *_: stores)
    members = [stores.save_model(to_bytes(model(seed)), {}) for seed in range(2)]
    crooked = fept().model_copy(update={"magmoms": [[0, 0, 2.9], [1.0, 0, 0]]})
    maker, structures = AnisotropyPredictionMaker(settings=FIXED), [fept(), crooked, fept((2.5, 0.2)), fept()]

    def output() -> dict:
        job = maker.make(structures, members, "study", "part 1")
        return run_locally(Flow([job]), ensure_success=True, log=False)[job.uuid][1].output

    first, again = output(), output()
    assert first["made"] == 3 and again["made"] == 1  # what cannot be predicted is tried again
    assert "not collinear" in first["failed"][crooked.hash()]
    assert first["prediction_keys"] == again["prediction_keys"] and stores.predictions.count() == 2
    assert first["prediction_keys"][0] == first["prediction_keys"][2]
    assert "2 of them found" not in stores.events[0][2] and "3 of them found" in stores.events[-1][2]
