"""The accuracy benchmark: what is held out stays out, tables say what they should."""

from __future__ import annotations

import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from accuracy_cases import Budget, Case, Settings, run_case
from accuracy_data import Reader, label_spread, magnetic_slope
from accuracy_table import markdown

from mmace.errors import UserError
from mmace.train import errors_of


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    generator = np.random.default_rng(0)
    frames = []
    for index in range(20):
        atoms = Atoms("NiO", [[0, 0, 0], [0, 0, 2.1]], cell=[4.2] * 3, pbc=True)
        atoms.arrays["REF_magmom"] = generator.normal(size=(2, 3))
        atoms.arrays["REF_forces"] = generator.normal(size=(2, 3))
        atoms.arrays["REF_magforces"] = generator.normal(size=(2, 3))
        atoms.info["REF_energy"] = -10.0 + 0.01 * index
        frames.append(atoms)
    ase.io.write(tmp_path / "nio_spin.extxyz", frames, format="extxyz")
    return Reader(tmp_path)


def test_sets_are_nested_and_apart(reader: Reader) -> None:
    small, large = reader.split("nio", 5, 3), reader.split("nio", None, 3)
    assert set(small.train_indices) < set(large.train_indices)
    assert small.test_indices == large.test_indices
    assert len(large.test_indices) == 4
    assert not set(large.train_indices) & set(large.test_indices)
    assert reader.split("nio", 5, 4).test_indices != small.test_indices
    with pytest.raises(UserError, match="17 training structures asked for, 16 are there"):
        reader.split("nio", 17, 0)
    with pytest.raises(UserError, match="give the folder"):
        reader.split("fe", None, 0)


def test_magnetic_forces_are_scaled_and_the_slope_finds_it(reader: Reader) -> None:
    scaled, plain = reader.split("nio", 5, 0), reader.split("nio", 5, 0, 1.0)
    np.testing.assert_allclose(scaled.train[0].magnetic_forces, 1.285 * plain.train[0].magnetic_forces)
    assert magnetic_slope(scaled.test, plain.test) == pytest.approx(1.285)


def test_case_is_finished_once_and_refuses_other_settings(reader: Reader, tmp_path: Path) -> None:
    split = reader.split("nio", 6, 0)
    case = Case("nio", "none", 6, 0)
    settings = Settings(Budget(epochs=1), hidden="4x0e", r_max=3.0)
    said: list[float] = []
    result = run_case(case, split, settings, tmp_path / "case", None, lambda done, *_: said.append(done))
    assert said == [1.0]
    assert result["errors"]["all"]["count"] == 4
    said.clear()
    assert run_case(case, split, settings, tmp_path / "case", None, lambda done, *_: said.append(done)) == result
    assert said == []
    with pytest.raises(UserError, match="other settings"):
        run_case(case, split, Settings(Budget(epochs=2)), tmp_path / "case", None, lambda *_: None)


def test_budgets() -> None:
    assert Budget(epochs=7).epochs_for(100, 8) == 7
    assert Budget(steps=100).epochs_for(10, 8) == 50
    assert Budget(minutes=1).epochs_for(10, 8) is None


def test_table_marks_the_best_and_counts_seeds(reader: Reader) -> None:
    split = reader.split("nio", 6, 0)
    nothing = label_spread(split.train, split.test)
    rows = []
    for model, seed, factor in (("soc", 0, 0.5), ("soc", 1, 0.7), ("none", 0, 1.0), ("labels", 0, 0.1)):
        errors = errors_of(nothing, split.test)
        errors["all"]["forces_rmse"] *= factor
        rows.append(
            {"data": "nio", "model": model, "count": 6, "seed": seed, "budget": "1 epochs each", "errors": errors}
            | {"settings": {"l_mag": 3, "l_mag_nonsoc": 1}, "epochs": 1, "seconds": 60.0}
        )
    rows.append({"data": "nio", "model": "paper", "count": 6, "seed": 0, "budget": "", "failed": "too bad"})
    text = markdown(rows, {})
    line = next(line for line in text.splitlines() if line.startswith("| all | 4 | forces"))
    assert line.split("|")[4].strip().startswith("**")
    assert "±" in line.split("|")[4]
    assert "**" not in line.split("|")[-2]  # the spread of labels is no model
    assert "failed: paper (seed 0): too bad" in text
