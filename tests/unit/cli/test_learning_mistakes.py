"""Mistakes of a first training: each ends in one line that names file, setting and mend, before data are read."""

from __future__ import annotations

import ase.io
import pytest
from test_learning import SMALL, refused, structures

from mmace_flows.cli.app import run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with data.extxyz and small.yaml."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("data.extxyz", structures(), format="extxyz")
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


TRAIN = ("train", "small.yaml", "--data", "data.extxyz")


def test_a_setting_given_twice(folder, capsys):
    (folder / "small.yaml").write_text("data: a.extxyz\nmodel: {r_max: 4}\ndata: b.extxyz\n")
    assert "small.yaml: line 3: data stands in line 1 already; remove one" in refused(capsys, "train", "small.yaml")
    (folder / "small.yaml").write_text("training:\n  stages:\n    - start: 1\n      start: 2\n")
    assert "small.yaml: line 4: start stands in line 3 already" in refused(capsys, *TRAIN)


def test_data_where_settings_belong(folder, capsys):
    (folder / "plain.xyz").write_text("1\n")
    assert "or give structures with --data plain.xyz" in refused(capsys, "train", "plain.xyz")


def test_a_file_where_a_folder_belongs(folder, capsys):
    assert "--output data.extxyz: data.extxyz is a file; give a folder" in refused(
        capsys, *TRAIN, "--output", "data.extxyz"
    )
    assert "data.extxyz is a file; give a folder" in refused(capsys, *TRAIN, "--output", "data.extxyz/run")
    line = refused(capsys, "evaluate", "model.safetensors", "data.extxyz", "--plots", "data.extxyz")
    assert "--plots data.extxyz: data.extxyz is a file" in line


def test_single_runs_and_committees_do_not_mix(folder, capsys):
    (folder / "many/member-0").mkdir(parents=True)
    assert "many: holds a committee (member-0)" in refused(capsys, *TRAIN, "--output", "many")
    (folder / "one").mkdir()
    (folder / "one/state.pt").write_bytes(b"")
    assert "one: holds a run of a single model" in refused(capsys, *TRAIN, "--output", "one", "--committee", "2")


def test_a_wrong_key_of_energies_is_named(folder, capsys):
    line = refused(capsys, *TRAIN, "--key", "energy=nope")
    assert "no energy under 'nope' in any configuration; add nope=" in line


def test_the_same_run_gives_the_same_file(folder):
    for output in ("a", "b"):
        assert run([*TRAIN, "--output", output, "--epochs", "1", "--no-plots"]) == 0
    assert (folder / "a/model.safetensors").read_bytes() == (folder / "b/model.safetensors").read_bytes()
