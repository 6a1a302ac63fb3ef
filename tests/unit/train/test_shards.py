"""Shards on disk: the same structures, graphs and trainings as from memory, made safely, refused clearly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mmace import build_graph, model_hash
from mmace.data.extxyz import to_text
from mmace.errors import UserError
from mmace.train import TrainingConfig, evaluate_configurations, read_configurations, shard_writer, train
from mmace.train.atomic_energies import EnergyFit, fit_atomic_energies, isolated_atom_energies
from mmace.train.batches import joined, prepare
from mmace.train.gathered import Joined, elements_of, has_energies, is_collinear, largest_energy, largest_moments
from mmace.train.heads import by_head, heads_of_data
from mmace.train.shard_writer import write_shards
from mmace.train.shards import is_shard_folder, open_shards

from .conftest import isolated_atom, small_config

R_MAX = 3.5
FIELDS = ("numbers", "positions", "cell", "pbc", "magmoms", "energy", "forces", "stress", "magnetic_forces")


@pytest.fixture
def data(make_data):
    """Structures with all labels, with some missing, with weights, heads, and an atom without cell and neighbours."""
    made = [*make_data(9), isolated_atom(), isolated_atom(energy=None)]
    made[1].stress = made[2].magnetic_forces = made[3].forces = made[4].energy = None
    made[5].weight, made[6].head, made[8].head = 2.5, "other", "other"
    return made


@pytest.fixture
def data_file(tmp_path, data) -> Path:
    path = tmp_path / "data.extxyz"
    path.write_text("".join(to_text(configuration) for configuration in data))
    return path


@pytest.fixture
def shards(tmp_path, data):
    return write_shards(data, tmp_path / "shards", r_max=R_MAX, processes=1, structures_per_shard=4)


def test_configurations_and_graphs_are_those_of_the_data(data, shards):
    assert len(shards) == len(data)
    for index, (configuration, there) in enumerate(zip(data, shards, strict=True)):
        for field in FIELDS:
            value, other = getattr(configuration, field), getattr(there, field)
            assert (value is None) == (other is None), field
            if value is not None:
                np.testing.assert_array_equal(value, other)
        assert (there.weight, there.head, there.name) == (configuration.weight, configuration.head, configuration.name)
        for dtype in (torch.float64, torch.float32):
            heads = ("default", "other")
            graph = shards.with_graph([index], ["Ni", "Fe"], dtype, heads)[1]
            head = heads.index(configuration.head or "default")
            expected = build_graph(configuration.to_atoms(), ["Ni", "Fe"], R_MAX, dtype=dtype, head=head)
            for name, tensor in expected.__dict__.items():
                same = torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(getattr(graph, name)))
                assert same and tensor.dtype == getattr(graph, name).dtype, name


def test_what_a_training_asks_of_its_data_comes_from_the_index(data, shards):
    energies = [c.energy for c in data if c.energy is not None]
    assert largest_moments(shards) == largest_moments(data)
    assert elements_of(Joined(shards, data)) == ["Fe", "Ni"] == shards.elements
    assert has_energies(shards)
    assert not has_energies(shards.subset([4, 10]))
    assert largest_energy(shards) == max(abs(c.energy) / len(c) for c in data if c.energy is not None)
    assert not is_collinear(shards)
    assert is_collinear(shards.subset([9, 10]))
    assert heads_of_data(shards) == heads_of_data(data) == ("default", "other")
    parts = by_head(shards, ("default", "other"))
    assert [c.name for c in parts["other"]] == [data[6].name, data[8].name]
    assert len(parts["default"]) == len(data) - 2
    with pytest.raises(UserError, match="random:6: head: unknown"):
        by_head(shards, ("default",))
    assert fit_atomic_energies(shards) == fit_atomic_energies(data)
    assert isolated_atom_energies(shards, R_MAX) == isolated_atom_energies(data, R_MAX) == {"Fe": -3.0}
    assert shards.branches["non-collinear"] == 9
    assert int(np.isfinite(shards.energies).sum()) == len(energies)


def test_a_part_knows_its_own_statistics(data, shards):
    chosen = [7, 0, 9]
    part = shards.subset(chosen)
    assert [c.name for c in part] == [data[index].name for index in chosen]
    assert part.largest_moments == largest_moments([data[index] for index in chosen])
    assert part.content_hash != shards.content_hash != shards.subset([0, 7, 9]).content_hash != part.content_hash
    assert [c.name for c in shards[2:8:3]] == [data[2].name, data[5].name]
    expected = fit_atomic_energies([data[index] for index in chosen])
    assert fit_atomic_energies(part) == pytest.approx(expected)
    assert by_head(part, ("default",))["default"][0].name == data[7].name


def test_least_squares_of_many_equations_are_kept_as_a_triangle(monkeypatch):
    generator = np.random.default_rng(1)
    counts = np.zeros((300, 119))
    counts[:, [26, 28]] = generator.integers(0, 5, size=(300, 2)) + np.array([1, 0])
    energies = counts @ np.where(np.arange(119) == 26, -8.0, -5.0) + generator.normal(size=300)
    whole, folded = EnergyFit(), EnergyFit()
    monkeypatch.setattr(folded, "KEPT", 130)
    for row, energy in zip(counts, energies, strict=True):
        whole.add(row, energy)
        folded.add(row, energy)
    assert len(folded.rows) < 300
    assert folded.result() == pytest.approx(whole.result(), rel=1e-10)
    assert EnergyFit().result() == {}


def test_batches_and_training_are_those_of_the_data_in_memory(tmp_path, data):
    data = [c for c in data if c.head is None]
    shards = write_shards(data, tmp_path / "shards", r_max=R_MAX, processes=1, structures_per_shard=2)
    singles = [prepare(part, ["Fe", "Ni"], R_MAX, torch.float64) for part in (data, shards)]
    for chosen in ([5, 8, 1], [8], [2]):
        one, other = (joined(part, chosen) for part in singles)
        for name, label in one.labels.items():
            assert torch.equal(label, other.labels[name])
            assert torch.equal(one.weights[name], other.weights[name])
        assert one.present == other.present
        for name, tensor in one.graph.__dict__.items():
            assert torch.equal(tensor, getattr(other.graph, name)), name
    config = TrainingConfig(epochs=2, edges_per_batch=80, rotate_moments=True, rotate_jointly=True)
    results = [
        train(small_config(), config, part[:6], part[6:], tmp_path / name)
        for name, part in (("memory", data), ("disk", shards))
    ]
    assert model_hash(results[0].model) == model_hash(results[1].model)
    errors = [evaluate_configurations(results[0].model, part) for part in (data, shards)]
    assert errors[0] == errors[1]
    again = train(small_config(), config, shards[:6], shards[6:], tmp_path / "disk")
    assert again.was_finished
    with pytest.raises(UserError, match="other training data"):
        train(small_config(), config, shards[1:6], shards[6:], tmp_path / "disk")


def test_only_the_structures_of_a_batch_are_read(tmp_path, make_data, monkeypatch):
    from mmace.train.shard_file import ShardFile

    shards = write_shards(make_data(12), tmp_path / "shards", r_max=R_MAX, processes=1, structures_per_shard=3)
    read: list[int] = []
    real = ShardFile.record
    monkeypatch.setattr(ShardFile, "record", lambda self, row: read.append(row) or real(self, row))
    singles = prepare(shards, ["Fe", "Ni"], R_MAX, torch.float64)
    assert read == []
    joined(singles, [4, 11])
    assert read == [1, 2]


@pytest.mark.parametrize("processes", [1, 2])
def test_files_are_divided_among_processes(tmp_path, data_file, processes):
    events = []
    made = write_shards(
        [data_file, data_file], tmp_path / "shards", None, R_MAX, processes, events.append, structures_per_shard=4
    )
    expected = [*read_configurations(data_file)] * 2
    assert [c.name for c in made] == [c.name for c in expected]
    assert sorted(event["shards"] for event in events) == [1, 2, 3, 4, 5, 6]
    assert events[-1]["structures"] == 22
    assert events[-1]["done"] == pytest.approx(1.0)
    assert events[-1]["left"] == pytest.approx(0.0, abs=1e-9)
    plan = json.loads((tmp_path / "shards/plan.json").read_text())
    assert plan["r_max"] == R_MAX


def test_killed_and_started_again_it_makes_what_is_missing(tmp_path, data_file, monkeypatch):
    whole = write_shards([data_file], tmp_path / "whole", r_max=R_MAX, processes=1, structures_per_shard=2)
    folder = tmp_path / "shards"
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        made = shard_writer.write_shard
        count = 0

        def deadly(*arguments):
            nonlocal count
            count += 1
            if count == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return made(*arguments)

        shard_writer.write_shard = deadly
        try:
            write_shards([data_file], folder, r_max=R_MAX, processes=1, structures_per_shard=2)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert is_shard_folder(folder)
    with pytest.raises(UserError, match="the shards are not complete; run the same `mmace data shard` command again"):
        open_shards(folder)
    (folder / ".shard-000003.h5.torn").write_bytes(b"half a shard")
    damaged = folder / "shard-000001.h5"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.h5")}
    assert sorted(before) == ["shard-000000.h5", "shard-000001.h5", "shard-000002.h5"]
    time.sleep(0.02)
    resumed = write_shards([data_file], folder, r_max=R_MAX, processes=1, structures_per_shard=2)
    kept = [name for name, when in before.items() if (folder / name).stat().st_mtime_ns == when]
    assert sorted(kept) == ["shard-000000.h5", "shard-000002.h5"]
    assert resumed.content_hash == whole.content_hash
    assert not list(folder.glob(".shard*"))


def test_other_data_and_settings_are_noticed(tmp_path, data_file, monkeypatch):
    folder = tmp_path / "shards"
    first = write_shards([data_file], folder, r_max=R_MAX, processes=1)
    monkeypatch.setattr(shard_writer, "make_shard", None)  # nothing is made anew
    assert write_shards([data_file], folder, r_max=R_MAX, processes=1).content_hash == first.content_hash
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"holds shards of other r_max \(3\.5 there, 4\.0 now\); choose another"):
        write_shards([data_file], folder, r_max=4.0, processes=1)
    data_file.write_text(data_file.read_text().replace("REF_energy=-3", "REF_energy=-4", 1))
    with pytest.raises(UserError, match="holds shards of other sources; choose another folder"):
        write_shards([data_file], folder, r_max=R_MAX, processes=1)
    assert open_shards(folder).content_hash == first.content_hash
    replaced = write_shards([data_file], folder, r_max=R_MAX, processes=1, overwrite=True)
    assert replaced.content_hash != first.content_hash


def test_configurations_given_in_python_are_taken_up_too(tmp_path, make_data):
    data, folder = make_data(6), tmp_path / "shards"
    write_shards(data, folder, r_max=R_MAX, processes=1, structures_per_shard=2)
    when = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.h5")}
    data[3].energy = 1.0
    time.sleep(0.02)
    made = write_shards(data[:4], folder, r_max=R_MAX, processes=1, structures_per_shard=2)
    assert [path.name for path, before in when.items() if path.exists() and path.stat().st_mtime_ns == before] == [
        "shard-000000.h5"
    ]
    assert len(made) == 4
    assert made[3].energy == 1.0


def test_damaged_and_foreign_shards_are_refused_in_one_line(tmp_path, make_data):
    data, folder = make_data(4), tmp_path / "shards"
    write_shards(data, folder, r_max=R_MAX, processes=1, structures_per_shard=2)
    data[3].energy = 1.0  # another shard of the same size
    write_shards(data, tmp_path / "other", r_max=R_MAX, processes=1, structures_per_shard=2)
    shard = folder / "shard-000001.h5"
    content = shard.read_bytes()

    def refusal(**ways) -> str:
        with pytest.raises(UserError) as caught:
            there = open_shards(folder)
            there.with_graph([3], **{"elements": ["Fe", "Ni"], "dtype": torch.float64, **ways})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    shard.write_bytes(content[:-1000])
    assert f"{shard}: truncated or replaced; run the same" in refusal()
    shard.unlink()
    assert f"{shard}: missing" in refusal()
    shutil.copy(tmp_path / "other/shard-000001.h5", shard)
    assert "not the shard that the index of its folder tells of" in refusal()
    shard.write_bytes(b"\0" * len(content))
    assert "truncated or damaged" in refusal()
    shard.write_bytes(content)
    assert "element Ni is not known to the model" in refusal(elements=["Fe"])
    (folder / "index.h5").write_bytes(b"no HDF5")
    assert "index.h5: truncated or damaged" in refusal()
    shutil.copy(shard, folder / "index.h5")
    assert "not written by `mmace data shard`" in refusal()
    with pytest.raises(UserError, match="no such folder"):
        open_shards(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no index\.h5, so no folder of shards"):
        open_shards(tmp_path)


def test_what_cannot_be_sharded_is_refused(tmp_path, data_file, make_data):
    for arguments, message in [
        (([tmp_path / "nothing.extxyz"], tmp_path / "a"), "no such file"),
        (([], tmp_path / "a"), "no data; give at least one file"),
        ((make_data(1), tmp_path / "b", ["Fe"]), "element Ni is not known"),
        ((make_data(1), tmp_path / "b", None, -1.0), "r_max must be positive"),
    ]:
        with pytest.raises(UserError, match=message):
            write_shards(*arguments, processes=1)
    broken = tmp_path / "broken.extxyz"
    broken.write_text(data_file.read_text().replace("pos:R:3", "place:R:3", 1))
    with pytest.raises(UserError, match=r"broken\.extxyz: configuration 0 \(line 1\)"):
        write_shards([broken], tmp_path / "c", processes=2)
    with pytest.raises(UserError, match=r"neighbour lists are for r_max 3\.5 Å, the model asks for 4 Å"):
        made = write_shards(make_data(2), tmp_path / "d", r_max=R_MAX, processes=1)
        train(small_config(r_max=4.0), TrainingConfig(), made, [], tmp_path / "run")


def test_energies_of_directions_are_not_dropped_in_silence(data, tmp_path):
    data[2].directions, data[2].anisotropy = np.eye(3), np.zeros(3)
    with pytest.raises(UserError, match=r"shards do not keep energies of directions; train on the configurations"):
        write_shards(data, tmp_path / "shards", r_max=R_MAX, processes=1)
    assert not list((tmp_path / "shards").glob("*.h5"))
