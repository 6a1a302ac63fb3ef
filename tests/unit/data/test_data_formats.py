"""The formats of other programs: their columns, keys, units, signs and variants."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from ase.units import GPa
from samples import same, sample, written

from mmace.data import Notes, ReadOptions, format_of, iterate
from mmace.errors import UserError
from mmace.train import read_configurations

# The layout of the public magnetic MTP sets: collinear moments along x, −∂E/∂m in en_der_m, PlusStress in eV.
CFG = """BEGIN_CFG
 Size
    2
 Supercell
         2.900000      0.000000      0.000000
         0.000000      2.900000      0.000000
         0.000000      0.000000      3.000000
 AtomData:  id type       cartes_x      cartes_y      cartes_z           fx          fy          fz      magmom_x     magmom_y     magmom_z      en_der_mx     en_der_my     en_der_mz
             1    0       0.000000      0.000000      0.000000     0.100000    0.200000    0.300000     -0.040000     0.000000     0.000000       0.01000       0.00000       0.00000
             2    1       1.450000      1.450000      1.500000    -0.100000   -0.200000   -0.300000      2.200000     0.000000     0.000000      -0.02000       0.00000       0.00000
 Energy
     -37.5
 PlusStress:  xx          yy          zz          yz          xz          xy
     1.00000     2.00000     3.00000     0.40000    0.50000    0.60000
 Feature   mindist	2.344293
END_CFG

"""  # noqa: E501
FEAL = ReadOptions(elements=("Al", "Fe"))


def read(path, text, options=FEAL):
    """The configurations of a file with ``text``."""
    path.write_text(text)
    return list(iterate(path, options))


def test_mlip_cfg_with_moments(tmp_path):
    first, second = read(tmp_path / "train.cfg", CFG * 2)
    assert first.numbers.tolist() == [13, 26]
    assert first.energy == -37.5
    np.testing.assert_array_equal(first.magmoms, [[-0.04, 0, 0], [2.2, 0, 0]])
    np.testing.assert_array_equal(first.magnetic_forces, [[0.01, 0, 0], [-0.02, 0, 0]])
    np.testing.assert_array_equal(first.forces[0], [0.1, 0.2, 0.3])
    # a positive PlusStress wants to expand: compressed, so the stress in ASE's sign is negative
    stress = -np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]]) / (2.9 * 2.9 * 3.0)
    np.testing.assert_allclose(first.stress, stress, rtol=1e-14)
    assert first.info == {"mindist": 2.344293}
    assert second.name == f"{tmp_path / 'train.cfg'}: configuration 1 (line 18)"


def test_mlip_cfg_variants(tmp_path):
    direct = CFG.replace("cartes_", "direct_").replace("1.450000      1.450000      1.500000", "0.5 0.5 0.5")
    np.testing.assert_allclose(read(tmp_path / "direct.cfg", direct)[0].positions[1], [1.45, 1.45, 1.5])
    older = CFG.replace("PlusStress:", "Stress:")
    np.testing.assert_allclose(read(tmp_path / "older.cfg", older)[0].stress[0, 0], 1.0 / (2.9 * 2.9 * 3.0))
    swapped = CFG.replace("xx          yy ", "yy          xx ")
    np.testing.assert_allclose(read(tmp_path / "swapped.cfg", swapped)[0].stress[0, 0], -2.0 / (2.9 * 2.9 * 3.0))
    named = CFG.replace("END_CFG", " Feature   elements\tAl,Fe\nEND_CFG")
    assert read(tmp_path / "named.cfg", named, ReadOptions())[0].numbers.tolist() == [13, 26]
    head, rows, rest = (
        CFG.partition("AtomData:")[0],
        "1 0 0 0 0 2.2\n2 1 1.45 1.45 1.5 -2.2",
        "\n Energy\n -1\nEND_CFG\n",
    )
    column = head + "AtomData: id type cartes_x cartes_y cartes_z magmom\n" + rows + rest
    notes = Notes()
    (tmp_path / "column.cfg").write_text(column)
    (one,) = iterate(tmp_path / "column.cfg", FEAL, notes=notes)
    np.testing.assert_array_equal(one.magmoms, [[0, 0, 2.2], [0, 0, -2.2]])
    assert (one.forces, one.stress, one.magnetic_forces, notes.collinear) == (None, None, None, 1)


def deepmd(folder, configurations, layout):
    """A system in DeePMD's layout, written without the project's writer."""
    folder.mkdir(parents=True)
    (folder / "type.raw").write_text("1\n0\n")
    (folder / "type_map.raw").write_text("Ni\nFe\n")
    arrays = {
        "coord": [c.positions.ravel() for c in configurations],
        "box": [c.cell.ravel() for c in configurations],
        "energy": [[c.energy] for c in configurations],
        "force": [c.forces.ravel() for c in configurations],
        "virial": [(-c.stress * np.linalg.det(c.cell)).ravel() for c in configurations],
        "spin": [c.magmoms.ravel() for c in configurations],
        "force_mag": [c.magnetic_forces.ravel() for c in configurations],
    }
    if layout == "raw":
        for name, rows in arrays.items():
            lines = [" ".join(repr(float(x)) for x in row) for row in rows]
            (folder / f"{name}.raw").write_text("\n".join(lines) + "\n")
        return folder
    (folder / "set.000").mkdir()
    for name, rows in arrays.items():
        array = np.array(rows)
        np.save(folder / "set.000" / f"{name}.npy", array[:, 0] if name == "energy" and layout == "flat" else array)
    return folder


@pytest.mark.parametrize("layout", ["npy", "flat", "raw"])
def test_deepmd_folder(tmp_path, layout):
    data = [sample(seed) for seed in range(3)]
    folder = deepmd(tmp_path / "data" / "system", data, layout)
    for path in (folder, tmp_path / "data"):
        found = read_configurations(path)
        for one, other in zip(data, found, strict=True):
            same(one, other, digits=12)
    assert "configuration 2" in found[2].name
    assert str(folder) in found[2].name


def test_deepmd_missing_labels_open_boundaries_and_mixed_types(tmp_path):
    folder = deepmd(tmp_path / "system", [sample(seed) for seed in range(3)], "npy")
    for name in ("energy", "force", "virial", "force_mag", "box"):
        (folder / "set.000" / f"{name}.npy").unlink()
    (folder / "nopbc").touch()
    np.save(folder / "set.000" / "real_atom_types.npy", np.array([[1, 0], [0, 0], [1, -1]]))
    first, second, third = iterate(folder)
    assert (first.energy, first.forces, first.stress, first.magnetic_forces) == (None, None, None, None)
    assert not first.pbc.any()
    assert [c.numbers.tolist() for c in (first, second, third)] == [[26, 28], [28, 28], [26]]
    np.testing.assert_array_equal(third.positions, sample(2).positions[:1])


def matpes(seed, **changes):
    """A document as MatPES writes them, made by pymatgen itself, and what is in it."""
    from pymatgen.core import Lattice, Structure

    one = sample(seed)
    structure = Structure(Lattice(one.cell), ["Fe", "Ni"], one.positions, coords_are_cartesian=True)
    structure.add_site_property("magmom", [2.25, -0.5])
    structure.add_site_property("charge", [7.5, 9.25])
    kilobar = -one.stress / GPa * 10
    document = {
        "structure": structure.as_dict(),
        "energy": one.energy,
        "forces": one.forces.tolist(),
        "stress": [kilobar[i] for i in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))],
        "matpes_id": f"matpes-{seed}",
        "functional": "PBE",
        "provenance": {"original_mp_id": "mp-13", "md_step": 5},
        **changes,
    }
    one.magmoms, one.magnetic_forces = np.array([[0, 0, 2.25], [0, 0, -0.5]]), None
    return document, one


@pytest.mark.parametrize("form", ["list", "pretty", "lines", "gz"])
def test_matpes_documents(tmp_path, form, monkeypatch):
    monkeypatch.setattr("mmace.data.matpes_json.CHUNK", 500)  # smaller than a document
    pairs = [matpes(seed) for seed in range(5)]
    documents = [document for document, _ in pairs]
    path = tmp_path / {"lines": "data.jsonl", "gz": "data.json.gz"}.get(form, "data.json")
    text = json.dumps(documents, indent=1 if form == "pretty" else None)
    if form == "lines":
        text = "".join(json.dumps(document) + "\n" for document in documents)
    (gzip.open(path, "wt") if form == "gz" else open(path, "w")).write(text)
    notes = Notes()
    found = list(iterate(path, notes=notes))
    for (_, one), other in zip(pairs, found, strict=True):
        np.testing.assert_allclose(other.positions, one.positions, atol=1e-12)
        one.positions = other.positions
        same(one, other, digits=12)
    assert notes.collinear == 5
    assert found[1].info == {"matpes_id": "matpes-1", "functional": "PBE", "original_mp_id": "mp-13", "md_step": 5}
    np.testing.assert_array_equal(found[1].arrays["charge"], [7.5, 9.25])
    line = {"lines": 3, "pretty": 2 + 2 * json.dumps(documents[0], indent=1).count("\n") + 2}.get(form, 1)
    assert found[2].name == f"{path}: configuration 2 (line {line})"


def test_matpes_moments_in_all_forms_missing_labels_and_other_keys(tmp_path):
    magmom = {"@module": "pymatgen.electronic_structure.core", "@class": "Magmom", "moment": [1, 2, 2]}
    documents = [
        matpes(0, magmoms=[[1, 0, 0], [0, 0.5, 0]])[0],
        matpes(1, magmoms=[magmom, {"moment": 3.0, "saxis": [1, 0, 0]}], stress=None, forces=None)[0],
    ]
    documents[1]["corrected"] = -1.5
    path = tmp_path / "data.json"
    path.write_text(json.dumps(documents))
    first, second = iterate(path)
    np.testing.assert_array_equal(first.magmoms, [[1, 0, 0], [0, 0.5, 0]])
    np.testing.assert_array_equal(second.magmoms, [[1, 2, 2], [3, 0, 0]])
    assert (second.forces, second.stress) == (None, None)
    energies = [c.energy for c in iterate(path, ReadOptions(keys={"energy": "corrected"}))]
    assert energies == [None, -1.5]


def test_formats_are_recognised_by_name_else_by_content(tmp_path):
    cfg, folder = tmp_path / "train.cfg", deepmd(tmp_path / "system", [sample()], "npy")
    cfg.write_text(CFG)
    assert format_of(cfg).NAME == "mlip_cfg"
    assert format_of(folder).NAME == "deepmd_spin"
    assert format_of(tmp_path / "a.XYZ").NAME == format_of(tmp_path / "a.extxyz.gz").NAME == "extxyz"
    for text, name in ((CFG, "mlip_cfg"), ("[{}]", "matpes_json"), (" {}", "matpes_json"), ("2\nx", "extxyz")):
        (tmp_path / "data").write_text(text)
        assert format_of(tmp_path / "data").NAME == name
    assert [c.energy for c in iterate(tmp_path / "train.cfg", ReadOptions(elements=("Al", "Fe"), format="mlip_cfg"))]
    (tmp_path / "data").write_text("# something")
    with pytest.raises(UserError, match="format not recognised; say it with --format"):
        format_of(tmp_path / "data")
    with pytest.raises(UserError, match="unknown format 'deepmd_spn'; did you mean 'deepmd_spin'"):
        format_of(cfg, "deepmd_spn")


def test_missing_moments_only_where_asked(tmp_path):
    path = tmp_path / "data.extxyz"
    path.write_text('1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 REF_energy=-1\nFe 0 0 0\n')
    with pytest.raises(UserError, match="no moments"):
        read_configurations(path)
    (one,) = read_configurations(path, zero_moments=True)
    np.testing.assert_array_equal(one.magmoms, np.zeros((1, 3)))


def test_labels_under_other_names_are_said(tmp_path, caplog):
    path = tmp_path / "data.extxyz"
    header = "Properties=species:S:1:pos:R:3:REF_magmom:R:3:forces:R:3 REF_energy=-1\n"
    path.write_text(f"1\n{header}Fe 0 0 0 0 0 2 0 0 0.5\n")
    (one,) = read_configurations(path)
    assert one.forces is None
    assert "the file has 'forces': if that is meant, read it with the key forces=forces" in caplog.text
    (one,) = read_configurations(path, {"forces": "forces"})
    np.testing.assert_array_equal(one.forces, [[0, 0, 0.5]])


def test_a_file_of_ase_is_read_with_the_keys_that_the_refusal_names(tmp_path, capsys):
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    from mmace_flows.cli.app import run

    one = sample(5)
    atoms = one.to_atoms()
    calculator = SinglePointCalculator(
        atoms, energy=one.energy, forces=one.forces, stress=one.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    )
    atoms.calc = calculator
    path = tmp_path / "ase.extxyz"
    ase.io.write(path, atoms, format="extxyz")
    assert run(["data", "check", str(path)]) == 2
    said = capsys.readouterr().err
    keys = [pair.split()[0].rstrip(";") for pair in said.split("--key ")[1:]]
    assert set(keys) == {"energy=energy", "forces=forces", "stress=stress", "magmoms=initial_magmoms"}
    (other,) = read_configurations(path, dict(pair.split("=") for pair in keys))
    np.testing.assert_allclose(other.stress, one.stress, atol=1e-8)
    np.testing.assert_allclose(other.magmoms, one.magmoms, atol=1e-8)
    # what is not asked for goes along, and can be read again
    half = ReadOptions(keys={"magmoms": "initial_magmoms", "energy": "energy"})
    (kept,) = iterate(written(tmp_path / "kept.extxyz", iterate(path, half)))
    np.testing.assert_allclose(kept.info["stress"], one.stress, atol=1e-8)
    assert run(["data", "check", str(path), "--key", "magmoms=initial_magmoms"]) == 2
    assert "the file has 'energy': read it with the key energy=energy" in capsys.readouterr().err
