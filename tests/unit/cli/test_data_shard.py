"""`mmace data shard`, and what `train` and `evaluate` do with it; what torchrun starts twice is said once."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mmace.errors import SaidElsewhere, UserError
from mmace_flows.cli import learning_processes
from mmace_flows.cli.app import run
from mmace_flows.cli.learning_processes import follows, said_once

SETTINGS = "model: {hidden: 4x0e, l_pos: 1, correlation: 1}\ntraining: {epochs: 1, num_threads: 1}\n"


def structures(count: int) -> list:
    """Rattled iron with moments, energies and forces."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        atoms = bulk("Fe", cubic=True)
        atoms.arrays.pop("initial_magmoms", None)
        atoms.positions += generator.normal(scale=0.05, size=(2, 3))
        atoms.arrays["REF_magmom"] = generator.normal(size=(2, 3))
        atoms.arrays["REF_forces"] = generator.normal(scale=0.1, size=(2, 3))
        atoms.info["REF_energy"] = -16.0 + generator.normal(scale=0.1)
        made.append(atoms)
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    ase.io.write(tmp_path / "data.extxyz", structures(6), format="extxyz")
    (tmp_path / "small.yaml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shards_are_made_and_trained_on(folder, capsys):
    command = ["data", "shard", "data.extxyz", "-o", "shards", "--r-max", "3.0", "--structures", "4"]
    assert run(command) == 0
    said = capsys.readouterr().err
    assert "shards: 6 structures of" in said
    assert "train with --data shards" in said
    assert run(command) == 0
    assert sorted(path.name for path in (folder / "shards").glob("*.h5")) == [
        "index.h5",
        "shard-000000.h5",
        "shard-000001.h5",
    ]
    train = ["train", "small.yaml", "--data", "shards", "--output", "out", "--edges-per-batch", "50", "--no-plots"]
    assert run([*train, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["errors"]["validation"]["all"]["count"] == 1
    settings = json.loads((folder / "out/settings.json").read_text())
    assert settings["potential"]["r_max"] == 3.0  # that of the neighbour lists
    assert settings["training"]["edges_per_batch"] == 50
    assert run(["evaluate", "out/model.safetensors", "shards", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"]["all"]["count"] == 6


def test_refusals_are_one_line(folder, capsys):
    assert run(["data", "shard", "data.extxyz", "-o", "shards", "--only", "Cr"]) == 2
    assert "is not known" in capsys.readouterr().err
    assert run(["data", "shard", "data.extxyz", "-o", "shards", "--r-max", "3.0", "--overwrite"]) == 0
    capsys.readouterr()
    assert run(["data", "shard", "data.extxyz", "-o", "shards", "--r-max", "4.0"]) == 2
    error = capsys.readouterr().err
    assert "holds shards of other r_max (3.0 there, 4.0 now)" in error
    (folder / "wide.yaml").write_text(SETTINGS.replace("model: {", "model: {r_max: 4.0, "))
    assert run(["train", "wide.yaml", "--data", "shards"]) == 2
    assert "neighbour lists are for r_max 3 Å, the model asks for 4 Å" in capsys.readouterr().err
    assert run(["train", "small.yaml", "--data", "data.extxyz", "--device", "gpu"]) == 2
    assert "device is 'gpu'; give one of auto, cpu, cuda" in capsys.readouterr().err


@pytest.mark.parametrize("error", [UserError, SaidElsewhere])
def test_of_several_processes_one_tells_of_a_refusal(folder, capsys, monkeypatch, error):
    import typer

    monkeypatch.setattr(learning_processes, "PATIENCE", 0.0)

    def refused() -> None:
        raise error("no such file")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert not follows()
    with pytest.raises(error):
        said_once(refused)()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert follows()
    with pytest.raises(typer.Exit) as ended:
        said_once(refused)()
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == ""
