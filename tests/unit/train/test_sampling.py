"""Batches filled by edges: full, of similar structures, random, the same again."""

from __future__ import annotations

import numpy as np
import pytest

from mmace import model_hash
from mmace.train import TrainingConfig, run, train
from mmace.train.sampling import Sizes, epoch_batches

from .conftest import small_config
from .test_resume import SETTINGS, train_in_a_process_that_is_killed


def mixed(count: int) -> Sizes:
    """Structures of very different sizes and densities."""
    generator = np.random.default_rng(3)
    return Sizes(generator.integers(1, 60, count), generator.integers(1, 150, count))


def padding(sizes: Sizes, batches: list[np.ndarray]) -> float:
    """Part of the places for neighbours that no neighbour of a structure's densest atom takes."""
    needed = sum(int((sizes.atoms[batch] * sizes.densest[batch]).sum()) for batch in batches)
    return 1 - needed / sum(sizes.places(batch) for batch in batches)


def test_batches_are_filled_up_to_the_limit_with_similar_structures():
    sizes, limit = mixed(3000), 40_000
    batches = epoch_batches(sizes, TrainingConfig(edges_per_batch=limit), 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(3000))
    places = np.array([sizes.places(batch) for batch in batches])
    assert places.max() <= limit
    assert np.mean(places > 0.8 * limit) > 0.95
    assert padding(sizes, batches) < 0.05 < padding(sizes, epoch_batches(sizes, TrainingConfig(batch_size=20), 0))


def test_order_and_company_change_from_epoch_to_epoch_and_come_back():
    sizes, config = mixed(3000), TrainingConfig(edges_per_batch=40_000, seed=4)
    first, again, other = (epoch_batches(sizes, config, epoch) for epoch in (0, 0, 1))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))

    def company(batches: list[np.ndarray]) -> set[tuple[int, int]]:
        return {(int(a), int(b)) for batch in batches for a in batch for b in batch if a < b}

    shared = len(company(first) & company(other)) / len(company(first))
    assert shared < 0.15
    # the batches of an epoch do not come in the order of their neighbours
    means = [float(sizes.densest[batch].mean()) for batch in first]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_a_structure_above_the_limit_is_a_batch_of_its_own():
    sizes = Sizes(np.array([10, 1000, 10, 10]), np.array([20, 100, 20, 20]))
    batches = epoch_batches(sizes, TrainingConfig(edges_per_batch=600), 2)
    assert sorted(sorted(batch.tolist()) for batch in batches) == [[0, 2, 3], [1]]


@pytest.mark.parametrize("deadly", [8])
def test_killed_within_an_epoch_it_goes_on_with_the_same_batches(tmp_path, make_data, monkeypatch, deadly):
    data = make_data(9)
    config = TrainingConfig(**{**SETTINGS, "edges_per_batch": 90, "checkpoint_seconds": 1e-9})
    arguments = (small_config(seed=2), config, data[:6], data[6:])
    unbroken = train(*arguments, tmp_path / "unbroken")
    train_in_a_process_that_is_killed(arguments, tmp_path / "run", deadly)
    steps = []
    whole_step = run.Run._step
    monkeypatch.setattr(run.Run, "_step", lambda *given: steps.append(1) or whole_step(*given))
    resumed = train(*arguments, tmp_path / "run")
    assert resumed.continued
    assert len(steps) >= 1
    assert model_hash(resumed.model) == model_hash(unbroken.model)
