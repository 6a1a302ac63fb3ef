"""Broken files: each is refused by `mmace data check` with one line that names the file and the place, exit code 2."""

from __future__ import annotations

import gzip
import json
import pickle

import numpy as np
import pytest
from samples import sample, written
from test_data_formats import CFG, deepmd, matpes

from mmace_flows.cli.app import run

HEADER = 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:REF_magmom:R:3:REF_forces:R:3 REF_energy=-1.0'
ROWS = "Fe 0 0 0 0 0 2 0 0 0.1\nNi 1.5 1.5 1.5 0 0 0.6 0 0 -0.1\n"
GOOD = f"2\n{HEADER}\n{ROWS}"
SECOND = "configuration 1 (line 5)"


def refused(capsys, path, *options: str) -> str:
    """The one line on the error stream."""
    assert run(["data", "check", str(path), *options]) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert said.out == ""
    assert lines[0].startswith("error: ")
    assert str(path) in lines[0]
    return lines[0]


def frame(**changes: str) -> str:
    """A frame with parts of its text replaced: old=new, as pairs."""
    text = GOOD
    for old, new in zip(list(changes.values())[::2], list(changes.values())[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("bad", "place", "message"),
    [
        ("", None, "no configurations in the file"),
        (frame(a="-1.0", b="nan"), SECOND, "energy contains NaN or infinity"),
        (frame(a="0 0 0.1", b="0 0 nan"), SECOND, "forces contains NaN or infinity (atom 0)"),
        (frame(a="0 0 0.6", b="0 0 inf"), SECOND, "magmoms contains NaN or infinity (atom 1)"),
        (frame(a="2\nLat", b="3\nLat"), SECOND, "the file ends after 2 of 3 atoms; complete the file"),
        (frame(a="2\nLat", b="1\nLat"), "configuration 2 (line 8)", "expected the number of atoms, found 'Ni 1.5"),
        (frame(a="0 0 -0.1\n", b="0\n"), SECOND, "line 8: 8 columns where Properties has 10"),
        (frame(a="Ni 1.5", b="Ni x1.5"), SECOND, "line 8: 'x1.5' in column pos is not a number"),
        (frame(a="Ni", b="Xx"), SECOND, "line 8: there is no element 'Xx'"),
        (frame(a="0 0 0.6", b="0 0 60"), SECOND, "magmoms of atom 1 (Ni) is 60 μB, more than 20 μB"),
        (frame(a="0 0 0.1", b="0 0 5000"), SECOND, "forces of atom 0 (Fe) is 5000 eV/Å, more than 1000 eV/Å"),
        (frame(a="-1.0", b="-3e7"), SECOND, "energy is 1.5e+07 eV per atom in size, more than 1e+06"),
        (frame(a="1.5 1.5 1.5", b="0 0.02 0"), SECOND, "atom 0 (Fe) and atom 1 (Ni) are 0.020 Å apart"),
        (frame(a="-1.0", b='-1.0 REF_stress="1 0 0 0 1 0 0 0 1" pbc="F F F"'), SECOND, "cell is not periodic"),
        (frame(a="-1.0", b='-1.0 REF_stress="1 2 3"'), SECOND, "stress has shape (3,)"),
        (frame(a="-1.0", b='-1.0 REF_stress="1 2 0 0 1 0 0 0 1"'), SECOND, "stress is not symmetric"),
        (frame(a="-1.0", b='-1.0 REF_stress="900 0 0 0 900 0 0 0 900"'), SECOND, "stress is 900 eV/Å³ in size"),
        (frame(a="REF_energy", b="REF_enrgy"), SECOND, "unknown key 'REF_enrgy'; did you mean 'REF_energy'?"),
        (frame(a="REF_forces", b="REF_force"), SECOND, "unknown key 'REF_force'; did you mean 'REF_forces'?"),
        (frame(a="REF_magmom:R:3", b="REF_magmom:R:2:x:R:1"), SECOND, "magmoms has shape (2, 2)"),
        (frame(a="REF_magmom", b="spin"), SECOND, "the file has 'spin': read it with the key magmoms=spin"),
        (frame(a="REF_magmom:R:3", b="REF_magmom:R"), SECOND, "line 6: Properties="),
        (frame(a="pos:R:3", b="pos:S:3"), SECOND, "Properties has no positions pos:R:3"),
        (frame(a="3 0 0 0 3 0 0 0 3", b="3 0 0 0 3 0"), SECOND, "line 6"),
        (frame(a="3 0 0 0 3 0 0 0 3", b="3 0 0 0 3 0 0 0 0"), SECOND, "vectors span no volume"),
        (frame(a="Properties", b="Propertys"), "configuration 1 (line 6)", "no 'Properties='"),
        (frame(a="-1.0", b='-1.0 pbc="yes no T"'), SECOND, "pbc is not three of T and F"),
        (frame(a="-1.0", b='-1.0 name="unclosed'), None, None),  # ASE reads to the end of the line: harmless
    ],
)
def test_extended_xyz(tmp_path, capsys, bad, place, message):
    path = tmp_path / "data.extxyz"
    path.write_text(bad and GOOD + bad)
    if message is None:
        assert run(["data", "check", str(path)]) == 0
        return
    line = refused(capsys, path)
    assert message in line
    assert place is None or f"{path}: {place}" in line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("END_CFG", "", "the file ends before END_CFG"),
        ("BEGIN_CFG", "BEGIN", "expected BEGIN_CFG, found 'BEGIN'"),
        (" Size\n    2", " Size\n    3", "AtomData has 2 atoms, Size is 3"),
        (" Size\n    2", "", "no Size"),
        ("magmom_x ", "magmon_x ", "unknown column 'magmon_x'; did you mean 'magmom_x'?"),
        ("magmom_z ", "", "columns where AtomData has 13"),
        ("fz ", "fy ", "names a column twice"),
        ("-0.02000       0.00000       0.00000", "-0.02000       0.00000", "13 columns where AtomData has 14"),
        ("2.200000", "2.2e", "magmom_x is '2.2e', not a number"),
        ("2.200000", "nan", "magmoms contains NaN or infinity (atom 1)"),
        ("2.200000", "32.2", "more than 20 μB"),
        ("1    0  ", "1    7  ", "type 7 has no element (known: 0 Al, 1 Fe)"),
        ("2    1  ", "1    1  ", "an id stands twice"),
        ("-37.5", "-37.5 2", "Energy has 2 numbers, expected 1"),
        ("0.40000    0.50000    0.60000", "0.4", "PlusStress has 4 numbers, expected 6"),
        ("PlusStress", "PlusStres", "unknown field 'PlusStres:'; did you mean 'PlusStress:'?"),
        ("         0.000000      0.000000      3.000000\n", "", "Supercell has 6 numbers, expected 9"),
    ],
)
def test_mlip_cfg(tmp_path, capsys, old, new, message):
    path = tmp_path / "data.cfg"
    assert old in CFG
    path.write_text(CFG + CFG.replace(old, new))
    line = refused(capsys, path, "--elements", "Al,Fe")
    assert message in line
    assert f"{path}: configuration 1 (line 18)" in line


def test_mlip_cfg_without_elements(tmp_path, capsys):
    path = tmp_path / "data.cfg"
    path.write_text(CFG)
    assert "atoms have types 0 to 1 but no elements; say which" in refused(capsys, path)
    assert run(["data", "check", str(path), "--elements", "Al,Qq"]) == 2
    assert "'Qq' is no element" in capsys.readouterr().err


def truncate(file):
    file.write_bytes(file.read_bytes()[:-20])


def objects(file):
    np.save(file, np.array([{"a": pickle.dumps(1)}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("set.000/coord.npy", truncate, "not an array of numbers (damaged or truncated)"),
        ("set.000/spin.npy", objects, "not an array of numbers (it holds Python objects)"),
        ("set.000/spin.npy", lambda f: np.save(f, np.zeros((3, 5))), "shape (3, 5), expected (configurations, 6)"),
        ("set.000/energy.npy", lambda f: np.save(f, np.zeros(2)), "2 configurations where coord has 3"),
        ("set.000/force.npy", lambda f: np.save(f, np.full((3, 6), np.nan)), "configuration 0: forces contains NaN"),
        ("set.000/spin.npy", lambda f: f.unlink(), "configuration 0: no moments; add spin.npy"),
        ("set.000/box.npy", lambda f: f.unlink(), "no box; add it, or an empty file nopbc"),
        ("set.000/coord.npy", lambda f: f.unlink(), "no coord; add it"),
        ("type.raw", lambda f: f.write_text("1\n2\n"), "type 2 has no element; name it in type_map.raw"),
        ("type.raw", lambda f: f.write_text("Ni\nFe\n"), "not a list of types 0, 1, …"),
        ("type_map.raw", lambda f: f.write_text("Ni\nQq\n"), "'Qq' is no element"),
        ("type_map.raw", lambda f: f.unlink(), "no type_map.raw; say which element each type is"),
    ],
)
def test_deepmd_folders(tmp_path, capsys, name, spoil, message):
    folder = deepmd(tmp_path / "system", [sample(seed) for seed in range(3)], "npy")
    spoil(folder / name)
    assert run(["data", "check", str(folder)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert str(folder) in lines[0]
    assert message in lines[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("energy.raw", "-1\n-2\n", "only 2 lines, fewer than coord.raw"),
        ("energy.raw", "-1\n-2\n-3\n-4\n", "more than 3 lines, which coord.raw has"),
        ("energy.raw", "-1\nx\n-3\n", "configuration 1 (line 2): energy.raw has something that is not a number"),
        ("spin.raw", "1 2 3\n" * 3, "configuration 0 (line 1): spin.raw has 3 numbers, expected 6"),
    ],
)
def test_deepmd_text(tmp_path, capsys, name, text, message):
    folder = deepmd(tmp_path / "system", [sample(seed) for seed in range(3)], "raw")
    (folder / name).write_text(text)
    assert message in refused(capsys, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": "low"}, "energy is not numbers"),
        ({"energy": float("nan")}, "energy contains NaN"),
        ({"forces": [[0, 0, 1]]}, "forces has shape (1, 3), expected (2, 3)"),
        ({"stress": [1, 2, 3]}, "stress is not 6 or 3×3 numbers (kBar)"),
        ({"magmoms": [1.0]}, "magmoms are not a list of one moment per site (2)"),
        ({"magmoms": [1.0, "up"]}, "the moment of site 1 is no number and no vector"),
        ({"structure": None}, "no 'structure' in the document"),
        ({"structure": {"lattice": {"matrix": [[1, 2], [3, 4]]}, "sites": [{}]}}, "lattice has no 3×3 matrix"),
        ({"structure": {"sites": [{"species": [{"element": "Fe", "occu": 0.5}]}]}}, "site 0 is not occupied by one"),
        ({"structure": {"sites": [{"species": [{"element": "Qq", "occu": 1}]}]}}, "there is no element 'Qq'"),
    ],
)
def test_matpes_documents(tmp_path, capsys, changes, message):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(matpes(0)[0]) + "\n" + json.dumps(matpes(1, **changes)[0]) + "\n")
    line = refused(capsys, path)
    assert message in line
    assert f"{path}: configuration 1 (line 2)" in line


def test_matpes_json_that_is_none(tmp_path, capsys):
    path = tmp_path / "data.json"
    text = json.dumps([matpes(0)[0], matpes(1)[0]], indent=1)
    path.write_text(text[:-60])
    assert "configuration 1 (line " in (line := refused(capsys, path))
    assert "the file ends within it" in line
    path.write_text(text[:-1])
    assert "the list of documents is not closed after configuration 1" in refused(capsys, path)
    path.write_text(text.replace('"energy":', '"energy"', 1))
    assert "not valid JSON" in refused(capsys, path)
    path.write_text(text + "{}")
    assert "text after the end of the list" in refused(capsys, path)


def test_damaged_archives_and_files_that_are_no_text(tmp_path, capsys):
    path = tmp_path / "data.extxyz.gz"
    whole = gzip.compress((GOOD * 2000).encode())
    path.write_bytes(whole[: len(whole) // 2])
    assert "the compressed file ends too early" in refused(capsys, path)
    path.write_bytes(b"\x1f\x8bnonsense" * 20)
    assert "the compressed file is damaged" in refused(capsys, path)
    path.write_bytes(b"\xff\xfe\x00\x80" * 20)
    assert "not a text file" in refused(capsys, path)
    assert "no such file" in refused(capsys, tmp_path / "missing.extxyz")
    assert "is a folder" in refused(capsys, tmp_path)


def test_an_energy_far_off_the_others(tmp_path, capsys):
    path = tmp_path / "data.extxyz"
    path.write_text(GOOD + frame(a="-1.0", b="-5000") + GOOD)
    line = refused(capsys, path)
    assert f"{path}: {SECOND}: energy is -2" in line
    assert "eV/atom off what its elements have elsewhere in the data, more than 100" in line


def test_all_problems_are_listed_where_asked(tmp_path, capsys):
    path = tmp_path / "data.extxyz"
    bad = frame(a="-1.0", b="nan")
    path.write_text(GOOD + bad + GOOD.replace("0 0 2", "0 0 1") + bad)
    assert "(and 1 more problem; --all lists them)" in refused(capsys, path)
    assert run(["data", "check", str(path), "--all"]) == 2
    said = capsys.readouterr()
    assert [line.split(": ")[1] for line in said.out.splitlines()] == [SECOND, "configuration 3 (line 13)"]
    assert run(["data", "check", str(path), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


def test_bad_configurations_are_left_out_where_asked(tmp_path, capsys):
    path = tmp_path / "data.extxyz"
    path.write_text(GOOD + frame(a="-1.0", b="nan"))
    assert run(["data", "convert", str(path), "-o", str(tmp_path / "out.extxyz")]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.extxyz"]
    assert run(["data", "convert", str(path), "-o", str(tmp_path / "out.extxyz"), "--skip-bad"]) == 0
    assert "1 configurations written" in capsys.readouterr().err
    written(tmp_path / "other.extxyz", [sample()])
    assert run(["data", "check", str(tmp_path / "out.extxyz"), str(tmp_path / "other.extxyz")]) == 0
