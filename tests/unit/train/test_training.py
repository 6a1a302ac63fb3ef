"""Training: what a model starts from, that it learns, when it stops, what it refuses."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch

from mmace import Potential, load, model_hash
from mmace.checkpoint import load_with_metadata
from mmace.errors import UserError
from mmace.train import TrainingConfig, evaluate_configurations, train
from mmace.train.atomic_energies import fit_atomic_energies
from mmace.train.files import locked

from .conftest import isolated_atom, labelled, random_structures, small_config


def quick(**settings) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 2, "batch_size": 4, **settings})


def test_it_learns_every_label_of_the_teacher(tmp_path, make_data):
    data, events = make_data(16), []
    config = quick(epochs=60, schedule="cosine", learning_rate=0.03, weights={"stress": 100.0})
    result = train(small_config(seed=1), config, data, data, tmp_path / "run", progress=events.append)
    last = evaluate_configurations(result.model, data)["all"]
    for name in ("energy", "forces", "stress", "magnetic_forces"):
        assert last[f"{name}_rmse"] < 0.7 * events[0][f"{name}_rmse"], name
    assert [event["epoch"] for event in events] == list(range(1, 61))
    assert events == result.history == [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert result.best_epoch == min(events, key=lambda event: event["valid_loss"])["epoch"]
    assert last["energy_rmse"] == pytest.approx(events[result.best_epoch - 1]["energy_rmse"])
    assert model_hash(load(result.checkpoint)) == model_hash(result.model)
    metadata = load_with_metadata(result.checkpoint)[1]
    assert metadata["model_hash"] == model_hash(result.model)
    assert metadata["best_epoch"] == result.best_epoch


def test_magnetic_forces_are_learned_only_when_asked_for(tmp_path, make_data):
    data = make_data(8)
    hashes = {
        model_hash(train(small_config(), quick(weights=weights), data, data, tmp_path / str(index)).model)
        for index, weights in enumerate([{}, {"magnetic_forces": 0.0}])
    }
    assert len(hashes) == 2


def test_a_new_model_starts_from_its_data(tmp_path, teacher):
    data = random_structures(6)
    data[0].magmoms[0] = [0, 0, 2.5]
    for configuration in data:
        configuration.energy = -8.25 - 5.5
    data += [isolated_atom(energy=-8.25)]
    result = train(small_config(m_max={"Ni": 3.0}), quick(), data, [], tmp_path)
    model = result.model
    assert model.config.m_max == {"Fe": pytest.approx(1.2 * 2.5 + 0.1, abs=0.01), "Ni": 3.0}
    torch.testing.assert_close(model.atomic_energies[0], torch.tensor([-8.25, -5.5], dtype=torch.float64))


def test_atomic_energies_of_a_fixed_composition_are_the_smallest_that_fit(make_data):
    data = random_structures(3)
    for configuration in data:
        configuration.energy = -13.0
    assert fit_atomic_energies(data) == pytest.approx({"Fe": -6.5, "Ni": -6.5})
    assert fit_atomic_energies(random_structures(2)) == {}


def test_forces_of_a_new_model_are_as_large_as_the_labels(tmp_path, make_data):
    from mmace.train.batches import prepare
    from mmace.train.initialise import initialise

    data = make_data(20)
    for configuration in data:
        configuration.forces = configuration.forces * 1e-3
    model = Potential(small_config(seed=4))
    singles = prepare(data, ["Fe", "Ni"], 3.5, torch.float64)
    initialise(model, data, singles, TrainingConfig())
    forces = [model(single.graph)["forces"] for single in singles]
    ratios = [np.linalg.norm(f) / np.linalg.norm(c.forces) for f, c in zip(forces, data, strict=True)]
    assert np.median(ratios) == pytest.approx(1.0, rel=1e-2)  # an even number of ratios
    initialise(model, data, singles, TrainingConfig(energy_scale=0.7))
    assert float(model.energy_scale) == pytest.approx(0.7)


def test_fine_tuning_keeps_what_the_model_knows(tmp_path, teacher, make_data):
    before = model_hash(teacher)
    data = make_data(8)
    for configuration in data:
        configuration.energy += 2.0
    result = train(None, quick(learning_rate=1e-4), data, [], tmp_path / "keep", initial_model=teacher)
    assert torch.equal(result.model.atomic_energies, teacher.atomic_energies)
    assert torch.equal(result.model.energy_scale, teacher.energy_scale)
    assert model_hash(teacher) == before != model_hash(result.model)
    moved = max(
        float((one - other).detach().abs().max())
        for one, other in zip(teacher.parameters(), result.model.parameters(), strict=True)
    )
    assert 0 < moved < 2e-3
    refit = quick(learning_rate=1e-4, atomic_energies="least_squares")
    result = train(None, refit, data, [], tmp_path / "refit", initial_model=teacher)
    assert not torch.equal(result.model.atomic_energies, teacher.atomic_energies)


def test_fine_tuning_warns_of_moments_beyond_the_range(tmp_path, teacher, make_data, caplog):
    data = make_data(4)
    data[2].magmoms[1] = [0, 0, 4.4]
    with caplog.at_level(logging.WARNING, logger="mmace"):
        train(None, quick(epochs=1), data, data, tmp_path, initial_model=teacher)
    assert any("moments of Ni reach 4.40 μB" in record.getMessage() for record in caplog.records)


def test_missing_labels_and_atoms_without_cell_train_together(tmp_path, make_data):
    data = [*make_data(6), isolated_atom(), isolated_atom(energy=None)]
    data[0].forces = data[1].stress = data[2].magnetic_forces = data[3].energy = None
    result = train(small_config(dtype="float32"), quick(), data, data, tmp_path)
    assert all(np.isfinite(event["loss"]) and np.isfinite(event["valid_loss"]) for event in result.history)
    assert next(result.model.parameters()).dtype == torch.float32


def test_it_stops_when_nothing_improves(tmp_path, make_data):
    data = make_data(4)
    config = quick(epochs=50, patience=3, learning_rate=1e-12, ema_decay=None, schedule="constant")
    for configuration in data:  # E, F, … of the model itself cannot become better
        configuration.energy = configuration.forces = configuration.stress = configuration.magnetic_forces = None
    model = Potential(small_config())
    labelled(model, data)
    result = train(None, config, data, [], tmp_path, initial_model=model)
    assert result.reason == "no better validation loss for 3 epochs"
    assert len(result.history) == result.best_epoch + 3


def test_it_stops_when_the_time_is_over_and_goes_on_with_more(tmp_path, make_data):
    data = make_data(8)
    result = train(small_config(), quick(epochs=10_000, max_seconds=0.5), data, [], tmp_path)
    assert result.reason == "0 s are over"
    assert 1 <= len(result.history) < 10_000
    again = train(small_config(), quick(epochs=10_000, max_seconds=0.5), data, [], tmp_path)
    assert again.was_finished
    assert model_hash(again.model) == model_hash(result.model)
    more = train(small_config(), quick(epochs=10_000, max_seconds=result.seconds + 0.5), data, [], tmp_path)
    assert not more.was_finished
    assert len(more.history) > len(result.history)


def test_another_run_in_the_folder_is_refused(tmp_path, make_data):
    data, other = make_data(4), make_data(4, 9)
    arguments = (small_config(), quick(), data, data)
    first = train(*arguments, tmp_path)
    again = train(*arguments, tmp_path)
    assert again.was_finished
    assert not first.was_finished
    faster = quick(learning_rate=0.1)
    for changed, message in [
        ((small_config(), faster, data, data), r"training setting learning_rate \(0.005 there, 0.1 now\)"),
        ((small_config(r_max=3.0), quick(), data, data), r"potential setting r_max \(3.5 there, 3.0 now\)"),
        ((small_config(), quick(), data, other), "other validation data"),
    ]:
        with pytest.raises(UserError, match=message):
            train(*changed, tmp_path)
    with pytest.raises(UserError, match="other initial model"):
        train(None, quick(), data, data, tmp_path, initial_model=Potential(first.model.config))
    assert model_hash(load(first.checkpoint)) == model_hash(first.model)
    replaced = train(small_config(), quick(), other, other, tmp_path, overwrite=True)
    assert model_hash(load(first.checkpoint)) == model_hash(replaced.model) != model_hash(first.model)


def test_a_checkpoint_of_unknown_origin_is_not_replaced(tmp_path, make_data):
    (tmp_path / "model.safetensors").write_text("precious")
    with pytest.raises(UserError, match=r"holds model\.safetensors of an unknown run"):
        train(small_config(), quick(), make_data(4), [], tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "precious"


def test_a_folder_in_use_is_refused(tmp_path, make_data):
    with locked(tmp_path), pytest.raises(UserError, match="another process is training here"):
        train(small_config(), quick(), make_data(4), [], tmp_path)


def test_what_cannot_be_trained_is_refused(tmp_path, teacher, make_data):
    data = make_data(4)
    with pytest.raises(UserError, match="element Ni is not known"):
        train(small_config(elements=["Fe"]), quick(), data, [], tmp_path)
    with pytest.raises(UserError, match="no configuration has an energy"):
        train(small_config(), quick(), random_structures(3), data, tmp_path)
    with pytest.raises(UserError, match=r"r_max = 3\.5, the settings ask for 4\.0"):
        train(small_config(r_max=4.0), quick(), data, [], tmp_path, initial_model=teacher)
    with pytest.raises(UserError, match="neither a potential's settings nor a model"):
        train(None, quick(), data, [], tmp_path)
    data[0].energy = 1e200
    with pytest.raises(UserError, match="the loss is not finite in epoch 1; lower learning_rate"):
        train(None, quick(), data, [], tmp_path / "loss", initial_model=teacher)


def test_float32_is_warned_of_when_it_cannot_hold_the_energies(tmp_path, make_data, caplog):
    data = make_data(4)
    for configuration in data:
        configuration.energy -= 70_000
    with caplog.at_level(logging.WARNING, logger="mmace"):
        train(small_config(dtype="float32"), quick(epochs=1), data, data, tmp_path)
    assert any("use dtype float64" in record.getMessage() for record in caplog.records)


def test_validation_every_few_epochs(tmp_path, make_data):
    data = make_data(4)
    result = train(small_config(), quick(epochs=7, validate_every=3), data, data, tmp_path)
    assert [event["epoch"] for event in result.history] == [3, 6, 7]
    every = train(small_config(), quick(epochs=7), data, data, tmp_path / "every")
    assert result.history[1]["valid_loss"] == every.history[5]["valid_loss"]
    assert result.history[1]["loss"] == every.history[5]["loss"]
