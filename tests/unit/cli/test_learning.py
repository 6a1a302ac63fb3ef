"""`mmace train` and `mmace evaluate` as a user types them."""

from __future__ import annotations

import json
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

from mmace import load, model_hash
from mmace_flows.cli.app import run

SMALL = """
model: {r_max: 3.5, hidden: 4x0e, l_pos: 1, correlation: 2, num_bessel: 4, num_chebyshev: 3, radial_hidden: [8]}
training: {epochs: 3, batch_size: 4, num_threads: 1}
"""


def structures(count: int = 10, collinear: bool = True) -> list[Atoms]:
    """Iron–nickel cells with labels of the right shape."""
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        atoms = Atoms("FeNi", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.8] * 3, pbc=True)
        atoms.positions += generator.normal(scale=0.05, size=(2, 3))
        moments = np.zeros((2, 3)) if collinear else generator.normal(size=(2, 3))
        moments[:, 2] += generator.choice([-1, 1]) * np.array([2.2, generator.choice([-0.6, 0.6])])
        atoms.arrays["REF_magmom"] = moments
        atoms.arrays["REF_forces"] = generator.normal(scale=0.3, size=(2, 3))
        atoms.info["REF_energy"] = -13.0 + generator.normal(scale=0.1)
        atoms.info["REF_stress"] = np.diag(generator.normal(scale=0.01, size=3)).ravel()
        frames.append(atoms)
    return frames


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with data.extxyz and small.yaml."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("data.extxyz", structures(), format="extxyz")
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    """The one line of a refused command."""
    assert run(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


def test_train_resume_and_evaluate(folder, capsys):
    command = ["train", "small.yaml", "--data", "data.extxyz", "--output", "out"]
    assert run(command) == 0
    first = capsys.readouterr()
    assert "9 structures to train on, 1 to validate" in first.err
    assert "epoch 3/3" in first.err
    assert "meV/atom · forces " in first.err
    assert "meV/Å · stress " in first.err
    assert "turned at random while training (--no-rotate-moments: not)\n" in first.err  # collinear data, one line
    assert "model: out/model.safetensors" in first.out
    assert json.loads((folder / "out/settings.json").read_text())["training"]["rotate_moments"] is True
    trained = model_hash(load("out/model.safetensors"))

    assert run(command) == 0
    assert "finished already" in capsys.readouterr().err
    assert model_hash(load("out/model.safetensors")) == trained

    assert run([*command, "--epochs", "4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["epochs"] == 4
    assert result["errors"]["validation"]["all"]["energy_per_atom"]["rmse"] > 0

    assert run(["evaluate", "out/model.safetensors", "data.extxyz", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model_hash"] == result["model_hash"]
    errors = report["errors"]
    assert errors["all"]["count"] == 10 == sum(errors[b]["count"] for b in errors if b != "all")
    assert set(errors) == {"all", "FM"}  # branches without structures are left out
    assert set(errors["FM"]) == {"count", "energy_per_atom", "forces", "stress", "magnetic_forces"}
    assert errors["all"]["forces"]["rmse"] >= errors["all"]["forces"]["mae"] > 0
    assert errors["all"]["magnetic_forces"] == {"rmse": None, "mae": None}
    assert report["moment_rotation_error"] >= 0

    assert run(["evaluate", "out/model.safetensors", "data.extxyz"]) == 0
    table = capsys.readouterr().out
    assert "magnetic" in table
    assert "FM" in table


def test_fine_tuning_from_a_checkpoint(folder, capsys):
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--output", "out"]) == 0
    ase.io.write("more.extxyz", structures(6, collinear=False), format="extxyz")
    tune = ["train", "--data", "more.extxyz", "--valid", "data.extxyz", "--output", "tuned", "--epochs", "1"]
    tune += ["--model-from", "out/model.safetensors", "--learning-rate", "0.0005"]
    assert run(tune) == 0
    settings = json.loads((folder / "tuned/settings.json").read_text())
    assert settings["potential"]["hidden"] == "4x0e"
    assert settings["initial model"] is not None
    assert settings["training"]["rotate_moments"] is False  # the moments are not collinear


def test_everything_from_the_settings_file(folder, capsys):
    (folder / "all.yaml").write_text(SMALL + "data: data.extxyz\noutput: from-file\nvalid_fraction: 0.3\n")
    assert run(["train", "all.yaml", "--no-rotate-moments"]) == 0
    assert "7 structures to train on, 3 to validate" in capsys.readouterr().err
    assert (folder / "from-file/model.safetensors").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("trainin: {}\n", "small.yaml: unknown setting 'trainin'; did you mean 'training'?"),
        ("training: {epoch: 3}\n", "small.yaml: training: unknown setting 'epoch'; did you mean 'epochs'?"),
        ("model: {rmax: 3}\n", "small.yaml: model: unknown setting 'rmax'; did you mean 'r_max'?"),
        ("training: [1, 2]\n", "small.yaml: training is [1, 2]"),
        ("just text\n", "small.yaml: expected sections"),
        ("training: {\n", "small.yaml: not valid YAML"),
        ("", "small.yaml: the file is empty"),
        ("valid_fraction: 2\n", "small.yaml: valid_fraction is 2"),
        ("keys: {magmom: spin}\n", "small.yaml: keys: unknown setting 'magmom'; did you mean 'magmoms'?"),
        ("model: {r_max: -4.0}\n", "small.yaml: model: r_max = -4.0; must be positive"),
        ("model: {r_max: wide}\n", "small.yaml: model: r_max is 'wide'; give a number"),
        ("model: {hidden: 64}\n", "small.yaml: model: hidden is 64; give text"),
        ("model: {m_max: 3}\n", "small.yaml: model: m_max is 3; give one number per element"),
        ("model: {symmetry: sock}\n", "small.yaml: model: symmetry: unknown setting 'sock'; did you mean 'soc'?"),
        ("training: {epochs: 0}\n", "small.yaml: training: epochs is 0; give at least 1"),
        ("training: {weights: {force: 1}}\n", "small.yaml: training: weights: unknown setting 'force'"),
        ("model: {elements: [Fe]}\n", "element Ni is not known to the model"),
    ],
)
def test_wrong_settings_are_refused(folder, capsys, settings, message):
    (folder / "small.yaml").write_text(settings)
    assert message in refused(capsys, "train", "small.yaml", "--data", "data.extxyz", "--output", "out")
    assert not (folder / "out/model.safetensors").exists()


def test_wrong_options_are_refused(folder, capsys):
    assert "no data; give --data" in refused(capsys, "train")
    assert "missing.extxyz: no such file" in refused(capsys, "train", "--data", "missing.extxyz")
    assert "missing.yaml: cannot be read" in refused(capsys, "train", "missing.yaml", "--data", "data.extxyz")
    assert "write it as FIELD=KEY" in refused(capsys, "train", "--data", "data.extxyz", "--key", "magmoms")
    assert "model.safetensors: cannot be read" in refused(capsys, "evaluate", "model.safetensors", "data.extxyz")
    (folder / "model.safetensors").write_text("not a model")
    assert "not a checkpoint" in refused(capsys, "evaluate", "model.safetensors", "data.extxyz")


def test_bad_data_is_refused(folder, capsys):
    frames = structures(3)
    frames[1].info["REF_energy"] = float("nan")
    ase.io.write("nan.extxyz", frames, format="extxyz")
    message = refused(capsys, "train", "--data", "nan.extxyz")
    assert "nan.extxyz: configuration 1 (line 5): energy contains NaN" in message
    for atoms in frames:
        del atoms.arrays["REF_magmom"]
    ase.io.write("none.extxyz", frames, format="extxyz")
    assert "none.extxyz: configuration 0 (line 1): no moments under 'REF_magmom'" in refused(
        capsys, "train", "--data", "none.extxyz"
    )
    assert not (folder / "training").exists()


def test_an_element_the_model_does_not_know(folder, capsys):
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--output", "out"]) == 0
    frames = structures(2)
    frames[1].symbols[0] = "Mn"
    ase.io.write("mn.extxyz", frames, format="extxyz")
    message = refused(capsys, "evaluate", "out/model.safetensors", "mn.extxyz")
    assert "mn.extxyz: configuration 1 (line 5): element Mn is not known to the model (it knows Fe, Ni)" in message


def test_one_moment_column_is_said(folder, caplog):
    frames = structures(4)
    for atoms in frames:
        atoms.arrays["REF_magmom"] = atoms.arrays["REF_magmom"][:, 2].copy()
    ase.io.write("column.extxyz", frames, format="extxyz")
    assert run(["train", "small.yaml", "--data", "column.extxyz", "--output", "out"]) == 0
    assert [r.levelname for r in caplog.records if "taken as collinear along z" in r.getMessage()] == ["WARNING"]


def test_importing_the_commands_imports_nothing_heavy():
    heavy = ("torch", "ase", "numpy", "yaml", "mmace.train")
    code = f"import sys, mmace_flows.cli.learning; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_results_off_a_terminal_are_not_cut(folder, capsys):
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--output", "out", "--epochs", "1"]) == 0
    table = capsys.readouterr().out
    assert "(1 epoch done)" in table
    ase.io.write("a" * 60 + ".extxyz", structures(4), format="extxyz")
    assert run(["evaluate", "out/model.safetensors", "a" * 60 + ".extxyz"]) == 0
    table = capsys.readouterr().out
    assert "…" not in table
    assert "magnetic forces" in table


def test_a_folder_instead_of_a_file(folder, capsys):
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--output", "out", "--epochs", "1"]) == 0
    assert "out: is a folder" in refused(capsys, "evaluate", "out/model.safetensors", "out")
    assert "out: is a folder" in refused(capsys, "train", "--data", "out")
    assert "out: is a folder" in refused(capsys, "evaluate", "out", "data.extxyz")


def test_another_run_in_the_folder_names_the_option(folder, capsys):
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--output", "out", "--epochs", "1"]) == 0
    assert "--overwrite" in refused(
        capsys, "train", "small.yaml", "--data", "data.extxyz", "--output", "out", "--seed", "3"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_where_and_goes_on(folder, capsys, number):
    command = [sys.executable, "-m", "mmace_flows.cli.app", "train", "small.yaml", "--data", "data.extxyz"]
    command += ["--output", "out", "--epochs", "100000"]

    def listen() -> None:  # tests started in the background inherit an ignored SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    try:
        end = time.monotonic() + 60
        while not (folder / "out/state.pt").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130
    finally:
        process.kill()
    stopped = re.search(r"stopped after epoch (\d+).*; the same command goes on from there", said)
    assert stopped, said
    epochs = int(stopped[1]) + 2
    again = ["train", "small.yaml", "--data", "data.extxyz", "--output", "out", "--epochs", str(epochs), "--json"]
    assert run(again) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == epochs


def test_the_page_on_training_runs_as_typed(tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs/training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 3
    for block in blocks:
        if "Committee" in block:
            monkeypatch.chdir(tmp_path)
            arguments = "train --data train.extxyz --committee 2 --epochs 1 --output committee"
            assert run(arguments.split()) == 0
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True, timeout=120)
    assert set(load(tmp_path / "python-training/model.safetensors").config.elements) == {"Fe", "Ni"}
    settings = re.findall(r"```yaml\n(.*?)```", page, re.S)[0]
    (tmp_path / "feni.yaml").write_text(settings, encoding="utf-8")
    assert run(["train", str(tmp_path / "feni.yaml"), "--epochs", "1"]) == 0
    assert (tmp_path / "training/model.safetensors").exists()
