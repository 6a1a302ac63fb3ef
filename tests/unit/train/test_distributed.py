"""Two processes train as one does: the same steps to rounding, one writer, one end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmace import PotentialConfig
from mmace.errors import UserError
from mmace.train import TrainingConfig, read_configurations, train
from mmace.train.batches import prepare, sizes_of, training_batches
from mmace.train.distributed import Processes, join_processes
from mmace.train.sampling import epoch_batches, shares
from mmace.train.state import load_state

from .conftest import SMALL, isolated_atom

WORKER = Path(__file__).with_name("distributed_worker.py")
POTENTIAL = {"elements": ["Fe", "Ni"], "radial_hidden": (16,), "seed": 2, **SMALL}
CONFIG = {
    "epochs": 3,
    "batch_size": 3,  # shares of 2 and 1 structures
    "rotate_jointly": True,
    "rotate_moments": True,
    "checkpoint_every": 100,
    "plateau_epochs": 1,
    "num_threads": 1,
    "device": "cpu",
}


@pytest.fixture
def data_file(tmp_path, make_data) -> Path:
    """Structures of unequal sizes with all labels, some missing."""
    from mmace.data.extxyz import to_text

    data = make_data(9)
    data[1].stress = data[2].magnetic_forces = data[4].forces = None
    data.insert(3, isolated_atom())
    path = tmp_path / "data.extxyz"
    path.write_text("".join(to_text(configuration) for configuration in data))
    return path


def run_processes(folder: Path, task: dict, count: int = 2) -> list[dict]:
    """What each of ``count`` processes came to."""
    file = folder / f"task-{len(list(folder.glob('task-*')))}.json"
    file.write_text(json.dumps(task))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fixed = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(file)],
            env={**os.environ, **fixed, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = [process.communicate(timeout=180)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * count, "\n".join(said)
    return [json.loads(Path(f"{file}.{rank}").read_text()) for rank in range(count)]


def compared(one: Path, other: Path) -> None:
    """The weights of two runs agree to rounding."""
    states = [load_state(folder) for folder in (one, other)]
    for name in ("model", "average"):
        for key, value in states[0].tensors[name].items():
            torch.testing.assert_close(states[1].tensors[name][key], value, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_and_stop_and_go_on_together(tmp_path, data_file):
    task = {"data": str(data_file), "training": 7, "potential": POTENTIAL, "config": CONFIG}
    data = read_configurations(data_file)
    alone = train(PotentialConfig(**POTENTIAL), TrainingConfig(**CONFIG), data[:7], data[7:], tmp_path / "alone")

    outcomes = run_processes(tmp_path, {**task, "folder": str(tmp_path / "two")})
    assert outcomes[0]["hash"] == outcomes[1]["hash"]  # bit by bit
    assert [outcome["events"] for outcome in outcomes] == [3, 0]  # one process reports
    for event, own in zip(outcomes[0]["history"], alone.history, strict=True):
        for key in ("loss", "valid_loss", "energy_rmse", "forces_mae", "stress_rmse", "learning_rate"):
            assert event[key] == pytest.approx(own[key], rel=1e-7), key
    compared(tmp_path / "alone", tmp_path / "two")
    assert len((tmp_path / "two/metrics.jsonl").read_text().splitlines()) == 3

    # SIGTERM to the second process in step 5: both stop after it, the state is written, and both go on
    stopped = run_processes(tmp_path, {**task, "folder": str(tmp_path / "broken"), "signal_at": 5, "signal_rank": 1})
    message = "stopped after epoch 1 and 2 of 3 steps of the next; the same command goes on from there"
    assert [outcome["stopped"] for outcome in stopped] == [message] * 2
    assert (load_state(tmp_path / "broken").epoch, load_state(tmp_path / "broken").step) == (1, 2)
    resumed = run_processes(tmp_path, {**task, "folder": str(tmp_path / "broken")})
    assert {outcome["hash"] for outcome in resumed} == {outcomes[0]["hash"]}

    # what one refuses is said once
    wrong = {**task, "folder": str(tmp_path / "two"), "config": {**CONFIG, "learning_rate": 0.1}}
    kinds = [outcome["kind"] for outcome in run_processes(tmp_path, wrong)]
    assert kinds == ["UserError", "SaidElsewhere"]


@pytest.mark.parametrize("settings", [{"batch_size": 3}, {"edges_per_batch": 60}, {"batch_size": 1}])
def test_shares_together_are_the_batch(make_data, settings):
    data = [*make_data(6), isolated_atom()]
    singles = prepare(data, ["Fe", "Ni"], 3.5, torch.float64)
    config = TrainingConfig(rotate_jointly=True, rotate_moments=True, **settings)
    whole = list(training_batches(singles, config, 4))
    parts = [list(training_batches(singles, config, 4, rank=rank, processes=2)) for rank in range(2)]
    for batch, *own in zip(whole, *parts, strict=True):
        assert {share.counts for share in own} == {batch.counts}
        working = [share for share in own if any(bool(w.any()) for w in share.weights.values())]
        together = np.concatenate([share.graph.positions.numpy() for share in working])
        expected = batch.graph.positions.numpy()
        assert sorted(map(tuple, together.round(9))) == sorted(map(tuple, expected.round(9)))
        assert len(working) == min(2, batch.num_structures)


def test_shares_weigh_about_the_same(make_data):
    sizes = sizes_of(prepare([*make_data(8), isolated_atom()], ["Fe", "Ni"], 3.5, torch.float64))
    (indices,) = epoch_batches(sizes, TrainingConfig(batch_size=9), 0)
    parts = shares(sizes, indices, 3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(9))
    costs = [int((sizes.atoms * sizes.densest)[indices[part]].sum()) for part in parts]
    assert max(costs) <= 1.5 * min(costs)


def test_one_process_needs_no_launcher(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    processes = join_processes("cpu")
    assert (processes.rank, processes.count, processes.leads) == (0, 1, True)
    assert processes.any(True) and not processes.any(False)
    assert processes.share_bytes(b"state") == b"state"
    with pytest.raises(UserError, match="nobody"), processes.together():
        raise UserError("nobody else")


def test_cuda_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device is cuda, but torch sees no GPU"):
        join_processes("cuda")
    assert join_processes("auto").device.type == "cpu"


def test_a_parameter_without_gradient_stays_without_one():
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    loss = (used**2).sum()
    loss.backward()
    assert Processes(0, 1, torch.device("cpu")).sum_gradients([used, unused], loss) == 2.0
    assert unused.grad is None
