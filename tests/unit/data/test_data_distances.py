"""Atoms on top of each other are found in every cell, by both ways of looking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmace.train import Configuration
from mmace.train.sanity import SHORTEST_DISTANCE, _closest, _closest_neighbour


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.booleans()] * 3), st.integers(1, 12), st.floats(0.0, 0.2))
def test_both_ways_find_the_same_pair(seed, pbc, count, close):
    generator = np.random.default_rng(seed)
    cell = np.diag(generator.uniform(0.3, 6.0, 3)) + generator.normal(scale=0.5, size=(3, 3))
    positions = generator.uniform(-3, 3, size=(count, 3)) @ cell
    if count > 1:  # one atom near an image of another
        shift = generator.integers(-2, 3, 3) * np.array(pbc)
        direction = generator.normal(size=3)
        positions[1] = positions[0] + shift @ cell + close * direction / np.linalg.norm(direction)
    one = Configuration([26] * count, positions, cell, pbc, np.zeros((count, 3)))
    fast, slow = _closest(one), _closest_neighbour(one)
    near = slow is not None and slow[3] < SHORTEST_DISTANCE
    assert (fast is not None and fast[3] < SHORTEST_DISTANCE) == near
    if near:
        assert fast[3] == pytest.approx(slow[3], abs=1e-9)
        assert np.any(fast[2]) == np.any(slow[2])
