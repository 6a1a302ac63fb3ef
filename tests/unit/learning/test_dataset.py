"""Data sets: the split, what is set aside, and that the Bain path is never trained on."""

from __future__ import annotations

import numpy as np
import pytest
from maggma.stores import MemoryStore
from synthetic import bain_labels, label_of, moved, training_labels

from mmace.errors import UserError
from mmace_flows.learning.dataset import (
    BainLeakError,
    DataSetSettings,
    build_dataset,
    check_no_bain,
    geometry_hash,
    label_branch,
    label_configuration,
    read_labels,
)
from mmace_flows.structures.base_cells import bain_structure


def test_the_test_set_holds_the_same_share_of_every_branch() -> None:
    labels = training_labels(10)
    dataset = build_dataset(labels, bain_labels(), DataSetSettings(test_fraction=0.2))
    by_key = {label.label_key: label for label in labels}
    branches = [label_branch(by_key[key]) for key in dataset.test_keys]
    assert {branch: branches.count(branch) for branch in branches} == {"NM": 2, "FM": 2, "AFM": 2}
    assert not set(dataset.test_keys) & set(dataset.training_keys)
    assert len(dataset.test_keys) + len(dataset.training_keys) == 30


def test_the_split_does_not_depend_on_the_order_of_labels_but_on_the_seed() -> None:
    labels = training_labels(10)
    settings = DataSetSettings()
    first = build_dataset(labels, [], settings)
    assert build_dataset(labels[::-1], [], settings) == first
    other = build_dataset(labels, [], DataSetSettings(seed=1))
    assert other.test_keys != first.test_keys
    assert other.dataset_hash != first.dataset_hash


def test_the_test_set_is_frozen_and_new_labels_train() -> None:
    labels = training_labels(6)
    first = build_dataset(labels, [], DataSetSettings())
    fresh = [label_of(moved(bain_structure(12.0, 1.2, "FM"), 900 + i), "FM", "metropolis") for i in range(4)]
    second = build_dataset([*labels, *fresh], [], DataSetSettings(), previous=first)
    assert second.iteration == 2
    assert second.test_keys == first.test_keys
    assert set(second.fresh_keys) == {label.label_key for label in fresh}
    assert set(second.training_keys) == set(first.training_keys) | set(second.fresh_keys)


def test_frames_of_a_relaxation_are_never_held_out() -> None:
    frames = [label_of(moved(bain_structure(11.4, 1.4, "FM"), i, 0.01), "FM", "relax") for i in range(20)]
    dataset = build_dataset([*frames, *training_labels(4)], [], DataSetSettings(test_fraction=0.5))
    assert not {label.label_key for label in frames} & set(dataset.test_keys)
    assert dataset.test_keys


def test_a_bain_label_is_never_trained_on_by_key_or_by_atoms() -> None:
    bain = bain_labels()
    same_atoms = label_of(
        bain_structure(11.4, 1.1, "FM").model_copy(update={"magmoms": [[0, 0, 1.0]] * 4}), "FM", "base"
    )
    assert same_atoms.label_key not in {label.label_key for label in bain}
    dataset = build_dataset([*training_labels(), bain[0], same_atoms], bain, DataSetSettings())
    for key in (bain[0].label_key, same_atoms.label_key):
        assert key not in dataset.training_keys + dataset.test_keys
        assert "Bain" in dataset.set_aside[key]
    for leak in (bain[0], same_atoms, label_of(bain_structure(10.0, 1.0, "FM"), "FM", "bain", "bain")):
        with pytest.raises(BainLeakError):
            check_no_bain([*training_labels(), leak], bain)
    check_no_bain(training_labels(), bain)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "failed", "error": "SCF did not converge"}, "SCF did not converge"),
        ({"forces": [[25.0, 0, 0], [0, 0, 0], [0, 0, 0], [-25.0, 0, 0]]}, "25.0 eV/Å"),
        ({"free_energy": float("nan")}, "not finite"),
        ({"magmoms": None}, "missing"),
    ],
)
def test_bad_labels_are_set_aside_with_a_reason(changes: dict, reason: str) -> None:
    bad = label_of(moved(bain_structure(11.0, 1.2, "FM"), 77), "FM", **changes)
    dataset = build_dataset([*training_labels(), bad], [], DataSetSettings())
    assert reason in dataset.set_aside[bad.label_key]
    assert bad.label_key not in dataset.training_keys + dataset.test_keys


def test_the_energy_window_leaves_out_what_lies_far_above() -> None:
    high = label_of(moved(bain_structure(11.0, 1.2, "FM"), 77), "FM", free_energy=-4.0)
    dataset = build_dataset([*training_labels(), high], [], DataSetSettings(max_energy=3.0))
    assert "above the lowest" in dataset.set_aside[high.label_key]
    assert (
        high.label_key in build_dataset([*training_labels(), high], [], DataSetSettings(test_fraction=0)).training_keys
    )


def test_nothing_to_train_on_is_one_clear_line() -> None:
    failed = label_of(bain_structure(11.0, 1.2, "FM"), "FM", status="failed", error="no")
    with pytest.raises(UserError, match="no usable training label"):
        build_dataset([failed], [], DataSetSettings())


def test_a_configuration_carries_free_energy_dft_moments_and_symmetric_stress() -> None:
    structure = moved(bain_structure(11.4, 1.2, "AFM"), 3)
    moments = [[0, 0, 2.1], [0, 0, 0.01], [0, 0, -2.1], [0, 0, -0.01]]
    stress = [[0.1, 0.02, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]]
    label = label_of(structure, "AFM", energy=-31.0, free_energy=-31.5, magmoms=moments, stress=stress)
    configuration = label_configuration(label)
    assert configuration.energy == -31.5
    np.testing.assert_allclose(configuration.magmoms, moments)
    np.testing.assert_allclose(configuration.stress, np.asarray(configuration.stress).T)
    assert configuration.stress[0, 1] == pytest.approx(0.01)
    assert configuration.magnetic_forces is None
    assert np.all(label_configuration(label, stationary_moments=True).magnetic_forces == 0.0)
    given = label.model_copy(update={"magnetic_forces": [[0.0, 0.0, 0.3]] * 4})
    assert np.all(label_configuration(given, stationary_moments=True).magnetic_forces[:, 2] == 0.3)


def test_geometry_hash_forgets_moments_only() -> None:
    assert geometry_hash(bain_structure(11.4, 1.1, "FM")) == geometry_hash(bain_structure(11.4, 1.1, "AFM"))
    assert geometry_hash(bain_structure(11.4, 1.1, "FM")) != geometry_hash(bain_structure(11.4, 1.2, "FM"))


def test_labels_are_read_in_order_and_missing_ones_are_named() -> None:
    labels = training_labels(2)
    store = MemoryStore(key="label_key")
    store.connect()
    store.update([label.model_dump() | {"_builder_meta": {}} for label in labels])
    keys = [label.label_key for label in labels][::-1]
    assert [label.label_key for label in read_labels(store, keys)] == keys
    with pytest.raises(UserError, match="1 of 2 labels are missing"):
        read_labels(store, [keys[0], "nowhere"])
