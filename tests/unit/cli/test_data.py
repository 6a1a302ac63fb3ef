"""`mmace data` as a user types it, and training on the formats of other programs."""

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

from mmace.train import read_configurations
from mmace_flows.cli.app import run


def structures(count: int = 40) -> list[Atoms]:
    """Iron–nickel cells in three magnetic classes, two in a row with the same parent."""
    generator = np.random.default_rng(0)
    frames = []
    for index in range(count):
        atoms = Atoms("FeNi", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.8] * 3, pbc=True)
        atoms.positions += generator.normal(scale=0.05, size=(2, 3))
        moments = np.zeros((2, 3))
        moments[:, 2] = [[2.2, 0.6], [0, 0], [2.2, -2.1]][index % 4 % 3]
        atoms.arrays["REF_magmom"] = moments
        atoms.arrays["REF_forces"] = generator.normal(scale=0.3, size=(2, 3))
        atoms.info["REF_energy"] = -13.0 + generator.normal(scale=0.1)
        atoms.info["parent"] = f"p{index // 2}"
        frames.append(atoms)
    return frames


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with data.extxyz."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("data.extxyz", structures(), format="extxyz")
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    """The one line of a refused command."""
    assert run(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_check_and_stats(folder, capsys):
    assert run(["data", "check", "data.extxyz"]) == 0
    said = capsys.readouterr().out
    assert "40 configurations, 80 atoms (2 to 2 each)" in said
    assert "labels: energy all, forces all, stress none, magnetic_forces none" in said
    assert "magnetic classes: NM 10 (25.0 %), FM 20 (50.0 %), AFM 10 (25.0 %)" in said
    assert "further keys (for --group-by): parent" in said
    assert run(["data", "stats", "data.extxyz", "--bins", "5"]) == 0
    said = capsys.readouterr().out
    assert "|m| of Fe, μB" in said
    assert "█" in said
    assert run(["data", "stats", "data.extxyz", "--bins", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["histograms"]["|F| of Ni"]["unit"] == "eV/Å"
    assert sum(found["histograms"]["|m| of Fe"]["counts"]) == 40
    assert found["class_fractions"]["AFM"] == 0.25


def test_convert_back_and_forth(folder, capsys):
    assert run(["data", "convert", "data.extxyz", "-o", "data.cfg", "--elements", "Ni,Fe", "--head", "PBE"]) == 0
    assert "40 configurations written to data.cfg" in capsys.readouterr().err
    assert run(["data", "convert", "data.extxyz", "-o", "spin", "--to", "deepmd_spin"]) == 0
    assert run(["data", "convert", "data.cfg", "spin", "-o", "all.extxyz.gz"]) == 0
    back = read_configurations("all.extxyz.gz")
    assert [c.head for c in back] == ["PBE"] * 40 + [None] * 40
    for one, other in zip(read_configurations("data.extxyz") * 2, back, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.numbers, other.numbers)
        assert one.energy == other.energy
    assert back[0].info == {"parent": "p0"}
    capsys.readouterr()
    assert "is there already" in refused(capsys, "data", "convert", "data.extxyz", "-o", "data.cfg")
    assert run(["data", "convert", "data.extxyz", "-o", "data.extxyz", "--overwrite"]) == 0  # onto itself
    assert len(read_configurations("data.extxyz")) == 40


def test_split(folder, capsys):
    command = ["data", "split", "data.extxyz", "-o", "parts", "--valid", "0.2", "--test", "0.1", "--seed", "3"]
    assert run([*command, "--group-by", "parent"]) == 0
    assert "parts/valid.extxyz: 8 configurations" in capsys.readouterr().out
    parts = {name: ase.io.read(f"parts/{name}.extxyz", ":") for name in ("train", "valid", "test")}
    assert {name: len(frames) for name, frames in parts.items()} == {"train": 28, "valid": 8, "test": 4}
    parents = [{atoms.info["parent"] for atoms in frames} for frames in parts.values()]
    assert sum(map(len, parents)) == len(set.union(*parents)) == 20
    one = parts["valid"][0]
    assert (one.info["split"], one.info["split_seed"], one.info["split_group_by"]) == ("valid", 3, "parent")
    assert one.info["source"].startswith("data.extxyz: configuration ")
    assert "parts/train.extxyz: is there already" in refused(capsys, *command)
    assert run([*command, "--overwrite", "--json", "--part", "calibration=0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parts"]["calibration"] == {"file": "parts/calibration.extxyz", "count": 4}
    assert found["strata"]["NM Fe-Ni"]["valid"] == 2
    assert "add up to" in refused(capsys, "data", "split", "data.extxyz", "-o", "b", "--valid", "0.5", "--test", "0.6")
    line = refused(capsys, "data", "split", "data.extxyz", "-o", "b", "--group-by", "parnt")
    assert "data.extxyz: configuration 0 (line 1): no 'parnt' to group by; did you mean 'parent'?" in line


def test_wrong_options(folder, capsys):
    line = refused(capsys, "data", "check", "data.extxyz", "--key", "energie=E")
    assert "unknown field 'energie'; did you mean 'energy'?" in line
    assert "write it as FIELD=KEY" in refused(capsys, "data", "check", "data.extxyz", "--key", "energy")
    line = refused(capsys, "data", "check", "data.extxyz", "--format", "extxy")
    assert "unknown format 'extxy'; did you mean 'extxyz'?" in line
    assert "is only read" in refused(capsys, "data", "convert", "data.extxyz", "-o", "out.json")


def test_training_on_another_format_with_settings_and_a_short_check(folder, capsys):
    frames = structures(8)
    for atoms in frames:
        atoms.info["my_energy"] = atoms.info.pop("REF_energy")
    ase.io.write("mine.extxyz", frames, format="extxyz")
    assert run(["data", "convert", "mine.extxyz", "-o", "mine.cfg", "--key", "energy=my_energy"]) == 0
    text = (folder / "mine.cfg").read_text().replace(" Feature   elements\tFe,Ni\n", "")
    (folder / "mine.cfg").write_text(text)
    model = "model: {r_max: 3.5, hidden: 4x0e, l_pos: 1, correlation: 2, num_bessel: 4, num_chebyshev: 3}\n"
    settings = f"{model}training: {{epochs: 1, num_threads: 1}}\ndata: mine.cfg\nelements: [Fe, Ni]\n"
    (folder / "cfg.yaml").write_text(settings)
    capsys.readouterr()
    assert run(["train", "cfg.yaml", "--output", "one", "--no-plots"]) == 0
    said = capsys.readouterr().err
    assert "8 configurations, 16 atoms; FM 4, NM 2, AFM 2; labels: energy all, forces all, stress none" in said
    assert "Fe: 8 atoms, |m| 0 to 2.2 μB" in said
    keys = settings.replace("mine.cfg", "mine.extxyz") + "keys: {energy: my_energy}\nvalid: mine.cfg\n"
    (folder / "keys.yaml").write_text(keys)
    assert run(["train", "keys.yaml", "--output", "two", "--no-plots"]) == 0
    assert "8 configurations are there more than once" in capsys.readouterr().err  # the same in both parts
    (folder / "cfg.yaml").write_text(settings.replace("elements", "element"))
    assert "unknown setting 'element'; did you mean 'elements'?" in refused(capsys, "train", "cfg.yaml")


def test_a_kill_in_the_middle_leaves_no_file(folder):
    frames = structures() * 200
    ase.io.write("large.extxyz", frames, format="extxyz")
    command = [sys.executable, "-m", "mmace_flows.cli.app", "data", "convert", "large.extxyz", "-o", "out.cfg"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not list(folder.glob(".out.cfg.*")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    finally:
        process.kill()
    assert not (folder / "out.cfg").exists()
    assert run(["data", "convert", "data.extxyz", "-o", "out.cfg"]) == 0


def test_looking_at_data_does_not_wait_for_torch(folder):
    code = "import sys; from mmace_flows.cli.app import run; run(['data', 'check', 'data.extxyz']); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_page_on_data_runs_as_typed(folder):
    page = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (folder / "data.extxyz").rename(folder / "train.extxyz")
    subprocess.run([sys.executable, "-c", block], check=True, timeout=120)
    assert len(read_configurations("ferromagnets.cfg")) == 20
