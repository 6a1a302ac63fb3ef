"""`mmace model info` and `mmace relax-moments` as a user types them."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mmace import Potential, PotentialConfig, save
from mmace_flows.cli.app import run


@pytest.fixture
def checkpoint(tmp_path):
    model = Potential(PotentialConfig(elements=["Fe"], hidden="4x0e", r_max=4.0, m_max={"Fe": 3.0}))
    model.set_atomic_energies({"Fe": -8.25})
    return save(model, tmp_path / "model.safetensors", {"best_epoch": 7})


@pytest.fixture
def structures(tmp_path):
    atoms = bulk("Fe", cubic=True)
    atoms.set_initial_magnetic_moments([1.0, 1.2])
    ase.io.write(tmp_path / "in.extxyz", [atoms, atoms])
    return tmp_path / "in.extxyz"


def test_info(checkpoint, capsys):
    assert run(["model", "info", str(checkpoint)]) == 0
    text = capsys.readouterr().out
    assert "-8.2500 eV" in text and "3.00 μB" in text and "best epoch" in text
    assert run(["model", "info", str(checkpoint), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["config"]["symmetry"] == "soc" and data["atomic_energies"]["default"]["Fe"] == -8.25


def test_relax_moments(checkpoint, structures, tmp_path, capsys):
    out = tmp_path / "out.extxyz"
    assert run(["relax-moments", str(structures), "--model", str(checkpoint), "-o", str(out)]) == 0
    written = ase.io.read(out, index=":")
    assert len(written) == 2 and written[0].info["converged"]
    assert np.abs(written[0].arrays["mmace_magnetic_forces"]).max() < 1e-3
    assert written[0].get_initial_magnetic_moments().shape == (2, 3)
    assert len(written[0].info["mmace_stress"]) == 9
    assert not any(key.startswith("REF_") for key in (*written[0].arrays, *written[0].info))


def test_relax_moments_that_do_not_converge_are_said_and_counted(checkpoint, structures, tmp_path, capsys):
    out = tmp_path / "out.extxyz"
    arguments = ["relax-moments", str(structures), "--model", str(checkpoint), "-o", str(out), "--max-evaluations", "1"]
    assert run(arguments) == 1
    assert "0 of 2 converged" in capsys.readouterr().err
    assert not ase.io.read(out).info["converged"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "colinear"}, "did you mean 'collinear'"),
        ({"axis": "0,0"}, "three numbers"),
        ({"tolerance": "-1"}, "must be positive"),
        ({"model": "missing.safetensors"}, "missing.safetensors"),
    ],
)
def test_wrong_inputs_are_one_line(change, words, checkpoint, structures, tmp_path, capsys):
    options = {"mode": "full", "axis": "0,0,1", "model": str(checkpoint), **change}
    arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
    out = tmp_path / "out.extxyz"
    assert run(["relax-moments", str(structures), "-o", str(out), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and error.count("\n") == 0 and not out.exists()


def test_not_a_checkpoint(tmp_path, capsys):
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    assert run(["model", "info", str(tmp_path / "x.safetensors")]) == 2
    assert "not a checkpoint" in capsys.readouterr().err
