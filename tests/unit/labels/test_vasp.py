"""VASP: the input that atomate2 writes for us, the output that becomes a label, and a program that stands in for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.units import GPa
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pydantic import ValidationError
from vasp_files import POTCARS, energy_of, forces_of, potcar, vasp_stand_in, write_output  # noqa: F401

from mmace.errors import UserError
from mmace_flows.labels.engine import get_engine
from mmace_flows.labels.labelling import as_label, find_or_compute, recompute_label
from mmace_flows.labels.vasp_import import label_of_folder, label_of_task
from mmace_flows.labels.vasp_input import magnetism_of, static_maker, to_pymatgen, vasp_order
from mmace_flows.labels.vasp_makers import VaspTaskMaker
from mmace_flows.labels.vasp_output import saxis_rotation
from mmace_flows.labels.vasp_settings import VaspSettings
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.moments import magnetic_state

CELL = np.diag([2.5, 2.6, 7.2])
SCALED = np.array([[0.01, 0, 0], [0.5, 0.5, 0.25], [0, 0.02, 0.5], [0.5, 0.5, 0.75]])


def feni(moments) -> MagneticStructure:
    atoms = Atoms("FeNiFeNi", scaled_positions=SCALED, cell=CELL, pbc=True)
    return MagneticStructure.from_atoms(atoms, np.array(moments, dtype=float))


AFM = feni([2.2, 0.5, -2.2, 0.4])
CANTED = feni([[2.0, 0, 0], [0, 0, 0.6], [0, -2.0, 0.1], [0, 0.3, 0]])


def candidate(structure: MagneticStructure) -> Candidate:
    return Candidate(structure=structure, operation="test", magnetic_state=magnetic_state(structure.magmoms))


def written(structure: MagneticStructure, folder: Path, **changes) -> dict[str, str]:
    """Tags of the INCAR that is written, as text, and the POSCAR under its name."""
    settings = VaspSettings.small(potcars=POTCARS, **changes)
    generator = static_maker(structure, settings).input_set_generator
    made = generator.get_input_set(to_pymatgen(structure, magnetism_of(structure, settings)), potcar_spec=True)
    made.write_input(folder)
    tags = dict(line.split(" = ", 1) for line in (folder / "INCAR").read_text().splitlines() if line)
    return {key.strip(): value.strip() for key, value in tags.items()} | {"POSCAR": (folder / "POSCAR").read_text()}


def numbers(text: str) -> list[float]:
    found: list[float] = []
    for word in text.split():
        count, _, value = word.rpartition("*")
        found += [float(value)] * int(count or 1)
    return found


def test_collinear_moments_are_signed_numbers_in_the_order_of_the_poscar(tmp_path):
    tags = written(AFM, tmp_path)
    assert tags["POSCAR"].splitlines()[5:7] == ["Fe Ni", "2 2"]
    assert numbers(tags["MAGMOM"]) == [2.2, -2.2, 0.5, 0.4] and tags["ISPIN"] == "2"
    assert "LNONCOLLINEAR" not in tags and "LSORBIT" not in tags
    assert (tags["GGA"].upper(), tags["LORBIT"], tags["NSW"], tags["ISMEAR"]) == ("PE", "11", "0", "-1")
    lines = (tmp_path / "KPOINTS").read_text().splitlines()
    assert lines[2] == "Gamma" and lines[3] == "8 8 3"  # 1/2.5, 1/2.6, 1/7.2 over 0.05 Å⁻¹


def test_moments_along_x_are_numbers_too_and_their_axis_is_kept():
    turned = feni([[2.2, 0, 0], [0.5, 0, 0], [-2.2, 0, 0], [0.4, 0, 0]])
    magnetism = magnetism_of(turned, VaspSettings.small())
    assert magnetism.kind == "collinear" and magnetism.axis.tolist() == [1, 0, 0]
    assert magnetism.to_lab(np.array([1.0, -1.0])).tolist() == [[1, 0, 0], [-1, 0, 0]]


@pytest.mark.parametrize("spin_orbit", [False, True])
def test_non_collinear_moments_are_three_numbers_per_atom_in_the_lab_frame(tmp_path, spin_orbit):
    tags = written(CANTED, tmp_path, spin_orbit=spin_orbit)
    assert numbers(tags["MAGMOM"]) == [2, 0, 0, 0, -2, 0.1, 0, 0, 0.6, 0, 0.3, 0]
    assert tags["LNONCOLLINEAR"] == "True" and tags["LSORBIT"] == str(spin_orbit)
    assert tags["SAXIS"] == "0 0 1" and tags["ISYM"] == "-1" and "NUPDOWN" not in tags


def test_spin_orbit_coupling_makes_vectors_of_collinear_moments(tmp_path):
    """A single number would be written three times: a moment along (1 1 1)."""
    tags = written(AFM, tmp_path, spin_orbit=True)
    assert numbers(tags["MAGMOM"]) == [0, 0, 2.2, 0, 0, -2.2, 0, 0, 0.5, 0, 0, 0.4]


def test_no_moments_are_a_spin_paired_run_without_magmom(tmp_path):
    tags = written(feni([0, 0, 0, 0]), tmp_path)
    assert tags["ISPIN"] == "1" and "MAGMOM" not in tags


def test_total_moment_and_tags_of_the_user(tmp_path):
    tags = written(AFM, tmp_path, fix_total_magmom=True, incar={"ALGO": "Fast", "METAGGA": "R2SCAN"})
    assert float(tags["NUPDOWN"]) == pytest.approx(0.9) and tags["METAGGA"].upper() == "R2SCAN" and "GGA" not in tags


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"incar": {"MAGMOM": "1"}}, "follows from other settings"),
        ({"incar": {"I_CONSTRAINED_M": 1}}, "penalty"),
        ({"incar": {"algo": "All"}}, "capitals, ALGO"),
        ({"kpoints": (2, 2, 2), "kpoint_spacing": 0.1}, "exactly one"),
        ({"fix_total_magmom": True, "spin_orbit": True}, "collinear"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        VaspSettings.small(**changes)


def test_the_order_keeps_atoms_of_one_element_as_they_come():
    assert vasp_order(["Ni", "Fe", "Ni", "Fe"]).tolist() == [0, 2, 1, 3]


def test_without_vasp_the_refusal_is_one_line(monkeypatch):
    monkeypatch.setenv("ATOMATE2_VASP_CMD", "mpirun-of-nobody -n 2 vasp_std")
    with pytest.raises(UserError, match="'mpirun-of-nobody' is not a program on PATH; set ATOMATE2_VASP_CMD"):
        get_engine("vasp", VaspSettings.small().model_dump(mode="json"), ["Fe"])


@pytest.fixture
def machine(vasp_stand_in, tmp_path):  # noqa: F811
    """The stand-in's folder of programs and POTCARs."""
    return vasp_stand_in


def engine(**changes):
    settings = VaspSettings.small(
        potcars=POTCARS, kpoints=(2, 2, 1), kpoint_spacing=None, **{"max_iterations": 8, **changes}
    )
    return get_engine("vasp", settings.model_dump(mode="json"), ["Fe", "Ni"])


@pytest.mark.parametrize("structure", [AFM, CANTED, feni([0, 0, 0, 0])], ids=["collinear", "canted", "none"])
def test_a_label_has_our_order_units_and_frame(machine, tmp_path, structure):
    labels = MemoryStore(key="label_key")
    labels.connect()
    document, computed = find_or_compute(candidate(structure), engine(), labels, tmp_path / "scratch")
    assert computed and document.status == "converged", document.error
    positions = np.array(structure.positions)
    moments = 0.9 * np.array(structure.magmoms)
    assert document.free_energy == pytest.approx(energy_of(positions, moments), abs=1e-6)
    assert document.energy == pytest.approx(document.free_energy + 0.02)
    np.testing.assert_allclose(document.forces, forces_of(positions), atol=1e-6)  # atom by atom
    np.testing.assert_allclose(document.magmoms, moments, atol=6e-4)  # three digits in the OUTCAR
    np.testing.assert_allclose(np.diag(document.stress), [-GPa, -GPa, -2 * GPa])  # 10, 10 and 20 kB
    assert document.engine_version.startswith("6.4.2 (atomate2") and document.scf_iterations == 6
    assert document.details["kpoint_grid"] == [2, 2, 1]
    assert (
        document.settings["potcars"]["Fe"]["symbol"] == "Fe_pv"
        and len(document.settings["potcars"]["Fe"]["sha256"]) == 64
    )
    left = {path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file()}
    assert {"INCAR", "OUTCAR", "vasprun.xml"} <= left and "POTCAR" not in left
    again, computed = find_or_compute(candidate(structure), engine(), labels, tmp_path / "scratch")
    assert not computed and again == document
    assert recompute_label(document, tmp_path / "again").free_energy == document.free_energy


def test_what_does_not_converge_is_tried_again_and_set_aside(machine, tmp_path):
    labels = MemoryStore(key="label_key")
    labels.connect()
    document, _ = find_or_compute(candidate(AFM), engine(max_iterations=2), labels, tmp_path)
    assert document.status == "failed" and document.error == "SCF not converged in 4 iterations"
    assert len(document.attempts) == 2 and document.free_energy is None


def test_another_potcar_is_another_label_and_is_not_taken_for_the_first(machine):
    first = engine()
    potcar(machine / "pseudo", "Fe_pv", note="another one")
    try:
        assert engine().settings_dict() != first.settings_dict()
        with pytest.raises(UserError, match="POTCAR PBE_54/Fe_pv: is not the file"):
            get_engine("vasp", first.settings_dict())
    finally:
        potcar(machine / "pseudo", "Fe_pv")
    with pytest.raises(UserError, match="POTCAR PBE_54/Fe_sv: not found; set PMG_VASP_PSP_DIR"):
        get_engine("vasp", VaspSettings.small(potcars={"Fe": "Fe_sv"}).model_dump(mode="json"), ["Fe"])


def test_structures_that_vasp_refuses_are_named_before(machine):
    left_handed = AFM.model_copy(update={"cell": (CELL[[1, 0, 2]]).tolist()})
    with pytest.raises(UserError, match="left-handed"):
        engine().check(left_handed)
    with pytest.raises(UserError, match="periodic in three directions"):
        engine().check(AFM.model_copy(update={"pbc": [True, True, False]}))


def run_of_someone(folder: Path, moments, **incar) -> None:
    total = float(np.sum(moments)) if np.ndim(moments) == 1 else None
    write_output(
        folder, ["Fe", "Fe", "Ni", "Ni"], CELL, SCALED[[0, 2, 1, 3]],
        energies=[(-30.0, -29.9, -29.95), (-31.0, -30.9, -30.95)],
        forces=np.arange(12).reshape(4, 3), kilobar=np.zeros((3, 3)), moments=moments, total=total, incar=incar,
    )  # fmt: skip


def test_a_folder_of_someones_becomes_a_label(tmp_path):
    run_of_someone(tmp_path / "a", [2.1, -2.1, 0.3, 0.3], MAGMOM=[2.0, -2.0, 0.5, 0.5])
    label = label_of_folder(tmp_path / "a")
    assert (label.free_energy, label.energy, label.status) == (-31.0, -30.95, "converged")
    np.testing.assert_allclose(label.magmoms, [[0, 0, 2.1], [0, 0, -2.1], [0, 0, 0.3], [0, 0, 0.3]])
    np.testing.assert_allclose(np.array(label.structure.magmoms)[:, 2], [2.0, -2.0, 0.5, 0.5])
    assert label.structure.symbols == ["Fe", "Fe", "Ni", "Ni"] and label.magnetic_state_reached == "FiM"
    assert label.total_magmom == pytest.approx(0.6)
    with pytest.raises(UserError, match="imported"):
        recompute_label(label, tmp_path)


def test_runs_with_other_potcars_are_other_labels(tmp_path):
    keys = []
    for name in ("a", "b"):
        run_of_someone(tmp_path / name, [2.1, -2.1, 0.3, 0.3])
        text = (tmp_path / name / "vasprun.xml").read_text()
        assert "PAW_PBE Fe " in text
        (tmp_path / name / "vasprun.xml").write_text(text.replace("PAW_PBE Fe ", f"PAW_PBE Fe_{name} "))
        label = label_of_folder(tmp_path / name)
        assert label.settings["potcars"][0].startswith(f"PAW_PBE Fe_{name} ")
        keys.append(label.label_key)
    assert keys[0] != keys[1]


def test_moments_in_the_frame_of_saxis_are_turned(tmp_path):
    """With SAXIS along x VASP's z is our x, its x is our −z."""
    run_of_someone(
        tmp_path / "a", [[0, 0, 2.0], [0, 0, -2.0], [0.5, 0, 0], [0, 0.5, 0]],
        LNONCOLLINEAR=True, LSORBIT=True, SAXIS=[1.0, 0.0, 0.0], MAGMOM=[0, 0, 2.0, 0, 0, -2.0, 0.5, 0, 0, 0, 0.5, 0],
    )  # fmt: skip
    label = label_of_folder(tmp_path / "a")
    expected = [[2, 0, 0], [-2, 0, 0], [0, 0, -0.5], [0, 0.5, 0]]
    np.testing.assert_allclose(label.magmoms, expected, atol=1e-12)
    np.testing.assert_allclose(label.structure.magmoms, expected, atol=1e-12)
    rotation = saxis_rotation([1.0, 1.0, 1.0])
    np.testing.assert_allclose(rotation @ [0, 0, 1], np.ones(3) / np.sqrt(3))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_half_a_folder_is_one_line(tmp_path):
    run_of_someone(tmp_path / "a", [2.1, -2.1, 0.3, 0.3])
    text = (tmp_path / "a" / "vasprun.xml").read_text()
    (tmp_path / "a" / "vasprun.xml").write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"output is not complete|no finished ionic step"):
        label_of_folder(tmp_path / "a")
    (tmp_path / "a" / "OUTCAR").unlink()
    with pytest.raises(UserError, match="OUTCAR: is missing"):
        label_of_folder(tmp_path / "a")


def test_a_task_document_of_atomate2_becomes_the_candidates_label():
    """Only the parts of a TaskDoc that are read, in the form in which a store has them."""
    from pymatgen.core import Structure

    structure = to_pymatgen(CANTED, magnetism_of(CANTED, VaspSettings.small()))
    moments = 0.9 * np.array(CANTED.magmoms)[vasp_order(CANTED.symbols)]
    magmom = {"@module": "pymatgen.electronic_structure.core", "@class": "Magmom", "saxis": [0, 0, 1]}
    task = {
        "state": "successful",
        "calcs_reversed": [
            {
                "vasp_version": "6.4.2",
                "input": {"incar": {"LNONCOLLINEAR": True}, "parameters": {}, "kpoints": {"kpoints": [[2, 2, 1]]}},
                "output": {
                    "structure": Structure.from_sites(structure).as_dict(),
                    "outcar": {"magnetization": [{"tot": {**magmom, "moment": m.tolist()}} for m in moments]},
                    "ionic_steps": [
                        {
                            "electronic_steps": [{"e_fr_energy": -30.0, "e_wo_entrp": -29.9, "e_0_energy": -29.95}],
                            "forces": np.arange(12).reshape(4, 3).tolist(),
                            "stress": np.diag([10.0, 0, 0]).tolist(),
                        }
                    ],
                },
            }
        ],
    }
    label = label_of_task(candidate(CANTED), task, VaspSettings.small())
    assert label.free_energy == -30.0 and label.details["kpoint_grid"] == [2, 2, 1]
    np.testing.assert_allclose(label.magmoms, 0.9 * np.array(CANTED.magmoms), atol=1e-12)
    np.testing.assert_allclose(label.forces, np.arange(12).reshape(4, 3)[[0, 2, 1, 3]])
    with pytest.raises(UserError, match="not a finished task"):
        label_of_task(candidate(CANTED), {"calcs_reversed": []}, VaspSettings.small())
    failed = label_of_task(candidate(CANTED), {**task, "state": "unsuccessful"}, VaspSettings.small())
    assert failed.status == "failed" and failed.free_energy is None
    with pytest.raises(UserError, match="other atoms"):
        other = CANTED.model_copy(update={"symbols": ["Fe", "Co", "Fe", "Co"]})
        label_of_task(candidate(other), task, VaspSettings.small())


@pytest.mark.slow
@pytest.mark.parametrize("structure", [AFM, CANTED], ids=["collinear", "canted"])
def test_atomates_own_job_and_ours_behind_it_give_the_label(machine, tmp_path, monkeypatch, structure):
    """Its TaskDoc keeps a number of each vector; the directions come from the OUTCAR that it leaves."""
    labels = MemoryStore(key="label_key")
    labels.connect()
    fake = SimpleNamespace(labels=labels, event=lambda *words, **data: None)
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: fake)
    settings = VaspSettings.small(potcars=POTCARS, kpoints=(2, 2, 1), max_iterations=8)
    flow = VaspTaskMaker(settings=settings).make(candidate(structure), "study")
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    run_locally(flow, store=store, root_dir=tmp_path, ensure_success=True, log=False)
    (label,) = [as_label(one) for one in labels.query({})]
    assert label.status == "converged" and label.details["kpoint_grid"] == [2, 2, 1]
    np.testing.assert_allclose(label.magmoms, 0.9 * np.array(structure.magmoms), atol=6e-4)
    np.testing.assert_allclose(label.forces, forces_of(np.array(structure.positions)), atol=1e-6)
