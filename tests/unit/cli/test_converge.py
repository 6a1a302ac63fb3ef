"""`mmace converge` with an engine whose errors are known and a store in memory."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from convergence_engine import ConvergingEngine
from maggma.stores import MemoryStore

from mmace_flows.cli.app import run

SCAN = ["--cutoffs", "300,400,500,600", "--spacings", "0.2,0.1,0.05", "--smearings", "0.1,0.02,0.01"]
TOLERANCE = ["--tolerance", "energy=2meV,forces=100meV/A"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = MemoryStore(key="label_key")
    labels.connect()
    computed = []

    def get_engine(name, settings, symbols):
        engine = ConvergingEngine(settings)
        engine.computed = computed
        return engine

    stores = SimpleNamespace(
        labels=labels, spin_orbit=None, scratch=lambda campaign, key: tmp_path / "scratch" / campaign / key
    )
    monkeypatch.setattr("mmace_flows.labels.batch.get_engine", get_engine)
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda settings=None: stores)
    atoms = bulk("Fe", a=2.8, cubic=True)
    atoms.set_initial_magnetic_moments(None)
    atoms.set_initial_magnetic_moments(np.array([[0, 0, 2.2]] * 2))
    write("fe.extxyz", atoms)
    return SimpleNamespace(folder=tmp_path, computed=computed)


def test_a_study_ends_in_settings_that_label_takes(place, capsys):
    assert run(["converge", "fe.extxyz", *SCAN, *TOLERANCE, "-o", "out"]) == 0
    said = capsys.readouterr()
    assert "20/20 smearing 0.01 eV" in said.err and "s left" in said.err
    assert "recommended: cutoff 400 eV, k-points 0.1 Å⁻¹, smearing 0.02 eV" in said.out
    assert "│ 300 eV" in said.out and "*" in said.out
    assert {path.name for path in Path("out").iterdir()} == {"convergence.json", "convergence.png", "settings.yaml"}
    before = len(place.computed)
    assert run(["label", "fe.extxyz", "--settings", "out/settings.yaml", "-o", "labels.extxyz"]) == 0
    assert len(place.computed) == before  # the label of the recommended settings is one of the study's


def test_json_and_the_same_command_again(place, capsys):
    arguments = ["converge", "fe.extxyz", *SCAN, *TOLERANCE, "-o", "out", "--json"]
    assert run(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["converged"] and told["recommended"]["cutoff"] == 400 and len(told["scans"]) == 3
    count = len(place.computed)
    assert run(arguments) == 2  # files are there
    assert "--overwrite" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) == 0 and len(place.computed) == count


def test_a_tolerance_that_is_not_reached_ends_with_1_and_says_so(place, capsys):
    assert run(["converge", "fe.extxyz", *SCAN, "--tolerance", "0.001meV", "-o", "out"]) == 1
    assert "not shown to be within tolerance: cutoff, k-points, smearing; scan finer values" in capsys.readouterr().out


def test_after_a_break_the_same_command_goes_on(place, capsys, monkeypatch):
    compute = ConvergingEngine.run

    def breaks(self, structure, folder, name="run", start_attempt=0):
        if len(self.computed) == 3:
            raise KeyboardInterrupt
        return compute(self, structure, folder, name, start_attempt)

    monkeypatch.setattr(ConvergingEngine, "run", breaks)
    assert run(["converge", "fe.extxyz", *SCAN, "-o", "out"]) == 130
    assert "stopped after 3 calculations" in capsys.readouterr().err and not Path("out").exists()
    monkeypatch.setattr(ConvergingEngine, "run", compute)
    assert run(["converge", "fe.extxyz", *SCAN, *TOLERANCE, "-o", "out"]) == 0
    assert "found in the database" in capsys.readouterr().err and len(place.computed) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "espreso"], "engine 'espreso' is unknown"),
        (["--tolerance", "2GPa"], "--tolerance 2GPa: write a positive number and its unit (meV"),
        (["--quantity", "force"], "unknown quantity 'force'; did you mean 'forces'?"),
        (["--cutoffs", "much"], "--cutoffs"),
        (["--cutoffs", "-300,400"], "cutoffs: -300"),
        (["--kpoints", "4x4"], "--kpoints 4x4: write grids as three numbers"),
        (["--kpoints", "4x4x4", "--spacings", "0.1"], "not both"),
        (["--cutoffs", "300", "--spacings", "0.1", "--smearings", "0.1"], "nothing to scan"),
        (["--engine", "espresso", "--quantity", "anisotropy"], "anisotropy is computed with gpaw only"),
        (["--volume", "1", "--displacement", "0"], "give a second structure"),
        (["--settings", "bad.yaml"], "bad.yaml: unknown setting 'cutof'; did you mean 'cutoff'?"),
        (["--settings", "text.yaml"], "xc"),
        (["-o", "fe.extxyz"], "is a file"),
        (["--state", "nm", "--quantity", "anisotropy"], "anisotropy needs moments"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(place, capsys, arguments, message):
    Path("bad.yaml").write_text("cutof: 400\n")
    Path("text.yaml").write_text("xc: [1]\n")
    assert run(["converge", "fe.extxyz", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not place.computed
