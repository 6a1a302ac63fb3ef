"""The TensorBoard log shows what metrics.jsonl has."""

from __future__ import annotations

import sys

import pytest

from mmace.errors import UserError
from mmace.train import TrainingConfig, train
from mmace.train.tensorboard import scalars

from .conftest import small_config


def curves(folder) -> dict[str, list[tuple[int, float]]]:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = event_accumulator.EventAccumulator(str(folder))
    log.Reload()
    return {tag: [(e.step, e.value) for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def test_it_has_the_numbers_of_the_log_also_after_going_on(tmp_path, make_data):
    pytest.importorskip("tensorboard")
    data = make_data(4)
    for epochs in (2, 3):
        config = TrainingConfig(epochs=epochs, num_threads=1)
        result = train(small_config(), config, data, data, tmp_path, tensorboard=True)
    found = curves(tmp_path / "tensorboard")
    assert set(found) == set(scalars(result.history[0]))
    for tag, name in [("loss/validation", "valid_loss"), ("validation/forces_rmse", "forces_rmse")]:
        assert [step for step, _ in found[tag]] == [1, 2, 3]
        wanted = [event[name] for event in result.history]
        assert [value for _, value in found[tag]] == pytest.approx(wanted, rel=1e-6)


def test_without_the_package_it_says_so_before_anything_is_done(tmp_path, make_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    data = make_data(4)
    with pytest.raises(UserError, match=r"needs the package tensorboard.*metrics\.jsonl has the same numbers"):
        train(small_config(), TrainingConfig(epochs=1), data, data, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()
