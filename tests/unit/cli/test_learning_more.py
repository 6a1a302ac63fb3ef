"""Fine-tuning, committees, heads, E0, schema and example of the settings, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import jsonschema
import numpy as np
import pytest
import yaml
from ase import Atoms
from test_learning import SMALL, refused, structures

from mmace import load, model_hash
from mmace_flows.cli.app import run
from mmace_flows.cli.learning_schema import schema_text, settings_schema

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with data.extxyz and small.yaml."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("data.extxyz", structures(), format="extxyz")
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def train(*more: str, output: str = "out") -> None:
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--output", output, "--no-plots", *more]) == 0


def test_the_published_schema_is_current():
    # mend: mmace train --schema > docs/training.schema.json
    assert (DOCS / "training.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_schema_tells_right_from_wrong(capsys):
    assert run(["train", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == settings_schema()
    schema = jsonschema.Draft202012Validator(settings_schema())
    schema.check_schema(settings_schema())
    assert schema.is_valid(yaml.safe_load(SMALL))
    for wrong in (
        {"trainig": {}},
        {"training": {"epoch": 3}},
        {"training": {"epochs": "many"}},
        {"training": {"schedule": "linear"}},
        {"training": {"stages": [{"weights": {"energy": 1}}]}},
        {"training": {"weights": {"force": 1}}},
        {"training": {"atomic_energies": "guess"}},
        {"model": {"symmetry": "both"}},
        {"committee": 0},
    ):
        assert not schema.is_valid(wrong), wrong
    from mmace.train import TrainingConfig

    everything = {"training": TrainingConfig(stages=[{"start": 3}]).to_dict()}
    assert list(schema.iter_errors(everything)) == []


def test_the_example_is_valid_and_trains(folder):
    text = (DOCS / "training.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text)
    assert list(jsonschema.Draft202012Validator(settings_schema()).iter_errors(settings)) == []
    from mmace.config import PotentialConfig
    from mmace.train import TrainingConfig

    defaults = {"model": PotentialConfig(elements=["Fe"]).to_dict(), "training": TrainingConfig().to_dict()}
    for section, values in defaults.items():  # what the example calls a default is one
        assert {k: v for k, v in settings[section].items() if k != "stages"}.items() <= values.items()
    (folder / "training.yaml").write_text(text, encoding="utf-8")
    ase.io.write("train.extxyz", structures(4), format="extxyz")
    ase.io.write("valid.extxyz", structures(2), format="extxyz")
    assert run(["train", "training.yaml", "--epochs", "1", "--threads", "1", "--no-plots"]) == 0
    assert load(folder / "training/model.safetensors").config.hidden == "64x0e"


@pytest.mark.parametrize("weights", ["all", "last", "low-rank"])
def test_finetune(folder, capsys, weights):
    train("--epochs", "1")
    tune = ["finetune", "out/model.safetensors", "--data", "data.extxyz", "--output", "tuned", "--epochs", "2"]
    capsys.readouterr()
    tune += ["--train", weights, "--rank", "2", "--threads", "1", "--no-plots", "--replay", "data.extxyz"]
    assert run([*tune, "--json"]) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert "9 structures to train on, 1 to validate, 10 of old data" in shown.err
    settings = json.loads((folder / "tuned/settings.json").read_text())["training"]
    assert (settings["learning_rate"], settings["clip"], settings["trainable"]) == (0.0005, 10.0, weights)
    tuned = load("tuned/model.safetensors")
    assert model_hash(tuned) == result["model_hash"] != model_hash(load("out/model.safetensors"))
    assert run(tune) == 0
    assert "finished already" in capsys.readouterr().err


def test_finetune_refuses_what_it_cannot_use(folder, capsys):
    train("--epochs", "1")
    tune = ("finetune", "out/model.safetensors", "--data", "data.extxyz")
    assert "trainable is 'some'; give one of all, last, low-rank" in refused(capsys, *tune, "--train", "some")
    assert "--freeze: unknown setting 'last'; did you mean 'all-but-last'?" in refused(
        capsys, *tune, "--freeze", "last"
    )
    assert "contradict each other" in refused(capsys, *tune, "--freeze", "none", "--train", "last")
    assert run([*tune, "--freeze", "all-but-last", "--epochs", "1", "--output", "last", "--no-plots"]) == 0
    assert json.loads((folder / "last/settings.json").read_text())["training"]["trainable"] == "last"
    assert "replay_weight is 0.0" in refused(capsys, *tune, "--replay", "data.extxyz", "--replay-weight", "0")
    assert "model means nothing to mmace finetune" in refused(capsys, *tune, "--config", "small.yaml")
    (folder / "tune.yaml").write_text("replay: data.extxyz\n")
    assert "replay means nothing to mmace train" in refused(capsys, "train", "tune.yaml", "--data", "data.extxyz")
    assert "no data; give --data" in refused(capsys, "finetune", "out/model.safetensors")


def test_a_new_head_by_fine_tuning(folder, capsys):
    train("--epochs", "1")
    tune = ["finetune", "out/model.safetensors", "--data", "data.extxyz", "--output", "tuned", "--epochs", "1"]
    assert run([*tune, "--head", "r2scan", "--replay", "data.extxyz", "--no-plots"]) == 0
    assert "validation, head r2scan" in capsys.readouterr().out
    assert load("tuned/model.safetensors").config.heads == ("default", "r2scan")
    assert run(["evaluate", "tuned/model.safetensors", "data.extxyz", "--head", "r2scan", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["heads"]) == {"r2scan"}
    said = refused(capsys, "evaluate", "tuned/model.safetensors", "data.extxyz", "--head", "r2sacn")
    assert "unknown head 'r2sacn'; did you mean 'r2scan'?" in said


def test_committee(folder, capsys):
    train("--committee", "2", "--epochs", "1", "--bootstrap")
    shown = capsys.readouterr()
    assert "member-1, 2 of 2" in shown.err
    assert "committee of 2, bootstrap samples" in shown.out
    assert "spread" in shown.out
    before = [model_hash(load(f"out/member-{n}/model.safetensors")) for n in (0, 1)]
    capsys.readouterr()
    train("--committee", "3", "--epochs", "1", "--bootstrap", "--json")
    summary = json.loads(capsys.readouterr().out)
    assert [member["model_hash"] for member in summary["members"]][:2] == before
    assert len({member["model_hash"] for member in summary["members"]}) == 3
    assert summary["spread"]["forces"] > 0
    assert "bootstrap draws a sample for each member" in refused(
        capsys, "train", "small.yaml", "--data", "data.extxyz", "--bootstrap"
    )


def test_atomic_energies_from_single_atoms(folder, capsys):
    atoms = []
    for symbol, energy in (("Fe", -3.25), ("Ni", -0.5)):
        atom = Atoms(symbol, cell=[15] * 3, pbc=True)
        atom.arrays["REF_magmom"] = np.array([[0, 0, 2.0]])
        atom.info["REF_energy"] = energy
        atoms.append(atom)
    ase.io.write("atoms.extxyz", atoms, format="extxyz")
    train("--isolated-atoms", "atoms.extxyz", "--epochs", "1")
    assert load("out/model.safetensors").atomic_energies.tolist() == [[-3.25, -0.5]]
    ase.io.write("all.extxyz", [*structures(), *atoms], format="extxyz")
    command = ["train", "small.yaml", "--data", "all.extxyz", "--valid", "data.extxyz", "--output", "all"]
    assert run([*command, "--atomic-energies", "isolated_atoms", "--epochs", "1", "--no-plots"]) == 0
    assert load("all/model.safetensors").atomic_energies.tolist() == [[-3.25, -0.5]]
    data = ("train", "small.yaml", "--data", "data.extxyz", "--output", "no")
    assert "no E0 of Fe" in refused(capsys, *data, "--atomic-energies", "isolated_atoms")
    assert "atomic_energies is 'guess'" in refused(capsys, *data, "--atomic-energies", "guess")
    assert "configuration of one atom without" in refused(capsys, *data, "--isolated-atoms", "data.extxyz")
    ase.io.write("iron.extxyz", atoms[:1], format="extxyz")
    assert "no E0 of Ni" in refused(capsys, *data, "--isolated-atoms", "iron.extxyz")


def test_tensorboard(folder, capsys, monkeypatch):
    pytest.importorskip("tensorboard")
    train("--tensorboard", "--epochs", "1")
    assert list((folder / "out/tensorboard").glob("events.*"))
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    command = ("train", "small.yaml", "--data", "data.extxyz", "--output", "no", "--tensorboard")
    assert "needs the package tensorboard" in refused(capsys, *command)
