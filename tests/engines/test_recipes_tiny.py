"""Recipes at their smallest, with the real programs: through the queue, and again without computing anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_tools import mmace
from espresso_tools import espresso_there

pytest.importorskip("gpaw")
pytestmark = [pytest.mark.engine, pytest.mark.slow]

RECIPES = Path(__file__).parents[2] / "workflows"


def run(data_dir: Path, recipe: str, name: str, *settings: str) -> str:
    changes = [word for setting in settings for word in ("--set", setting)]
    fixed = ["--preset", "tiny", "--yes", "--workers", "1", "--name", name]
    return mmace(data_dir, "run", str(RECIPES / f"{recipe}.py"), *fixed, *changes)


def twice(data_dir: Path, recipe: str, *settings: str) -> str:
    """What the first run says; the second one computes no label."""
    said = run(data_dir, recipe, "first", *settings)
    again = run(data_dir, recipe, "again", *settings)
    labels = [line for line in said.splitlines() if "eV/atom, " in line and " μB), " in line]
    assert labels and all("found in the store" in line for line in again.splitlines() if " μB), " in line)
    return said


def test_convergence_ends_in_a_recommendation(tmp_path):
    said = twice(tmp_path, "converge")
    assert "recommended: cutoff 250 eV, k-points 2×2×1, smearing 0.2 eV" in said


def test_isolated_atoms_end_in_both_fits(tmp_path):
    said = twice(tmp_path, "isolated_atoms")
    assert "Fe: lowest at " in said and "atoms-spline.json" in said and "atoms-chebyshev.png" in said


def test_the_feni_set_is_written_as_training_data(tmp_path):
    from ase.io import read

    twice(tmp_path, "feni_set")
    out = tmp_path / "feni.extxyz"
    mmace(tmp_path, "data", "convert", "store:first", "-o", str(out))
    labels = read(out, ":")
    assert len(labels) == 4, "a point of the path, and three base cells with their total moment held"
    assert all(atoms.arrays["REF_magmom"].shape == (4, 3) for atoms in labels)
    assert sum("REF_magforces" in atoms.arrays for atoms in labels) == 3


@espresso_there
def test_two_engines_give_the_same_iron_but_for_their_settings(tmp_path):
    """k-points and cutoffs of this preset are far too coarse: only that all of it runs, and ends in numbers."""
    changes = ["lattice_constants=[2.6, 2.7, 2.8, 2.9, 3.0, 3.1]"]
    said = twice(tmp_path, "fe_cross_check", *changes)
    assert "espresso against gpaw: a " in said and "bulk modulus" in said


def test_random_crystals_become_labelled_orderings(tmp_path):
    pytest.importorskip("pyxtal")
    pytest.importorskip("chgnet")
    said = twice(tmp_path, "random_search")
    assert "crystal 0" in said and "orderings labelled, lowest" in said
