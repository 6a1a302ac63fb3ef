"""`mmace label` with an analytic engine and a store in memory."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from analytic_engine import AnalyticEngine
from ase.build import bulk
from ase.io import read, write
from maggma.stores import MemoryStore

from mmace_flows.cli.app import run
from mmace_flows.labels.engine import get_engine as real_engine


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two crystals; engine and store are replaced, and what the engine is asked is recorded."""
    monkeypatch.chdir(tmp_path)
    labels = MemoryStore(key="label_key")
    labels.connect()
    engine = AnalyticEngine()
    asked = SimpleNamespace(engine=engine, labels=labels, settings=[], folder=tmp_path)

    def get_engine(name, settings, symbols):
        if name == "vasp":
            return real_engine(name, settings, symbols)
        asked.settings.append((name, settings, tuple(symbols)))
        return engine

    stores = SimpleNamespace(labels=labels, scratch=lambda campaign, key: tmp_path / "scratch" / campaign / key)
    monkeypatch.setattr("mmace_flows.labels.batch.get_engine", get_engine)
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda settings=None: stores)
    crystals = [bulk("Fe", a=a, cubic=True) for a in (2.8, 2.9)]
    for atoms in crystals:
        atoms.set_initial_magnetic_moments(None)
        atoms.set_initial_magnetic_moments(np.array([[2.0, 0, 0], [0, 2.0, 0]]))
    write(tmp_path / "in.extxyz", crystals)
    return asked


def test_moments_of_the_file_are_the_start_and_vectors_come_out(place, capsys):
    assert run(["label", "in.extxyz", "-o", "out.extxyz"]) == 0
    assert "2 of 2 labelled (2 computed, 0 found in the database" in capsys.readouterr().out
    assert place.settings[0][0] == "gpaw" and place.settings[0][2] == ("Fe",)
    labelled = read("out.extxyz", ":")
    for atoms, start in zip(labelled, read("in.extxyz", ":"), strict=True):
        assert atoms.positions == pytest.approx(start.positions)
        assert atoms.arrays["REF_magmom"].tolist() == [[1.8, 0, 0], [0, 1.8, 0]]  # the analytic engine shrinks moments
        assert np.isfinite(atoms.info["REF_energy"]) and atoms.arrays["REF_forces"].shape == (2, 3)
        stress = np.asarray(atoms.info["REF_stress"])
        assert stress.size == 9
    stored = place.labels.query_one({"label_key": labelled[0].info["label_key"]})
    assert stored["free_energy"] == labelled[0].info["REF_energy"] and stored["campaign"] == "label"


def test_every_structure_in_every_state_and_nothing_twice(place, capsys):
    assert run(["label", "in.extxyz", "--state", "fm,afm", "--state", "nm", "-o", "out.extxyz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["count"], told["computed"], told["found"], told["failed"]) == (6, 6, 0, [])
    assert [one["magnetic_state"] for one in told["labels"]] == ["FM", "AFM", "NM"] * 2
    assert run(["label", "in.extxyz", "--state", "nm,fm,afm", "-o", "again.extxyz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["computed"], told["found"]) == (0, 6) and len(place.engine.computed) == 6
    assert not any(one["computed"] for one in told["labels"])


def test_only_the_lowest_state_of_each_structure_is_written_and_all_are_kept(place, capsys, monkeypatch):
    """The analytic energy knows no moments: here long ones lie lower."""
    compute = AnalyticEngine.run

    def magnetic(self, structure, folder, name="run", start_attempt=0):
        result = compute(self, structure, folder, name, start_attempt)
        result.free_energy -= 0.1 * abs(np.sum(structure.magmoms))
        return result

    monkeypatch.setattr(AnalyticEngine, "run", magnetic)
    assert run(["label", "in.extxyz", "--state", "nm,fm,afm", "--keep", "lowest", "-o", "out.extxyz"]) == 0
    assert "6 of 6 labelled" in (said := capsys.readouterr().out) and "the 2 of lowest energy written" in said
    assert [atoms.info["magnetic_state"] for atoms in read("out.extxyz", ":")] == ["FM", "FM"]
    assert place.labels.count() == 6


def test_failures_are_listed_and_the_rest_is_written(place, capsys):
    place.engine.fail_after = 1
    assert run(["label", "in.extxyz", "-o", "out.extxyz"]) == 1
    said = capsys.readouterr()
    assert "not labelled: in.extxyz: configuration 1: SCF not converged" in said.err
    assert "1 of 2 labelled" in said.out and len(read("out.extxyz", ":")) == 1
    assert run(["label", "in.extxyz", "-o", "again.extxyz"]) == 1  # not tried again unless asked
    place.engine.fail_after = 10
    assert run(["label", "in.extxyz", "-o", "third.extxyz", "--retry-failed"]) == 0
    assert len(read("third.extxyz", ":")) == 2


def test_nothing_is_written_where_nothing_converged(place, capsys):
    place.engine.fail_after = 0
    assert run(["label", "in.extxyz", "-o", "out.extxyz", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["file"] is None and not Path("out.extxyz").exists()


def test_after_a_break_the_same_command_goes_on(place, capsys, monkeypatch):
    compute = AnalyticEngine.run

    def breaks(self, structure, folder, name="run", start_attempt=0):
        if len(self.computed) == 1:
            raise KeyboardInterrupt
        return compute(self, structure, folder, name, start_attempt)

    monkeypatch.setattr(AnalyticEngine, "run", breaks)
    assert run(["label", "in.extxyz", "-o", "out.extxyz"]) == 130
    assert "1 of 2 labels are in the database; the same command goes on" in capsys.readouterr().err
    assert not Path("out.extxyz").exists()
    monkeypatch.setattr(AnalyticEngine, "run", compute)
    assert run(["label", "in.extxyz", "-o", "out.extxyz"]) == 0
    assert "1 computed, 1 found" in capsys.readouterr().out


def test_settings_of_a_file_change_the_preset(place):
    Path("s.yaml").write_text("cutoff: 400\nkpoint_spacing: 0.1\n")
    assert run(["label", "in.extxyz", "--preset", "small", "--settings", "s.yaml", "-o", "out.extxyz"]) == 0
    settings = place.settings[0][1]
    assert (settings["cutoff"], settings["kpoints"], settings["kpoint_spacing"]) == (400.0, None, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.extxyz", "--engine", "espreso"], "engine 'espreso' is unknown; known: gpaw, espresso"),
        (["in.extxyz", "--preset", "smal"], "unknown preset 'smal'; did you mean 'small'?"),
        (["in.extxyz", "--state", "fim"], "--state fim"),
        (["in.extxyz", "--keep", "lowst"], "unknown choice 'lowst'; did you mean 'lowest'?"),
        (["in.extxyz", "--engine", "vasp"], "VASP: 'vasp_std' is not a program on PATH; set ATOMATE2_VASP_CMD"),
        (["in.extxyz", "--settings", "none.yaml"], "none.yaml: no such file"),
        (["in.extxyz", "--settings", "bad.yaml"], "bad.yaml: unknown setting 'cutof'; did you mean 'cutoff'?"),
        (["in.extxyz", "--settings", "text.yaml"], "text.yaml cutoff: "),
        (["in.extxyz", "--format", "espresso-inn"], "--format"),
        (["none.cif"], "none.cif: no such file"),
        (["in.extxyz", "-o", "nowhere/out.extxyz"], "there is no folder nowhere"),
        (["in.extxyz", "-o", "in.extxyz"], "is there already"),
        (["in.extxyz", "-o", "out.json"], "out.json"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(place, capsys, arguments, message):
    Path("bad.yaml").write_text("cutof: 400\n")
    Path("text.yaml").write_text("cutoff: much\n")
    assert run(["label", *arguments, *([] if "-o" in arguments else ["-o", "out.extxyz"])]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not place.engine.computed


def test_a_structure_that_the_engine_cannot_treat_is_named_before_anything_is_computed(place, capsys, monkeypatch):
    from mmace_flows.labels.gpaw_engine import GPAWEngine
    from mmace_flows.labels.gpaw_settings import GPAWSettings

    pbe = GPAWEngine(GPAWSettings.small())
    monkeypatch.setattr(AnalyticEngine, "check", lambda self, structure: pbe.check(structure))
    assert run(["label", "in.extxyz", "-o", "out.extxyz"]) == 2
    said = capsys.readouterr().err
    assert "in.extxyz: configuration 0: magmoms are not along one axis" in said and not place.engine.computed
