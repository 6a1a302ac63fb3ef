"""Directions on the sphere."""

from __future__ import annotations

import numpy as np
import pytest

from mmace.errors import UserError
from mmace_flows.structures.directions import angles, directions, from_angles, opposite_pairs


@pytest.mark.parametrize("text", ["lebedev:50", "lebedev:2030", "fibonacci:101", "random:100:3"])
def test_unit_vectors_and_their_angles(text):
    vectors = directions(text)
    assert len(vectors) == int(text.split(":")[1])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    assert np.abs(vectors.mean(0)).max() < 0.2
    back = np.array([from_angles(theta, phi) for theta, phi in angles(vectors)])
    np.testing.assert_allclose(back, vectors, atol=1e-12)


def test_lebedev_holds_every_opposite_and_others_need_not():
    pairs = opposite_pairs(directions("lebedev:26"))
    assert len(pairs) == 13 and len(set(pairs.ravel().tolist())) == 26
    assert len(opposite_pairs(directions("fibonacci:26"))) == 0


def test_random_directions_follow_their_seed():
    np.testing.assert_array_equal(directions("random:5"), directions("random:5:0"))
    assert not np.allclose(directions("random:5:1"), directions("random:5:2"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lebedef:50", "did you mean 'lebedev'"),
        ("lebedev:51", "there are 50 and 74 points"),
        ("lebedev", "write lebedev:NUMBER"),
        ("lebedev:50:1", "write lebedev:NUMBER"),
        ("random:0", "write random:NUMBER"),
        ("random:5:x", "write random:NUMBER"),
    ],
)
def test_unknown_sets_are_refused_with_what_to_write(text, said):
    with pytest.raises(UserError, match=said):
        directions(text)
