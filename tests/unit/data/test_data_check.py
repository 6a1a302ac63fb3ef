"""What the check says of data: classes, ranges, labels, duplicates, histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from samples import sample, written

from mmace.data import DataReport, ReadOptions, check_files
from mmace.data.check import check_configurations
from mmace.data.statistics import DataStatistics, histogram
from mmace.errors import UserError
from mmace.train.configuration import magnetic_branch, magnetic_class
from mmace_flows.structures.moments import magnetic_state


@pytest.mark.parametrize(
    ("moments", "kind"),
    [
        ([[0, 0, 0.05], [0, 0.02, 0]], "NM"),
        ([[0, 0, 2.2], [0, 0.05, 0.6]], "FM"),
        ([[0, 2.2, 0], [0, -2.2, 0]], "AFM"),
        ([[0, 2.2, 0], [0, -2.2, 0], [0.15, 0, 0]], "AFM"),  # an induced moment has no say
        ([[2.2, 0, 0], [-1.1, 0, 0]], "FiM"),
        ([[2.2, 0, 0], [0, 2.2, 0]], "non-collinear"),
    ],
)
def test_magnetic_classes(moments, kind):
    assert magnetic_class(moments) == kind


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6).flatmap(lambda n: arrays(float, (n, 3), elements=st.sampled_from([-2.2, -0.6, 0.0, 0.05, 2.2])))
)
def test_the_pipeline_has_the_same_classes(moments):
    assert magnetic_class(moments) == magnetic_state(moments)
    if magnetic_class(moments) in ("NM", "non-collinear"):
        assert magnetic_branch(moments) == magnetic_class(moments)


def test_numbers_of_a_data_set():
    data = [sample(seed, 4) for seed in range(5)] + [sample(9, 2, labels=("energy",))]
    found = DataStatistics(data).to_dict()
    assert found["configurations"] == 6
    assert found["atoms"] == 22
    assert found["elements"] == {"Fe": 11, "Ni": 11}
    assert found["labels"] == {"energy": 6, "forces": 5, "stress": 5, "magnetic_forces": 5}
    assert found["atoms_per_configuration"] == {"min": 2, "max": 4}
    forces = np.concatenate([np.linalg.norm(c.forces[c.numbers == 28], axis=1) for c in data[:5]])
    assert found["forces"]["Ni"] == pytest.approx(
        {"min": forces.min(), "mean": forces.mean(), "max": forces.max()}, rel=1e-5
    )
    moments = np.concatenate([np.linalg.norm(c.magmoms[c.numbers == 26], axis=1) for c in data])
    assert found["moments"]["Fe"]["max"] == pytest.approx(moments.max(), rel=1e-5)
    assert sum(found["classes"].values()) == 6
    assert sum(found["class_fractions"].values()) == pytest.approx(1)
    assert found["largest_stress_component"]["max"] == pytest.approx(max(np.abs(c.stress).max() for c in data[:5]))


def test_energies_off_the_sum_of_elements_do_not_bend_to_a_wrong_label():
    generator = np.random.default_rng(0)
    data = []
    for seed in range(30):
        numbers = generator.choice([26, 28], size=4)
        energy = -8.0 * (numbers == 26).sum() - 5.0 * (numbers == 28).sum() + generator.normal(scale=0.01)
        data.append(sample(seed, 4, numbers=numbers, energy=energy))
    data[7].energy += 4000.0
    residuals = DataStatistics(data).residual_energies()
    assert residuals[7] == pytest.approx(1000.0, abs=0.1)
    assert np.abs(np.delete(residuals, 7)).max() < 0.1
    with pytest.raises(UserError, match="energy is 1000 eV/atom off"):
        check_configurations(data)


def test_duplicates_are_warned_of_and_contradictions_named(tmp_path):
    one, again, turned = sample(1), sample(1), sample(1)
    again.energy += 0.5
    turned.magmoms = turned.magmoms + 0.01
    path = written(tmp_path / "data.extxyz", [one, sample(2), again, turned, sample(2)])
    report = check_files([path], ReadOptions())
    assert (report.duplicates, report.contradictions, report.problems) == (2, 1, [])
    assert report.warnings == [
        f"2 configurations are there more than once, 1 of them with another energy; the first: {path}: configuration 2 "
        f"(line 9) as {path}: configuration 0 (line 1), with another energy"
    ]


def test_the_short_report_names_what_is_not_there():
    lines = check_configurations([sample(seed, labels=("energy", "forces")) for seed in range(3)]).short_lines()
    assert lines[0].startswith(
        "3 configurations, 6 atoms; non-collinear 3; labels: energy all, forces all, stress none"
    )
    assert lines[1].startswith("Fe: 3 atoms, |m| ")
    assert lines[-1] == "warning: no configuration has stress, magnetic_forces: not trained on"


def test_data_without_any_energy_are_refused():
    with pytest.raises(UserError, match="no configuration has an energy"):
        check_configurations([sample(labels=("forces",))])
    assert DataReport().finish().problems == []


def test_histograms_count_everything_once():
    values = np.random.default_rng(0).normal(size=1000)
    found = histogram(np.append(values, np.nan), "eV", 7)
    assert sum(found["counts"]) == 1000
    assert len(found["edges"]) == 8
    assert found["edges"][0] == values.min()
    assert histogram(np.full(5, 2.0), "eV", 7) == {"unit": "eV", "edges": [2.0, 2.0], "counts": [5]}
