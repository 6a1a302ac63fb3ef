"""A training that is killed, or finds the disk full, loses nothing and ends where an unbroken one ends."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from mmace import load, model_hash
from mmace.errors import UserError
from mmace.train import TrainingConfig, run, train
from mmace.train.state import load_state

from .conftest import small_config

EPOCHS = 5
SETTINGS = {
    "epochs": EPOCHS,
    "batch_size": 2,
    "checkpoint_every": 2,
    "rotate_jointly": True,
    "rotate_moments": True,
    "schedule": "plateau",
    "plateau_epochs": 1,
    "num_threads": 1,
}


def train_in_a_process_that_is_killed(arguments: tuple, folder: Path, deadly: int, **more) -> None:
    """Runs the training in a child process that sends itself SIGKILL at the start of its step number ``deadly``."""
    child = os.fork()
    if child == 0:
        signal.alarm(120)  # whatever happens, no process is left behind
        step, count = run.Run._step, 0

        def counted(self, batch, rate):
            nonlocal count
            count += 1
            if count == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, batch, rate)

        run.Run._step = counted
        try:
            train(*arguments, folder, **more)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("deadly", "settings", "left"),
    [
        (11, {}, 9),  # 3 steps per epoch, a state after epochs 2 and 4: killed in epoch 4, 6 steps done
        (8, {"checkpoint_seconds": 1e-9}, 8),  # a state after every step: killed within epoch 3, 7 steps done
    ],
)
def test_killed_and_started_again_it_gives_the_same_weights(tmp_path, make_data, monkeypatch, deadly, settings, left):
    data = make_data(9)
    arguments = (small_config(seed=2), TrainingConfig(**{**SETTINGS, **settings}), data[:6], data[6:])
    unbroken = train(*arguments, tmp_path / "unbroken")
    train_in_a_process_that_is_killed(arguments, tmp_path / "run", deadly)
    assert load_state(tmp_path / "run").finished is None
    (tmp_path / "run" / ".state.pt.torn").write_bytes(b"half a state")  # as a kill within a write leaves it
    steps = []
    whole_step = run.Run._step
    monkeypatch.setattr(run.Run, "_step", lambda *given: steps.append(1) or whole_step(*given))
    resumed = train(*arguments, tmp_path / "run")

    assert len(steps) == left
    assert resumed.continued
    assert model_hash(load(tmp_path / "run/model.safetensors")) == model_hash(unbroken.model)
    one, other = load_state(tmp_path / "run"), load_state(tmp_path / "unbroken")
    for name in ("model", "average"):
        assert all(torch.equal(one.tensors[name][key], value) for key, value in other.tensors[name].items())
    without_time = [
        [{key: value for key, value in event.items() if key != "seconds"} for event in state.history]
        for state in (one, other)
    ]
    assert without_time[0] == without_time[1]
    log = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [event["epoch"] for event in log] == list(range(1, EPOCHS + 1))
    assert not list((tmp_path / "run").glob(".state.pt.*"))


def test_more_epochs_go_on_from_the_end(tmp_path, make_data):
    data = make_data(6)
    settings = {**SETTINGS, "schedule": "constant"}
    train(small_config(), TrainingConfig(**{**settings, "epochs": 2}), data, data, tmp_path / "run")
    longer = train(small_config(), TrainingConfig(**{**settings, "epochs": 4}), data, data, tmp_path / "run")
    at_once = train(small_config(), TrainingConfig(**{**settings, "epochs": 4}), data, data, tmp_path / "other")
    assert longer.continued
    assert len(longer.history) == 4
    assert model_hash(longer.model) == model_hash(at_once.model)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_state_before_intact(tmp_path, make_data, monkeypatch, code):
    data = make_data(6)
    settings = {**SETTINGS, "checkpoint_every": 1}
    arguments = (small_config(), TrainingConfig(**settings), data, data)
    unbroken = train(*arguments, tmp_path / "unbroken")
    real = os.fsync

    def full(handle: int) -> None:
        if (tmp_path / "run" / "state.pt").exists():  # the second state does not fit any more
            raise OSError(code, os.strerror(code))
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"(state\.pt|model\.safetensors): cannot be written \(") as caught:
            train(*arguments, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert "free some space and start the same training again" in str(caught.value)
    assert load_state(tmp_path / "run").epoch == 1
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith((".state", ".model"))]
    resumed = train(*arguments, tmp_path / "run")
    assert resumed.continued
    assert model_hash(resumed.model) == model_hash(unbroken.model)


def test_a_log_that_cannot_grow_is_said(tmp_path, make_data, monkeypatch):
    from mmace.train import files

    real = open

    def full(path, mode="r", *more, **named):
        if mode == "a":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *more, **named)

    monkeypatch.setattr(files, "open", full, raising=False)
    data = make_data(4)
    with pytest.raises(
        UserError, match=r"metrics\.jsonl: cannot be written \(No space left.*; free some space and start the same"
    ):
        train(small_config(), TrainingConfig(**SETTINGS), data, data, tmp_path)


def test_a_damaged_state_is_refused(tmp_path, make_data):
    data = make_data(4)
    train(small_config(), TrainingConfig(**SETTINGS), data, data, tmp_path)
    state = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(state[: len(state) // 2])
    with pytest.raises(UserError, match=r"state\.pt: cannot be read"):
        train(small_config(), TrainingConfig(**SETTINGS), data, data, tmp_path)


def train_with_a_signal(arguments: tuple, folder: Path, number: int, at: int, monkeypatch) -> str:
    """Runs the training, with a signal to this process within its step number ``at``; what the interrupt says."""
    step, count = run.Run._step, 0

    def counted(self, batch, rate):
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), number)
        return step(self, batch, rate)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as caught:
        patched.setattr(run.Run, "_step", counted)
        train(*arguments, folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("at", "number", "message"),
    [
        (1, signal.SIGINT, "stopped after epoch 0 and 1 of 3 steps of the next; the same command goes on from there"),
        (3, signal.SIGTERM, "stopped after epoch 1; the same command goes on from there"),
        (10, signal.SIGINT, "stopped after epoch 3 and 1 of 3 steps of the next; the same command goes on from there"),
    ],
)
def test_an_interrupt_loses_nothing(tmp_path, make_data, monkeypatch, at, number, message):
    data = make_data(9)
    settings = {**SETTINGS, "checkpoint_every": 100}
    arguments = (small_config(seed=2), TrainingConfig(**settings), data[:6], data[6:])
    unbroken = train(*arguments, tmp_path / "unbroken")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        assert train_with_a_signal(arguments, tmp_path / "run", number, at, monkeypatch) == message
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler  # put back
    finally:
        signal.signal(signal.SIGTERM, before)
    state = load_state(tmp_path / "run")
    assert 3 * state.epoch + state.step == at
    assert (tmp_path / "run/model.safetensors").exists() == (at >= 3)
    resumed = train(*arguments, tmp_path / "run")
    assert resumed.continued
    assert model_hash(resumed.model) == model_hash(unbroken.model)


def test_an_interrupt_before_the_first_step_says_that_nothing_is_written(tmp_path, make_data, monkeypatch):
    def interrupted(*given):
        raise KeyboardInterrupt

    data = make_data(4)
    monkeypatch.setattr(run, "prepare", interrupted)
    with pytest.raises(KeyboardInterrupt, match="nothing written yet"):
        train(small_config(), TrainingConfig(**SETTINGS), data, data, tmp_path)


def test_a_signal_with_the_system_s_action_ends_the_process_after_the_state_is_written(tmp_path, make_data):
    data = make_data(6)
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        step = run.Run._step
        run.Run._step = lambda *given: (os.kill(os.getpid(), signal.SIGTERM), step(*given))[1]
        try:
            train(small_config(), TrainingConfig(**SETTINGS), data, data, tmp_path)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert load_state(tmp_path).step == 1


def test_the_state_after_the_first_epoch_is_written(tmp_path, make_data):
    data = make_data(6)
    arguments = (small_config(), TrainingConfig(**{**SETTINGS, "checkpoint_every": 100}), data, data)
    train_in_a_process_that_is_killed(arguments, tmp_path, 5)
    assert load_state(tmp_path).epoch == 1
    assert (tmp_path / "model.safetensors").exists()


def test_a_folder_without_state_and_model_is_taken_over(tmp_path, make_data):
    data, other = make_data(6), make_data(6, 3)
    other[0].energy = 1e200
    with pytest.raises(UserError, match="the loss is not finite in epoch 1"):
        train(small_config(), TrainingConfig(**SETTINGS), other, other, tmp_path)
    assert (tmp_path / "settings.json").exists()
    assert not train(small_config(), TrainingConfig(**SETTINGS), data, data, tmp_path).continued


def test_settings_of_something_else_are_not_replaced(tmp_path, make_data):
    (tmp_path / "settings.json").write_text('{"colour": "blue"}')
    data = make_data(4)
    with pytest.raises(UserError, match="--overwrite"):
        train(small_config(), TrainingConfig(**SETTINGS), data, data, tmp_path)
    assert (tmp_path / "settings.json").read_text() == '{"colour": "blue"}'
