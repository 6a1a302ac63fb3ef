"""Descriptors and selection of structures."""

from __future__ import annotations

import numpy as np
import pytest
from crystals import BCC_FE_CUBE, L10_FENI, MN3PT
from hypothesis import given, settings
from hypothesis import strategies as st
from maggma.stores import MemoryStore

from mmace.errors import UserError
from mmace_flows.schemas.label import label_key
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.descriptors import cheap_descriptors, model_descriptors
from mmace_flows.structures.distort import DistortSettings, distort
from mmace_flows.structures.lattices import supercell
from mmace_flows.structures.moment_changes import rotated
from mmace_flows.structures.selection import (
    SelectSettings,
    farthest_points,
    not_labelled,
    select,
    without_copies,
)

MILD = DistortSettings(volume_scale=(0.9, 1.1), displacement=0.1, strain=0.02)


def turned_mn3pt(seed: int) -> MagneticStructure:
    structure = distort(MN3PT, seed, MILD).structure
    moments = np.random.default_rng(seed).normal(size=(4, 3))
    return structure.model_copy(update={"magmoms": moments.tolist()})


def spun(structure: MagneticStructure, axis: np.ndarray, angle: float) -> MagneticStructure:
    """Everything rotated, moments too."""

    def turn(rows):
        array = np.asarray(rows)
        return rotated(array, np.tile(axis, (len(array), 1)), np.full(len(array), angle)).tolist()

    update = {name: turn(getattr(structure, name)) for name in ("cell", "positions", "magmoms")}
    return structure.model_copy(update=update)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(-3, 3), st.permutations(range(4)))
def test_the_cheap_description_keeps_the_symmetries(seed, angle, order):
    structure = turned_mn3pt(seed)
    axis = np.random.default_rng(seed + 1).normal(size=3)
    same = [
        structure,
        spun(structure, axis / np.linalg.norm(axis), angle),
        structure.model_copy(
            update={name: [getattr(structure, name)[i] for i in order] for name in ("symbols", "positions", "magmoms")}
        ),
        structure.model_copy(update={"magmoms": (-np.asarray(structure.magmoms)).tolist()}),
        supercell(structure, [[1, 1, 0], [0, 1, 0], [0, 0, 2]]),
        structure.model_copy(update={"positions": (np.asarray(structure.positions) + np.array([0.3, -1, 7])).tolist()}),
    ]
    rows = cheap_descriptors(same)
    assert rows == pytest.approx(np.tile(rows[0], (len(same), 1)), abs=1e-9)


def test_the_cheap_description_sees_order_lengths_angles_and_elements():
    start = BCC_FE_CUBE
    different = [
        start.model_copy(update={"magmoms": moments})
        for moments in ([[0, 0, 2], [0, 0, 2]], [[0, 0, 2], [0, 0, -2]], [[0, 0, 2], [2, 0, 0]], [[0, 0, 1], [0, 0, 1]])
    ]
    rows = cheap_descriptors([*different, start, L10_FENI])
    for i, one in enumerate(rows):
        for other in rows[:i]:
            assert np.linalg.norm(one - other) > 0.1


def test_descriptors_of_a_potential():
    torch = pytest.importorskip("torch")
    from mmace import Potential, PotentialConfig

    torch.manual_seed(0)
    config = PotentialConfig(elements=["Mn", "Pt"], hidden="4x0e", l_pos=2, correlation=2, r_max=4.0, m_max={"Mn": 4.0})
    model = Potential(config)
    structure = turned_mn3pt(0)
    rows = model_descriptors([structure, spun(structure, np.array([0, 0, 1.0]), 0.7), turned_mn3pt(1)], model)
    assert rows[0] == pytest.approx(rows[1], rel=1e-6) and np.linalg.norm(rows[0] - rows[2]) > 1e-6


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(-5, 5), min_size=2, max_size=2), min_size=1, max_size=12), st.integers(1, 12))
def test_farthest_points_are_distinct_and_as_far_as_can_be(rows, count):
    features = np.array(rows, dtype=float)
    chosen = farthest_points(features, count)
    assert len(chosen) == len(set(chosen)) == min(count, len({tuple(row) for row in rows}))
    assert len({tuple(rows[index]) for index in chosen}) == len(chosen)
    for step in range(1, len(chosen)):
        distances = np.min(np.linalg.norm(features[:, None] - features[chosen[:step]][None], axis=2), axis=1)
        assert distances[chosen[step]] == pytest.approx(distances.max())


def test_farthest_points_keep_away_from_what_is_known():
    features = np.array([[0.0], [1.0], [2.0], [10.0]])
    assert farthest_points(features, 4, np.array([[10.0], [0.0]])) == [2, 1]
    assert farthest_points(features, 1, np.array([[10.0]])) == [0]
    assert farthest_points(np.zeros((0, 3)), 2) == []


def candidate(structure: MagneticStructure) -> Candidate:
    return Candidate(structure=structure, operation="x", magnetic_state="FM")


def test_copies_known_and_labelled_structures_are_left_out():
    structures = [turned_mn3pt(seed) for seed in range(6)]
    pool = [candidate(one) for one in [*structures, structures[0], structures[3]]]
    assert [c.structure for c in without_copies(pool)] == structures
    chosen, counts = select(pool, SelectSettings(count=3), known=structures[:2])
    assert counts == {"copies": 4, "outside the trust window": 0, "not selected": 1}
    assert len(chosen) == 3 and not {c.structure.hash() for c in chosen} & {s.hash() for s in structures[:2]}

    store = MemoryStore(key="label_key")
    store.connect()
    keys = [label_key(one, "gpaw", {"cutoff": 400}) for one in structures[:4]]
    store.update([{"label_key": key} for key in keys], key="label_key")
    assert [c.structure for c in not_labelled(pool, store, "gpaw", {"cutoff": 400})] == structures[4:]
    assert len(not_labelled(pool, store, "gpaw", {"cutoff": 500})) == 6  # other settings: other labels


class Sureness:
    """An uncertainty by hand: the volume per atom, in place of a potential's."""


def test_the_trust_window_and_the_least_certain(monkeypatch):
    import mmace.uncertainty
    import mmace.uncertainty.selection

    def volumes(frames, uncertainty, *rest):
        assert isinstance(uncertainty, Sureness)
        return np.array([atoms.get_volume() / len(atoms) for atoms in frames])

    monkeypatch.setattr(mmace.uncertainty.selection, "scores", volumes)
    monkeypatch.setattr(
        mmace.uncertainty,
        "select_most_uncertain",
        lambda frames, uncertainty, count: list(np.argsort(-volumes(frames, uncertainty))[:count]),
    )
    pool = [candidate(distort(MN3PT, seed, DistortSettings()).structure) for seed in range(12)]
    sizes = [abs(np.linalg.det(c.structure.cell)) / 4 for c in pool]
    low, high = np.quantile(sizes, [0.25, 0.75])
    chosen, counts = select(pool, SelectSettings(trust=(low, high), by="uncertainty", count=4), uncertainty=Sureness())
    found = [c.details["energy_uncertainty_per_atom"] for c in chosen]
    assert found == sorted(found, reverse=True) and low <= found[-1] and found[0] <= high
    assert counts["outside the trust window"] == sum(not low <= size <= high for size in sizes)
    with pytest.raises(UserError, match="need the uncertainty"):
        select(pool, SelectSettings(trust=(0.0, 1.0)))
    with pytest.raises(UserError, match="two numbers that rise"):
        select(pool, SelectSettings(trust=(1.0, 0.5)), uncertainty=Sureness())


def test_selection_spreads_over_moments():
    ladder = [
        candidate(BCC_FE_CUBE.model_copy(update={"magmoms": [[0, 0, m], [0, 0, m]]})) for m in np.linspace(0, 3, 31)
    ]
    chosen, _ = select(ladder, SelectSettings(count=4))
    lengths = sorted(c.structure.magmoms[0][2] for c in chosen)
    assert lengths[0] == 0.0 and lengths[-1] == 3.0 and min(np.diff(lengths)) > 0.3
