"""Which weights are trained: all, the last ones, or changes of low rank; what is left is plain weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmace import Potential, load, model_hash
from mmace.coupling import SYMMETRIES
from mmace.train import Configuration, TrainingConfig, train
from mmace.train.batches import join, prepare
from mmace.train.loss import batch_loss
from mmace.train.trainable import Trainable, select

from .conftest import small_config
from .test_resume import train_in_a_process_that_is_killed


def other_forces(configurations: list[Configuration]) -> list[Configuration]:
    """Other forces than the teacher's own, from which there would be nothing to learn."""
    return [replace(one, forces=1.2 * one.forces) for one in configurations]


def changes(before: Potential, after: Potential) -> dict[str, torch.Tensor]:
    pairs = zip(before.named_parameters(), after.parameters(), strict=True)
    return {name: (two - one).detach() for (name, one), two in pairs if not torch.equal(one, two)}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_every_symmetry_has_the_weights_that_are_selected(symmetry, layers):
    model = Potential(small_config(symmetry=symmetry, num_layers=layers, hidden="6x0e+6x1o"))
    everything = dict(model.named_parameters())
    assert set(select(model, "all", 2).whole) == set(everything)
    last = select(model, "last", 2)
    assert last.factored == ()
    assert {name.split(".")[0] for name in last.whole} == {"layers", "readouts"}
    assert [name for name in last.whole if name.startswith("layers")] == [f"layers.{layers - 1}.product.weights"]
    low = select(model, "low-rank", 2)
    for t in range(layers):
        wanted = [f"layers.{t}.product.mix", f"layers.{t}.mix.0", f"layers.{t}.product.weights"]
        wanted += [f"layers.{t}.message.{name}" for name in (("position",) if t else ("radial.first", "weights"))]
        if symmetry != "none":
            wanted += [f"layers.{t}.own.radial.weights.0", f"layers.{t}.mix_own.0"]
            wanted += [f"layers.{t}.message.moment"] if t else []
        assert set(wanted) <= set(low.factored)
    untouched = set(everything) - set(low.whole) - set(low.factored)
    assert untouched == {"embedding"}
    assert {name for name in low.whole if name.startswith("layers")} == {
        name for name, value in everything.items() if name.startswith("layers") and min(value.shape[-2:]) <= 2
    }


def test_gradients_of_factors_are_those_of_autograd(teacher, make_data):
    batch = join(prepare(make_data(3), ["Fe", "Ni"], 3.5, torch.float64))
    model = Potential(small_config(seed=5))
    trainable = Trainable(model, "low-rank", rank=2, seed=1)
    with torch.no_grad():
        for _, other in trainable.factors.values():
            other.normal_()
    trainable.push_weights()
    batch_loss(model, batch, TrainingConfig()).backward()
    trainable.pull_gradients()
    by_hand = [factor.grad for pair in trainable.factors.values() for factor in pair]

    factors = {name: tuple(f.detach().requires_grad_() for f in pair) for name, pair in trainable.factors.items()}
    weights = {name: trainable.start[name] + a @ b / np.sqrt(2) for name, (a, b) in factors.items()}
    call = lambda *args, **kw: torch.func.functional_call(model, weights, args, kw)  # noqa: E731
    batch_loss(call, batch, TrainingConfig()).backward()
    automatic = [factor.grad for pair in factors.values() for factor in pair]
    assert max(float(one.abs().max()) for one in automatic) > 0
    for one, other in zip(by_hand, automatic, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_last_moves_nothing_else(tmp_path, teacher, make_data):
    config = TrainingConfig(epochs=2, batch_size=3, trainable="last", learning_rate=0.01)
    result = train(None, config, other_forces(make_data(6, 1)), [], tmp_path, initial_model=teacher)
    moved = changes(teacher, result.model)
    assert set(moved) == set(select(teacher, "last", 4).whole)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_low_rank_leaves_plain_weights_whose_change_has_that_rank(tmp_path, teacher, make_data, ema_decay):
    data = other_forces(make_data(6, 1))
    config = TrainingConfig(
        epochs=4, batch_size=3, trainable="low-rank", rank=1, learning_rate=0.01, ema_decay=ema_decay
    )
    result = train(None, config, data, [], tmp_path, initial_model=teacher)
    chosen, moved = select(teacher, "low-rank", 1), changes(teacher, load(result.checkpoint))
    assert set(chosen.factored) <= set(moved)
    assert "embedding" not in moved
    for name in chosen.factored:
        values = torch.linalg.svdvals(moved[name]).reshape(-1, min(moved[name].shape[-2:]))
        assert float(values[:, 1:].max()) < 1e-12 * max(float(values.max()), 1.0)
    loaded = load(result.checkpoint)  # an ordinary model: the names, shapes and numbers of any other
    assert {n: v.shape for n, v in loaded.state_dict().items()} == {n: v.shape for n, v in teacher.state_dict().items()}
    assert model_hash(loaded) == model_hash(result.model)


def test_low_rank_starts_from_the_model_as_it_is(teacher):
    import copy

    model = copy.deepcopy(teacher)
    trainable = Trainable(model, "low-rank", rank=2)
    trainable.push_weights()
    assert model_hash(model) == model_hash(teacher)
    assert trainable.count() < sum(parameter.numel() for parameter in teacher.parameters())


@pytest.mark.parametrize("trainable", ["last", "low-rank"])
def test_killed_and_started_again_it_gives_the_same_weights(tmp_path, teacher, make_data, trainable):
    data = other_forces(make_data(6, 1))
    config = TrainingConfig(
        epochs=4, batch_size=2, checkpoint_every=1, trainable=trainable, rank=2, learning_rate=0.01, num_threads=1
    )
    arguments = (None, config, data, data[:2])
    unbroken = train(*arguments, tmp_path / "unbroken", initial_model=teacher)

    train_in_a_process_that_is_killed(arguments, tmp_path / "run", 8, initial_model=teacher)
    resumed = train(*arguments, tmp_path / "run", initial_model=teacher)
    assert resumed.continued
    assert model_hash(resumed.model) == model_hash(unbroken.model) != model_hash(teacher)
