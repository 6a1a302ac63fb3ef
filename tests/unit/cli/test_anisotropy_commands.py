"""`mmace anisotropy` and `mmace train-anisotropy`: what they say, what they write, what they refuse."""

from __future__ import annotations

import json
import shutil

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mmace import Potential, PotentialConfig, load, save
from mmace.anisotropy import direction_energies
from mmace_flows.cli import app as cli
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import directions

TINY = {"hidden": "4x0e", "l_pos": 2, "l_mag": 2, "num_bessel": 4, "num_chebyshev": 3, "radial_hidden": [8]}
PAIRS = ("FePt", "FeCo", "CoPt", "FeMn", "MnPt", "CoMn")
ELEMENTS = ["Mn", "Fe", "Co", "Pt"]


def model(seed: int = 0, energies: bool = False) -> Potential:
    made = Potential(PotentialConfig(elements=ELEMENTS, r_max=3.2, seed=seed, **TINY))
    made.set_energy_scale(1e-3)
    if energies:
        made.set_atomic_energies(dict.fromkeys(ELEMENTS, -8.0))
    return made


def crystal(number: int) -> Atoms:
    cell = [2.7, 2.7, 3.2 + 0.1 * number]
    return Atoms(PAIRS[number], cell=cell, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)


@pytest.fixture
def files(made, tmp_path, monkeypatch):
    """Models, structures and runs in a folder of their own, which is where commands work."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("made")
    save(model(), tmp_path / "aniso.safetensors")
    save(model(energies=True), tmp_path / "full.safetensors")
    for member in range(2):
        save(model(member), tmp_path / f"committee/member-{member}/model.safetensors")
    frames = [crystal(0), crystal(1)]
    frames[0].set_initial_magnetic_moments([2.9, 0.3])
    ase.io.write(tmp_path / "two.extxyz", frames)
    vectors, runs = directions("lebedev:26"), []
    for number in range(6):
        atoms = crystal(number)
        atoms.set_initial_magnetic_moments(np.outer([2.2, 0.5], [0, 0, 1]))
        structure = MagneticStructure.from_atoms(atoms)
        energies = direction_energies(model(7), atoms, vectors)
        runs.append(
            SpinOrbitDocument(
                spin_orbit_key=structure.hash(), status="converged", structure=structure, parent=structure.hash(),
                directions=vectors.tolist(), energies=energies.tolist(), lengths=[2.2, 0.5], engine="gpaw",
                engine_version="1", settings={}, created="now", code_version="1",
            ).model_dump(mode="json")
        )  # fmt: skip
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    (tmp_path / "tiny.yaml").write_text(json.dumps({"model": {**TINY, "r_max": 3.2}, "training": {"num_threads": 1}}))
    return tmp_path


def test_constants_of_structures_by_a_model(files, capsys):
    command = ["anisotropy", "two.extxyz", "--model", "aniso.safetensors", "--check", "200"]
    assert cli.run([*command, "--figure", "f.png", "-o", "out.extxyz"]) == 0
    said = capsys.readouterr().out
    assert "two.extxyz: configuration 0: FM (+2.90 +0.30 μB)" in said and "hardness κ" in said
    assert "configuration 1: FM (+2.20 +1.60 μB)" in said  # no moments in the file: lengths by element
    assert said.count("scan of 200 directions") == 2
    assert {one.name for one in files.glob("f-*.png")} == {"f-1.png", "f-2.png"}
    written = ase.io.read("out.extxyz", ":")
    assert written[0].info["mmace_symmetry"] == "uniaxial"
    moments = written[0].get_initial_magnetic_moments()
    np.testing.assert_allclose(moments, np.outer([2.9, 0.3], written[0].info["mmace_easy"]), atol=1e-6)
    assert cli.run([*command, "-o", "out.extxyz"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_json_committee_and_relaxed_moments(files, capsys):
    assert cli.run(["anisotropy", "two.extxyz", "--model", "committee", "--json"]) == 0
    first, _ = json.loads(capsys.readouterr().out)["results"]
    assert first["anisotropy"]["spread"] > 0 and first["prediction"]["ordering"] == "FM"
    assert cli.run(["anisotropy", "two.extxyz", "--model", "full.safetensors", "--json"]) in (0, 1)
    relaxed = json.loads(capsys.readouterr().out)["results"][0]
    assert relaxed["anisotropy"]["energy_per_atom"] < -7.0
    lengths = np.linalg.norm(relaxed["prediction"]["structure"]["magmoms"], axis=1)
    assert not np.allclose(lengths, [2.9, 0.3], atol=1e-3)


def test_constants_of_runs(files, capsys):
    assert cli.run(["anisotropy", "runs.json", "--json", "--axis", "1,0,0"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert len(results) == 6 and results[0]["anisotropy"]["axis"] == [1.0, 0.0, 0.0]
    assert cli.run(["anisotropy", "runs.json"]) == 0
    assert "FePt" in (said := capsys.readouterr().out) and said.count("DFT") == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["two.extxyz"], "no JSON of runs; give --model"),
        (["runs.json", "--check", "100"], "--check needs --model"),
        (["two.extxyz", "--model", "nothing.safetensors"], "cannot be read"),
        (["two.extxyz", "--model", "."], "no members of a committee"),
        (["two.extxyz", "--model", "aniso.safetensors", "--moments", "relaxd"], "did you mean 'relaxed'"),
        (["two.extxyz", "--model", "aniso.safetensors", "--moments", "relaxed"], "only differences between directions"),
        (["two.extxyz", "--model", "aniso.safetensors", "--directions", "lebedev:15"], "there are 14 and 26"),
        (["two.extxyz", "--model", "aniso.safetensors", "--axis", "0,0,0"], "not all zero"),
        (["two.extxyz", "--model", "aniso.safetensors", "--axis", "nan,0,1"], "give three numbers"),
        (["two.extxyz", "--model", "aniso.safetensors", "--figure", "f.pdf"], "ends in .png"),
        (["nothing.extxyz", "--model", "aniso.safetensors"], "nothing.extxyz"),
    ],
)
def test_wrong_input_is_one_line(files, capsys, arguments, said):
    assert cli.run(["anisotropy", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_training_from_runs_to_scores(files, capsys):
    command = ["train-anisotropy", "tiny.yaml", "--data", "runs.json", "--epochs", "2", "--test-fraction", "0.3"]
    assert cli.run([*command, "--output", "made"]) == 0
    said = capsys.readouterr()
    assert "3 runs to train on, 1 to choose the best epoch, 2 held out; no crystal stands on two sides" in said.err
    assert "held out: 2 runs, relative error" in said.out and "made/model.safetensors" in said.out
    assert not load("made/model.safetensors").knows_energies
    scores = json.loads((files / "made" / "scores.json").read_text())["scores"]["held out"]
    assert len(scores["strengths"]) == 2
    assert cli.run([*command, "--output", "made", "--json"]) == 0  # nothing left to do
    assert json.loads(capsys.readouterr().out)["runs"]["held out"] == 2


def test_training_of_a_committee_on_top_of_energies(files, capsys):
    exchange = Potential(PotentialConfig(elements=ELEMENTS, symmetry="nonsoc", r_max=3.2, **{**TINY, "l_mag": 1}))
    exchange.set_atomic_energies(dict.fromkeys(ELEMENTS, -8.0))
    save(exchange, "exchange.safetensors")
    (files / "part.yaml").write_text(json.dumps({"model": TINY, "training": {"num_threads": 1}, "committee": 2}))
    command = ["train-anisotropy", "part.yaml", "--data", "runs.json", "--model", "exchange.safetensors"]
    assert cli.run([*command, "--epochs", "1", "--directions", "5", "--output", "both"]) == 0
    capsys.readouterr()
    one = load("both/member-1/model.safetensors")
    assert one.knows_energies and one.anisotropy is not None
    assert cli.run(["anisotropy", "two.extxyz", "--model", "both", "--moments", "fixed"]) == 0
    assert " ± " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no data; give --data store:CAMPAIGN"),
        (["--data", "nothing.json"], "cannot be read"),
        (["--data", "runs.json", "--test", "runs.json"], "which is trained on; remove it from one side"),
        (["wrong.yaml", "--data", "runs.json"], "wrong.yaml: model: unknown setting 'hiden'; did you mean 'hidden'"),
        (["--data", "runs.json", "--committee", "0"], "give the number of members"),
    ],
)
def test_wrong_training_is_one_line(files, capsys, arguments, said):
    (files / "wrong.yaml").write_text("model: {hiden: 8x0e}\n")
    assert cli.run(["train-anisotropy", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
