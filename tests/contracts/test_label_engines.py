"""What every engine must satisfy. A new engine joins ``ENGINES`` and passes, or is not an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from espresso_tools import debian_files, espresso, espresso_there  # noqa: F401 - a fixture
from maggma.stores import MemoryStore
from vasp_files import POTCARS, vasp_stand_in  # noqa: F401 - a fixture

from mmace_flows.labels.engine import Engine, get_engine
from mmace_flows.labels.gpaw_engine import GPAWEngine
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.labels.labelling import find_label, find_or_compute, recompute_label
from mmace_flows.labels.vasp_settings import VaspSettings
from mmace_flows.schemas.label import LabelDocument, label_key
from mmace_flows.schemas.structure import Candidate, MagneticStructure

# cheap, but converged tightly enough that forces and differences of energies can be told apart
GPAW_CHEAP = {"cutoff": 280.0, "kpoints": (2, 2, 1), "smearing_width": 0.2, "bands": 16}


def gpaw(**changes) -> Engine:
    pytest.importorskip("gpaw")
    return GPAWEngine(GPAWSettings(**{**GPAW_CHEAP, "density_convergence": 1e-6, **changes}))


def gpaw_that_cannot_converge() -> Engine:
    return gpaw(max_iterations=2)


def quantum_espresso(**changes) -> Engine:
    return espresso("Fe", "Ni", **changes)


def quantum_espresso_that_cannot_converge() -> Engine:
    return quantum_espresso(max_iterations=2)


def vasp(**changes) -> Engine:
    settings = VaspSettings(kpoints=(2, 2, 1), potcars=POTCARS, **changes)
    return get_engine("vasp", settings.model_dump(mode="json"), ["Fe", "Ni"])


def vasp_that_cannot_converge() -> Engine:
    return vasp(max_iterations=2)


# engine, one that cannot converge, and between which eV per atom the free energy of FeNi lies: GPAW's is against atoms
# of the same setups; pw.x's is that of bare ions and 8 + 10 electrons, with the core's exchange, in Rydberg about −142
ENGINES = [
    pytest.param((gpaw, gpaw_that_cannot_converge, (-12.0, -4.0)), id="gpaw", marks=pytest.mark.engine),
    pytest.param(
        (quantum_espresso, quantum_espresso_that_cannot_converge, (-968.0, -962.0)),
        id="espresso",
        marks=[pytest.mark.engine, espresso_there],
    ),
    # no binary is at hand: a stand-in that writes VASP's files, so that input, custodian and output are what is tested
    pytest.param((vasp, vasp_that_cannot_converge, (-8.5, -7.0)), id="vasp"),
]


def small_structure(shift: float = 0.0, magmoms=((0, 0, 2.2), (0, 0, 0.6))) -> MagneticStructure:
    """Fe and Ni, tetragonal and displaced: forces and shear, at little cost. ``shift`` of Fe along x, Å."""
    atoms = Atoms("FeNi", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.65, 2.65, 3.2], pbc=True)
    atoms.positions[1] += [0.08, 0.05, 0.1]
    atoms.positions[0, 0] += shift
    return MagneticStructure.from_atoms(atoms, np.array(magmoms, dtype=float))


def candidate(structure: MagneticStructure) -> Candidate:
    return Candidate(structure=structure, operation="test", magnetic_state="FM")


@pytest.fixture(scope="module", params=ENGINES)
def made(request, tmp_path_factory) -> tuple[Engine, LabelDocument, MemoryStore, Path, Any]:
    """An engine, one label of it, and the store it is in: computed once for all tests."""
    make, make_failing, energies = request.param
    if make is quantum_espresso:
        request.getfixturevalue("debian_files")
    if make is vasp:
        request.getfixturevalue("vasp_stand_in")
    labels = MemoryStore(key="label_key")
    labels.connect()
    folder = tmp_path_factory.mktemp("scratch")
    engine = make()
    document, computed = find_or_compute(candidate(small_structure()), engine, labels, folder, "contract")
    assert computed
    return engine, document, labels, folder, (make_failing, energies)


def test_the_document_is_complete(made):
    engine, document, labels, _, _ = made
    assert document.status == "converged", document.error
    assert document.label_key == label_key(document.structure, engine.name, engine.settings_dict())
    assert find_label(document.label_key, labels) == document
    for name in (
        "energy",
        "free_energy",
        "total_magmom",
        "scf_iterations",
        "wall_seconds",
        "host",
        "magnetic_state_reached",
    ):
        assert getattr(document, name) is not None, name
    assert np.shape(document.forces) == (2, 3) and np.shape(document.stress) == (3, 3)
    assert document.attempts and document.engine_version and document.settings
    assert get_engine(document.engine, document.settings).settings_dict() == engine.settings_dict()


def test_units_are_electronvolts_and_angstroms(made):
    _, document, _, _, (_, (lowest, highest)) = made
    # in Hartree, Rydberg or per cell this would be out of range
    assert lowest < document.free_energy / 2 < highest
    assert document.free_energy <= document.energy + 1e-9  # −TS lowers the free energy below the extrapolated one
    assert 0.05 < np.abs(document.forces).max() < 5.0
    assert np.abs(document.stress).max() < 0.5
    assert np.allclose(document.stress, np.transpose(document.stress))


def test_moments_are_vectors_in_the_lab_frame(made):
    _, document, _, _, _ = made
    moments = np.asarray(document.magmoms)
    assert moments.shape == (2, 3)
    assert np.allclose(moments[:, :2], 0.0)
    assert 1.5 < moments[0, 2] < 3.2 and 0.0 < moments[1, 2] < 1.2
    assert document.magnetic_state_asked == document.magnetic_state_reached == "FM"
    assert document.total_magmom == pytest.approx(moments[:, 2].sum(), abs=0.6)


def test_forces_sum_to_nothing(made):
    _, document, _, _, _ = made
    assert np.abs(np.sum(document.forces, axis=0)).max() < 0.02


def test_forces_are_derivatives_of_the_free_energy(made):
    engine, document, labels, folder, _ = made
    step = 0.02
    energies = []
    for shift in (-step, step):
        moved, _ = find_or_compute(candidate(small_structure(shift)), engine, labels, folder)
        assert moved.status == "converged"
        energies.append(moved.free_energy)
    force = -(energies[1] - energies[0]) / (2 * step)
    assert document.forces[0][0] == pytest.approx(force, abs=0.02)


def test_a_second_call_computes_nothing(made):
    engine, document, labels, folder, _ = made
    again, computed = find_or_compute(candidate(small_structure()), engine, labels, folder, "another campaign")
    assert not computed and again == document


def test_the_energy_can_be_made_again_from_the_document_alone(made):
    _, document, labels, folder, _ = made
    stored = labels.query_one({"label_key": document.label_key})
    alone = LabelDocument.model_validate({k: stored[k] for k in LabelDocument.model_fields if k in stored})
    result = recompute_label(alone, folder)
    assert result.free_energy == pytest.approx(document.free_energy, abs=1e-6)
    assert result.energy == pytest.approx(document.energy, abs=1e-6)
    assert np.allclose(result.magmoms, document.magmoms, atol=1e-4)


def test_moments_along_another_axis_give_the_same_numbers_turned(made):
    engine, document, labels, folder, _ = made
    turned, _ = find_or_compute(candidate(small_structure(magmoms=((2.2, 0, 0), (0.6, 0, 0)))), engine, labels, folder)
    assert turned.free_energy == pytest.approx(document.free_energy, abs=1e-6)
    assert np.allclose(turned.forces, document.forces, atol=1e-6)
    assert np.allclose(np.asarray(turned.magmoms)[:, 0], np.asarray(document.magmoms)[:, 2], atol=1e-6)
    assert np.allclose(np.asarray(turned.magmoms)[:, 1:], 0.0)


def test_a_calculation_that_does_not_converge_is_set_aside(made):
    *_, labels, folder, (make_failing, _) = made
    document, computed = find_or_compute(candidate(small_structure()), make_failing(), labels, folder)
    assert computed and document.status == "failed"
    assert len(document.attempts) == 2 and "safer mixing" in document.attempts[1]
    assert document.error and "\n" not in document.error
    assert document.free_energy is None and document.forces is None and document.magmoms is None
    assert find_label(document.label_key, labels) == document
