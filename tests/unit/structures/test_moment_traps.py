"""Ways in which moments get lost between packages, each seen with the pinned versions, and what is done about it.

The first half of each test shows the trap: where it fails, the package has been mended and our detour can go.
"""

from __future__ import annotations

import io

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError
from pymatgen.analysis.magnetism import CollinearMagneticStructureAnalyzer
from pymatgen.core import Lattice, Species, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from mmace.errors import UserError
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.adapters import from_pymatgen, to_pymatgen
from mmace_flows.structures.files import read_candidates, write_candidates

MOMENTS = [[0.0, 0.0, 2.0], [1.0, -0.5, 0.0]]


def turned() -> Atoms:
    atoms = Atoms("Fe2", cell=[2.86] * 3, scaled_positions=[[0, 0, 0], [0.5] * 3], pbc=True)
    atoms.set_initial_magnetic_moments(MOMENTS)
    return atoms


def test_bulk_iron_presets_scalars_and_refuses_vectors():
    atoms = bulk("Fe", cubic=True)
    with pytest.raises(ValueError, match="wrong shape"):
        atoms.set_initial_magnetic_moments(MOMENTS)
    structure = MagneticStructure.from_atoms(atoms, MOMENTS)
    assert structure.to_atoms().get_initial_magnetic_moments().tolist() == MOMENTS


def test_ase_db_cannot_read_vectors_back_and_our_files_can(tmp_path):
    database = ase.db.connect(tmp_path / "x.db")
    database.write(turned())
    with pytest.raises(ValueError, match="wrong length"):
        database.get_atoms(1)
    structure = MagneticStructure.from_atoms(turned())
    candidate = Candidate(structure=structure, operation="base", magnetic_state="non-collinear")
    write_candidates(tmp_path / "x.extxyz", [candidate])
    assert read_candidates(tmp_path / "x.extxyz") == [candidate]


def test_ase_espresso_writer_fails_on_vectors():
    with pytest.raises(ValueError, match="ambiguous"):
        ase.io.write(io.StringIO(), turned(), format="espresso-in", pseudopotentials={"Fe": "Fe.upf"}, input_data={})


def test_pymatgen_collinear_analyzer_refuses_vectors_and_our_state_does_not():
    crystal = AseAtomsAdaptor.get_structure(turned())
    with pytest.raises(ValueError, match="ambiguous"):
        CollinearMagneticStructureAnalyzer(crystal)
    from mmace_flows.structures.moments import magnetic_state

    assert magnetic_state(from_pymatgen(crystal).magmoms) == "non-collinear"


def test_atomate2_ionic_steps_refuse_vectors_and_our_labels_do_not():
    schemas = pytest.importorskip("atomate2.ase.schemas")
    with pytest.raises(ValidationError):
        schemas.IonicStep(magmoms=MOMENTS)
    from mmace_flows.schemas.label import LabelDocument

    field = LabelDocument.model_fields["magmoms"].annotation
    assert field == list[list[float]] | None


def test_enumerated_spins_that_are_none_are_never_filled_silently():
    crystal = Structure(
        Lattice.cubic(2.86), [Species("Fe", spin=2.0), Species("Ni", spin=None)], [[0, 0, 0], [0.5] * 3]
    )
    with pytest.raises(UserError, match="site 1 has no moment"):
        from_pymatgen(crystal)
    assert from_pymatgen(crystal, missing=0.0).magmoms == [[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]


def test_extxyz_and_pymatgens_adaptor_keep_vectors(tmp_path):
    ase.io.write(tmp_path / "x.extxyz", turned())
    assert ase.io.read(tmp_path / "x.extxyz").get_initial_magnetic_moments().tolist() == MOMENTS
    crystal = AseAtomsAdaptor.get_structure(turned())
    assert np.asarray(crystal.site_properties["magmom"]).tolist() == MOMENTS
    assert to_pymatgen(MagneticStructure.from_atoms(turned())).site_properties["magmom"] == MOMENTS
