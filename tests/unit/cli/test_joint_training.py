"""`mmace train --spin-orbit`: energies and the directions of force-theorem runs learned together."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mmace import Potential, PotentialConfig, load, save
from mmace_flows.cli import app as cli
from tests.anisotropy_samples import run, structure

TINY = {"hidden": "4x0e", "l_pos": 2, "num_bessel": 4, "num_chebyshev": 3, "radial_hidden": [8], "r_max": 4.0}
PART = {"hidden": "4x0e", "radial_hidden": [8]}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Labelled structures without spin–orbit coupling, runs of the force theorem, settings."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(8):
        atoms = Atoms("FePt", cell=[2.7, 2.7, 3.7], scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
        atoms.rattle(0.1, rng=rng)
        atoms.info["REF_energy"] = -14.0 + float(rng.normal(0.0, 0.1))
        atoms.arrays["REF_forces"] = rng.normal(0.0, 0.1, (2, 3))
        atoms.arrays["REF_magmom"] = np.array([[0, 0, 2.8], [0, 0, 0.4]])
        frames.append(atoms)
    ase.io.write("labels.extxyz", frames)
    made = [run(structure(["Fe", other], c=c), k) for other, c, k in (("Pt", 3.7, 3e-3), ("Ni", 3.5, 5e-4))]
    (tmp_path / "runs.json").write_text(json.dumps([one.model_dump(mode="json") for one in made]))
    (tmp_path / "both.yaml").write_text(
        json.dumps(
            {
                "data": "labels.extxyz",
                "spin_orbit": ["runs.json"],
                "model": {**TINY, "anisotropy": PART},
                "training": {"num_threads": 1, "epochs": 2},
            }
        )
    )
    return tmp_path


def test_energies_and_directions_make_one_model(files, capsys):
    assert cli.run(["train", "both.yaml", "--output", "both", "--no-plots"]) == 0
    said = capsys.readouterr()
    assert "1 runs with directions to train on, 1 of other crystals to validate" in said.err
    assert "8 structures to train on, 2 to validate; elements Fe, Ni, Pt" in said.err
    assert "anisotropy, validation: 1 runs, relative error" in said.out
    one = load("both/model.safetensors")
    assert one.knows_energies and one.config.symmetry == "nonsoc"
    assert one.anisotropy is not None and float(one.anisotropy.energy_scale) > 0  # knows of the runs
    assert one.config.anisotropy is not None and one.config.anisotropy.l_pos == 4  # defaults of anisotropy
    assert cli.run(["train", "both.yaml", "--output", "both", "--json"]) == 0  # nothing left to do
    assert json.loads(capsys.readouterr().out)["anisotropy"]["trained on"]["runs"] == 1


def test_members_of_a_committee_differ_in_both_parts(files, capsys):
    assert cli.run(["train", "both.yaml", "--output", "both", "--no-plots", "--committee", "2", "--epochs", "1"]) == 0
    assert "anisotropy, validation: 1 runs" in capsys.readouterr().out
    first, second = (load(f"both/member-{number}/model.safetensors") for number in range(2))
    assert first.anisotropy is not None and second.anisotropy is not None
    different = (first.anisotropy.embedding - second.anisotropy.embedding).abs()
    assert float(different.detach().min()) > 1e-3  # of other random weights, not only of another order of the data


def test_a_model_of_energies_gets_a_part_and_goes_on_with_both(files, capsys):
    exchange = Potential(PotentialConfig(elements=["Fe", "Ni", "Pt"], symmetry="nonsoc", **TINY))
    exchange.set_atomic_energies({"Fe": -8.0, "Ni": -5.0, "Pt": -6.0})
    save(exchange, "exchange.safetensors")
    command = ["train", "both.yaml", "--model-from", "exchange.safetensors", "--epochs", "1", "--no-plots"]
    assert cli.run([*command, "--output", "more"]) == 0
    one = load("more/model.safetensors")
    assert one.anisotropy is not None and float(one.anisotropy.energy_scale) > 0
    assert not np.allclose(one.embedding.detach(), exchange.embedding.detach(), atol=1e-6)  # is trained on too

    assert cli.run([*command, "--output", "two", "--committee", "2"]) == 0
    parts = [load(f"two/member-{number}/model.safetensors").anisotropy for number in range(2)]
    different = (parts[0].embedding - parts[1].embedding).abs()
    assert float(different.detach().min()) > 1e-3  # each has new weights of its own


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--spin-orbit", "nothing.json"], "nothing.json: cannot be read"),
        (["--spin-orbit", "runs.json", "--symmetry", "none"], "training: the data have energies of directions"),
        (["number.yaml"], "number.yaml: spin_orbit is [3]; give store:CAMPAIGN, a file, or a list of them"),
        (["--spin-orbit", "runs.json", "--symmetry", "soc"], None),
    ],
)
def test_other_ways_of_asking(files, capsys, arguments, said):
    (files / "number.yaml").write_text("spin_orbit: [3]\n")
    code = cli.run(["train", *arguments, "--data", "labels.extxyz", "--epochs", "1", "--output", "x", "--no-plots"])
    error = capsys.readouterr().err
    if said is None:  # one soc potential for both
        assert code == 0 and load("x/model.safetensors").anisotropy is None
        assert "they are turned at random" not in error
    else:
        assert code == 2 and said in error and "Traceback" not in error
