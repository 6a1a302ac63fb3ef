"""Rotations, cones, directions, scales of moments."""

from __future__ import annotations

import numpy as np
import pytest
from crystals import L10_FENI
from hypothesis import given
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.structures.moment_changes import (
    MomentChange,
    change_candidate_moments,
    change_moments,
    perpendicular,
    random_directions,
    rotated,
)
from mmace_flows.structures.operations import DistortOperation, generate

MOMENTS = np.tile([[0.0, 0.0, 2.2], [1.0, -1.0, 0.5], [0.0, 0.0, 0.0]], (200, 1))
LENGTHS = np.linalg.norm(MOMENTS, axis=1)


def angles(one, other):
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.rad2deg(np.arccos(np.clip(np.sum(one * other, axis=1)[lengths > 0] / lengths[lengths > 0], -1, 1)))


def changed(**options):
    return change_moments(MOMENTS, MomentChange(**options), np.random.default_rng(0))


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.floats(-7, 7))
def test_rotations_keep_lengths_and_the_axis(numbers, angle):
    axes = np.array(numbers[:3])[None, :] + [[0.0, 0.0, 2.0]]
    axes /= np.linalg.norm(axes)
    vectors = np.array(numbers[3:])[None, :]
    found = rotated(vectors, axes, np.array([angle]))
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(vectors))
    assert found @ axes.T == pytest.approx(vectors @ axes.T, abs=1e-12)
    assert rotated(found, axes, np.array([-angle])) == pytest.approx(vectors, abs=1e-12)


def test_a_quarter_turn_is_right_handed():
    assert rotated(np.eye(3)[[0]], np.eye(3)[[2]], np.array([np.pi / 2]))[0] == pytest.approx([0, 1, 0])


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_perpendicular_vectors_are(numbers):
    vectors = np.array(numbers)[None, :]
    found = perpendicular(vectors)
    assert np.linalg.norm(found) == pytest.approx(1.0) and np.sum(found * vectors) == pytest.approx(0.0, abs=1e-12)


def test_directions_are_uniform_on_the_sphere():
    found = random_directions(np.random.default_rng(1), 20_000)
    assert found.mean(axis=0) == pytest.approx(0.0, abs=0.02)
    assert found.T @ found / len(found) == pytest.approx(np.eye(3) / 3, abs=0.02)
    assert np.mean(np.abs(found[:, 2]) < 0.5) == pytest.approx(0.5, abs=0.02)  # cos θ is uniform


def test_angles_lengths_and_what_stays():
    turned = changed(rotation=(0.0, 30.0))
    assert angles(turned, MOMENTS).max() <= 30.0 and angles(turned, MOMENTS).max() > 20.0
    assert np.linalg.norm(turned, axis=1) == pytest.approx(LENGTHS)
    cone = changed(cone=25.0)
    assert angles(cone, MOMENTS) == pytest.approx(25.0)
    assert np.linalg.norm(cone, axis=1) == pytest.approx(LENGTHS)
    azimuths = np.arctan2(cone[::3, 1], cone[::3, 0])
    assert np.histogram(azimuths, bins=4, range=(-np.pi, np.pi))[0].min() > 25  # of 200
    scaled = changed(scale=(0.5, 1.5))
    factors = np.linalg.norm(scaled, axis=1)[LENGTHS > 0] / LENGTHS[LENGTHS > 0]
    assert factors.min() >= 0.5 and factors.max() <= 1.5 and factors.std() == pytest.approx(12**-0.5, abs=0.02)
    assert np.array_equal(changed(flip_probability=1.0), -MOMENTS + 0.0)
    assert np.array_equal(changed(), MOMENTS)
    assert MomentChange().nothing and not MomentChange(cone=1.0).nothing


def test_together_is_a_rigid_turn():
    turned = changed(rotation=(40.0, 40.0), together=True)
    assert turned @ turned.T == pytest.approx(MOMENTS @ MOMENTS.T)
    alone = changed(rotation=(40.0, 40.0))
    assert not np.allclose(alone @ alone.T, MOMENTS @ MOMENTS.T)


def test_only_the_elements_that_are_named_change():
    parent = L10_FENI.model_copy(update={"magmoms": [[0, 0, 2.2], [0, 0, 0.6]]})
    base = generate([_file(parent)], DistortOperation(count=1, seed=4))[0][0]
    found = change_candidate_moments(base, MomentChange(random_directions=True, elements=["Fe"]), seed=5)
    assert found.structure.magmoms[1] == base.structure.magmoms[1] and found.magnetic_state == "non-collinear"
    assert found.structure.magmoms[0] != base.structure.magmoms[0] and found.details["moment_seed"] == 5
    with pytest.raises(UserError, match="'Co' is not in the structure"):
        change_candidate_moments(base, MomentChange(elements=["Co"]), seed=5)


def test_distortions_with_turned_moments_repeat_with_their_seed():
    parent = L10_FENI.model_copy(update={"magmoms": [[0, 0, 2.2], [0, 0, 0.6]]})
    settings = DistortOperation(count=4, seed=1, change=MomentChange(rotation=(0, 180), scale=(0, 1.5)))
    found, _ = generate([_file(parent)], settings)
    assert found == generate([_file(parent)], settings)[0]
    assert len({c.structure.hash() for c in found}) == 4 and {c.parent for c in found} == {parent.hash()}
    assert found != generate([_file(parent)], settings.model_copy(update={"seed": 2}))[0]
    started, _ = generate([_file(L10_FENI)], DistortOperation(count=1, moments={}))
    assert started[0].structure.magmoms == [[0, 0, 2.2], [0, 0, 0.6]]


def _file(structure):
    from mmace_flows.schemas.structure import Candidate

    return Candidate(structure=structure, operation="file", magnetic_state="FM")
