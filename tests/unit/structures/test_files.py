"""Structures and candidates in files: nothing gets lost, and what is wrong is said in one line."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from crystals import L10_FENI, MN3PT
from hypothesis import given, settings
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.distort import DistortSettings, distort
from mmace_flows.structures.files import check_output, read_candidates, read_structures, write_candidates
from mmace_flows.structures.moments import magnetic_state

DETAILS = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=8), max_size=3
)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.lists(st.floats(-5, 5), min_size=12, max_size=12), DETAILS, st.booleans())
def test_candidates_come_back_as_they_were(tmp_path_factory, seed, numbers, details, from_a_parent):
    structure = distort(MN3PT, seed, DistortSettings(minimum_distance=1.0, strain=0.1)).structure
    structure = structure.model_copy(update={"magmoms": np.array(numbers).reshape(4, 3).tolist()})
    candidate = Candidate(
        structure=structure,
        operation="distort",
        magnetic_state=magnetic_state(structure.magmoms),
        parent=MN3PT.hash() if from_a_parent else None,
        seed=seed if from_a_parent else None,
        group="a group",
        iteration=3,
        details=details,
    )
    path = tmp_path_factory.mktemp("files") / "x.extxyz"
    write_candidates(path, [candidate, candidate])
    assert read_candidates(path) == [candidate, candidate]
    assert read_candidates(path)[0].structure.hash() == structure.hash()


def test_other_readers_find_the_moments(tmp_path):
    turned = L10_FENI.model_copy(update={"magmoms": [[1.5, -0.5, 0.25], [0, 0, 0.6]]})
    candidate = Candidate(structure=turned, operation="base", magnetic_state="non-collinear", details={"a": 'b"c\\'})
    path = write_candidates(tmp_path / "x.extxyz", [candidate])
    atoms = ase.io.read(path)
    assert atoms.get_initial_magnetic_moments().tolist() == turned.magmoms
    assert atoms.info["operation"] == "base" and atoms.info["structure_hash"] == turned.hash()
    from mmace.data import ReadOptions, iterate
    from mmace.train import Configuration

    assert Configuration.from_atoms(atoms).magmoms.tolist() == turned.magmoms
    by_key = next(iterate(path, ReadOptions({"magmoms": "initial_magmoms"})))
    assert by_key.magmoms.tolist() == turned.magmoms and by_key.info["operation"] == "base"


@pytest.mark.parametrize(("name", "format"), [("x.cif", None), ("POSCAR", None), ("x.extxyz", None), ("x.dat", "vasp")])
def test_what_ase_reads_is_read(tmp_path, name, format):
    atoms = L10_FENI.to_atoms()
    del atoms.arrays["initial_magmoms"]
    ase.io.write(tmp_path / name, atoms, format=format or ("vasp" if name == "POSCAR" else None))
    found = read_structures(tmp_path / name, format)
    assert sorted(found[0].symbols) == ["Fe", "Ni"] and not np.any(found[0].magmoms)
    assert abs(np.linalg.det(found[0].cell)) == pytest.approx(2.5 * 2.5 * 3.57, rel=1e-4)


@pytest.mark.parametrize("key", ["REF_magmom", "initial_magmoms", "magmoms", "magmom"])
def test_moments_under_any_usual_name_scalars_along_z(tmp_path, key):
    atoms = L10_FENI.to_atoms()
    del atoms.arrays["initial_magmoms"]
    atoms.arrays[key] = np.array([2.2, -0.6])
    ase.io.write(tmp_path / "x.extxyz", atoms, format="extxyz")
    assert read_structures(tmp_path / "x.extxyz")[0].magmoms == [[0, 0, 2.2], [0, 0, -0.6]]


def test_magnetic_cif_has_vectors(tmp_path):
    from pymatgen.io.cif import CifWriter

    from mmace_flows.structures.adapters import to_pymatgen

    turned = L10_FENI.model_copy(update={"magmoms": [[1.0, 0.0, 2.0], [0.0, 0.0, 0.5]]})
    crystal = to_pymatgen(turned)
    from pymatgen.electronic_structure.core import Magmom

    crystal.add_site_property("magmom", [Magmom(moment) for moment in turned.magmoms])
    CifWriter(crystal, write_magmoms=True).write_file(tmp_path / "x.mcif")
    found = read_structures(tmp_path / "x.mcif")[0]
    by_element = {s: m for s, m in zip(found.symbols, found.magmoms, strict=True)}
    assert by_element["Fe"] == pytest.approx([1.0, 0.0, 2.0]) and by_element["Ni"] == pytest.approx([0, 0, 0.5])


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (None, None, "no such file"),
        ("nonsense\n", None, "cannot be read|not recognised"),
        ("nonsense\n", "cif", "cannot be read"),
        ("nonsense\n", "ciff", "unknown format 'ciff'; did you mean 'cif'"),
        ("nonsense\n", "mcif", "cannot be read as magnetic CIF"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, format, message):
    path = tmp_path / "x.dat"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_candidates(path, format)
    assert "\n" not in str(caught.value)


def test_configurations_that_are_wrong(tmp_path):
    path = tmp_path / "x.extxyz"

    def write(comment, row="Fe 0 0 0 0 0 1"):
        head = 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:initial_magmoms:R:3 pbc="T T T"'
        path.write_text(f"1\n{head} {comment}\n{row}\n")

    write('operation=x magnetic_state=upside details="{}"')
    with pytest.raises(UserError, match="configuration 0: the comment line does not describe a candidate"):
        read_candidates(path)
    write('operation=x details="{"')
    with pytest.raises(UserError, match=r"details are not JSON|cannot be read"):
        read_candidates(path)
    write("", "Fe 0 0 0 0 0 nan")
    with pytest.raises(UserError, match="moments contain NaN"):
        read_candidates(path)
    write("", "X 0 0 0 0 0 1")
    with pytest.raises(UserError, match="atom 0 has no element"):
        read_candidates(path)
    write("parent=123 operation=x")  # a hash of digits reads as a number
    assert read_candidates(path)[0].parent == "123"


def test_outputs_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.extxyz").mkdir()
    for name, message in (
        ("x.json", "unknown format '.json'"),
        ("x", "no suffix"),
        ("folder.extxyz", "is a folder"),
        ("nowhere/x.extxyz", "make it first"),
    ):
        with pytest.raises(UserError, match=message):
            check_output(tmp_path / name)


def test_an_older_file_is_untouched_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "x.extxyz"
    path.write_text("old")
    atoms = Atoms(bulk("Fe"))
    atoms.arrays.pop("initial_magmoms", None)
    candidate = Candidate(structure=MN3PT, operation="base", magnetic_state="NM")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="no space left"):
        write_candidates(path, [candidate])
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.extxyz"]
