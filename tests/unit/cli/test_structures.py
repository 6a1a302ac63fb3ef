"""`mmace structures` as a user types it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mmace_flows.cli.app import run
from mmace_flows.structures.files import read_candidates


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with iron as CIF, Mn3Pt as POSCAR and nickel with moments as extended XYZ; the command runs there."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("fe.cif", bulk("Fe", cubic=True))
    places = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0, 0]]
    ase.io.write("POSCAR", Atoms("Mn3Pt", cell=[3.83] * 3, scaled_positions=places, pbc=True), format="vasp")
    nickel = bulk("Ni", cubic=True)
    nickel.set_initial_magnetic_moments([0.6] * 4)
    ase.io.write("ni.extxyz", nickel)
    return tmp_path


def test_help_is_quick_and_tells_every_operation(folder, capsys):
    assert run(["structures", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("enumerate", "random", "distort", "rattle", "path", "supercell", "noncollinear", "select"):
        assert re.search(rf"^\s+{name} ", shown, re.MULTILINE)
        assert run(["structures", name, "--help"]) == 0
        assert "--output" in capsys.readouterr().out


def test_enumerate(folder, capsys):
    assert run("structures enumerate fe.cif -o out.extxyz --max-cells 4 --engine exact --json".split()) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["count"] == 19 and said["states"] == {"NM": 1, "FM": 1, "AFM": 7, "FiM": 10}
    found = read_candidates("out.extxyz")
    assert len(found) == 19 and {c.operation for c in found} == {"enumerate"}
    assert np.abs(np.asarray(found[1].structure.magmoms)) == pytest.approx(np.array([[0, 0, 2.2]]))
    arguments = "structures enumerate fe.cif -o few.extxyz --state FM,AFM --moment Fe=3 --axis 1,0,0 --max-orderings 3"
    assert run([*arguments.split(), "--engine", "exact"]) == 0
    assert "left out by max_orderings" in capsys.readouterr().out
    few = read_candidates("few.extxyz")
    assert [c.magnetic_state for c in few] == ["FM", "AFM", "AFM"] and few[0].structure.magmoms == [[3.0, 0.0, 0.0]]


def test_noncollinear(folder, capsys):
    assert run("structures noncollinear POSCAR -o out.extxyz --turn 0 --chirality -1".split()) == 0
    found = read_candidates("out.extxyz")
    assert len(found) == 1 and found[0].details == {"kind": "triangular", "turn": 0.0, "chirality": -1}
    assert (
        run("structures noncollinear fe.cif -o q.extxyz --kind cone -q 0,0,1/3 -q 1/2,0,0 --cone-angle 30".split()) == 0
    )
    sizes = [len(c.structure.symbols) for c in read_candidates("q.extxyz")]
    assert sizes == [6, 4] and "4 to 6 atoms" in capsys.readouterr().out


def test_distort_repeats_with_its_seed(folder):
    arguments = (
        "structures distort ni.extxyz -n 3 --volume 0.9:1.1 --rotate 0:30 --moment-scale 0.5:1.5 --seed 7 -o".split()
    )
    assert run([*arguments, "a.extxyz"]) == run([*arguments, "b.extxyz"]) == 0
    assert (folder / "a.extxyz").read_bytes() == (folder / "b.extxyz").read_bytes()
    found = read_candidates("a.extxyz")
    parent = read_candidates("ni.extxyz")[0].structure
    assert {c.parent for c in found} == {parent.hash()} and len({c.seed for c in found}) == 3
    lengths = np.linalg.norm([c.structure.magmoms for c in found], axis=-1)
    assert lengths.min() >= 0.3 and lengths.max() <= 0.9 and {c.magnetic_state for c in found} == {"non-collinear"}


def test_rattle_path_supercell_select(folder, capsys):
    assert run("structures rattle ni.extxyz --calculator emt --steps 30 -n 2 -o r.extxyz".split()) == 0
    assert "moves accepted" in capsys.readouterr().out and len(read_candidates("r.extxyz")) == 2
    assert run("structures path ni.extxyz r.extxyz -o p.extxyz".split()) == 2
    assert "3 structures are given; a path has two ends" in capsys.readouterr().err
    ase.io.write("end.extxyz", ase.io.read("r.extxyz", index=0))
    assert run("structures path ni.extxyz end.extxyz --images 4 -o p.extxyz".split()) == 0
    path = read_candidates("p.extxyz")
    assert [c.details["fraction"] for c in path] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (
        run("structures supercell fe.cif --repeat 2,2,1 --angle 10,20 --site 2 --axis 1,0,0 -o s.extxyz".split()) == 0
    )
    turned = [c.details["turned"] for c in read_candidates("s.extxyz")]
    assert turned == [{}, {"2": 10.0}, {"2": 20.0}]
    assert run("structures select p.extxyz r.extxyz --known ni.extxyz -n 2 -o x.extxyz".split()) == 0
    assert len(read_candidates("x.extxyz")) == 2 and "copies" in capsys.readouterr().out


QUICK = "structures random Fe,Ni --calculator ase.calculators.lj:LennardJones --steps 0 --atoms 2:4 --max-force 1e9"
QUICK += " --max-pressure 1e9 --energy=-1e9:1e9 --energy-window 1e9 --generator pyxtal"


def test_random(folder, capsys):
    pytest.importorskip("pyxtal")
    assert run([*QUICK.split(), *"-n 4 --keep 2 -o out.extxyz --json".split()]) == 0
    said = json.loads(capsys.readouterr().out)
    found = read_candidates("out.extxyz")
    assert said["count"] == len(found) == 2 and said["folder"] == "out.search"
    assert len(list((folder / "out.search").glob("attempt-*.json"))) == 4
    for candidate in found:  # first moments by element, for this calculator predicts none
        lengths = [{"Fe": 2.2, "Ni": 0.6}[symbol] for symbol in candidate.structure.symbols]
        assert [m[2] for m in candidate.structure.magmoms] == lengths
    assert run([*QUICK.split(), *"-n 4 -o out.extxyz --overwrite".split()]) == 0
    assert len(read_candidates("out.extxyz")) >= 2
    assert run([*QUICK.split(), *"-n 4 --seed 5 -o out.extxyz --overwrite".split()]) == 2
    assert "other settings (seed)" in capsys.readouterr().err


def test_a_random_search_that_is_killed_goes_on(folder):
    """kill -9 in the middle: finished attempts are kept, and the result is that of an unbroken search."""
    pytest.importorskip("pyxtal")
    command = [sys.executable, "-m", "mmace_flows.cli.app", *QUICK.split(), "-n", "30", "-o"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "broken.extxyz"], env=environment, stderr=subprocess.DEVNULL)
    waiting = time.monotonic() + 120
    while len(list((folder / "broken.search").glob("attempt-*.json"))) < 2 and time.monotonic() < waiting:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = {path.name: path.stat().st_mtime_ns for path in (folder / "broken.search").glob("attempt-*.json")}
    assert 2 <= len(there) < 30 and not (folder / "broken.extxyz").exists()
    for name in ("broken.extxyz", "whole.extxyz"):
        done = subprocess.run([*command, name], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (folder / "broken.extxyz").read_bytes() == (folder / "whole.extxyz").read_bytes()
    assert all((folder / "broken.search" / name).stat().st_mtime_ns == when for name, when in there.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("enumerate nothing.cif -o x.extxyz", "nothing.cif: no such file"),
        ("enumerate fe.cif -o x.json", "unknown format '.json'"),
        ("enumerate fe.cif -o nowhere/x.extxyz", "there is no folder nowhere"),
        ("enumerate fe.cif -o fe.cif", "unknown format '.cif'"),
        ("enumerate fe.cif -o ni.extxyz", "replace it with --overwrite"),
        ("enumerate fe.cif -o x.extxyz --format ciff", "unknown format 'ciff'; did you mean 'cif'"),
        ("enumerate fe.cif -o x.extxyz --moment Ee=2", "did you mean 'Fe'"),
        ("enumerate fe.cif -o x.extxyz --moment Fe", "write ELEMENT=NUMBER"),
        ("enumerate fe.cif -o x.extxyz --state XX", "XX is not possible"),
        ("enumerate fe.cif -o x.extxyz --axis 1,0", "--axis 1,0: give 3 numbers"),
        ("distort fe.cif -o x.extxyz --volume 1.2:0.8", "--volume 1.2:0.8: give LOW:HIGH"),
        ("distort fe.cif -o x.extxyz --displacement=-1", "displacement: -1.0 is not possible"),
        ("distort fe.cif -o x.extxyz --only Co --cone 5", "'Co' is not in the structure"),
        ("rattle fe.cif -o x.extxyz --calculator chgent", "did you mean 'chgnet'"),
        ("rattle fe.cif -o x.extxyz --temperature 0", "temperature: 0.0 is not possible"),
        ("path fe.cif POSCAR -o x.extxyz", "other atoms"),
        ("supercell fe.cif -o x.extxyz --repeat 2,2", "give three repeats or nine integers"),
        ("supercell fe.cif -o x.extxyz --repeat 1.5,1,1", "is not possible"),
        ("supercell fe.cif -o x.extxyz --angle ten", "--angle ten"),
        ("noncollinear fe.cif -o x.extxyz", "make no triangles"),
        ("noncollinear fe.cif -o x.extxyz --kind spirl", "spirl is not possible"),
        ("noncollinear fe.cif -o x.extxyz --kind spiral -q 0,1/3", "give three fractions"),
        ("random Fee -o x.extxyz", "'Fee' is no element"),
        ("random Fe -o x.extxyz --atoms 2.5:3", "whole numbers"),
        ("random Fe -o x.extxyz --generator foo", "foo is not possible"),
        ("select fe.cif -o x.extxyz --trust 1:2", "need the uncertainty"),
        ("select fe.cif -o x.extxyz --uncertainty u", "give the --model"),
        ("select fe.cif -o x.extxyz --known fe.cif", "none of 1 structures is left"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(folder, capsys, arguments, message):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(["structures", *arguments.split()]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in said if line.startswith("error:")]) == 1 and message in said[-1]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_file_of_elements_gives_the_chemical_space(folder):
    from mmace_flows.cli.structures_random import _elements

    assert _elements("POSCAR", "vasp") == {"Mn": 3.0, "Pt": 1.0}
    assert _elements("Fe=2,Ni", None) == {"Fe": 2.0, "Ni": 1.0}


def test_the_page_names_options_that_there_are(capsys):
    page = (Path(__file__).parents[3] / "docs/structures.md").read_text(encoding="utf-8")
    shown = ""
    for name in ("enumerate", "random", "distort", "rattle", "path", "supercell", "noncollinear", "select"):
        assert run(["structures", name, "--help"]) == 0 and f"structures {name}" in page
        shown += capsys.readouterr().out
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page)) - {"--help"}
    assert len(named) > 20 and not [option for option in named if not re.search(rf"{option}\b", shown)]


def test_the_python_of_the_page_runs(folder):
    page = (Path(__file__).parents[3] / "docs/structures.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(read_candidates("orderings.extxyz")) == 19
