"""pymatgen's enumerator: what works without enum.x, and that no spin is left open."""

from __future__ import annotations

import numpy as np
import pytest
from crystals import BCC_FE, L10_FENI
from pymatgen.core import Lattice, Species, Structure

from mmace.errors import UserError
from mmace_flows.structures import enumlib
from mmace_flows.structures.adapters import from_pymatgen, to_pymatgen
from mmace_flows.structures.enumeration import EnumerateSettings, chosen_engine, enumerate_orderings
from mmace_flows.structures.starting_moments import with_lengths


def test_the_ferromagnetic_strategy_needs_no_enumlib():
    found = enumlib.enumlib_structures(with_lengths(L10_FENI), EnumerateSettings(), strategies=("ferromagnetic",))
    assert [details["origin"] for _, details in found] == ["nonmagnetic", "fm"]
    moments = dict(zip(found[1][0].symbols, found[1][0].magmoms, strict=True))
    assert moments == {"Fe": [0.0, 0.0, 2.2], "Ni": [0.0, 0.0, 0.6]}


def test_without_enumlib_it_is_said_and_the_own_enumerator_is_taken(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert chosen_engine("auto") == "exact"
    with pytest.raises(UserError, match=r"enum\.x"):
        enumerate_orderings(BCC_FE, EnumerateSettings(engine="enumlib"))


def test_with_enumlib_it_is_taken_and_open_spins_are_zeros(monkeypatch, tmp_path):
    """What the enumerator gives back (stood in for here) becomes candidates without an open spin."""
    for name in ("enum.x", "makestr.x"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen_engine("auto") == "enumlib"
    lattice = Lattice.tetragonal(2.5, 7.14)
    places = [[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]]

    def ordered(*spins):
        species = [Species(s, spin=m) if m is not None else Species(s) for s, m in zip("FNFN", spins, strict=True)]
        return Structure(lattice, species, places)

    def species_of(*spins):
        symbols = ["Fe", "Ni", "Fe", "Ni"]
        return Structure(lattice, [Species(s, spin=m) for s, m in zip(symbols, spins, strict=True)], places)

    class Enumerator:
        def __init__(self, structure, default_magmoms, **options):
            assert default_magmoms == {"Fe": 2.2, "Ni": 0.6}
            self.ordered_structures = [
                species_of(2.2, 0.6, 2.2, 0.6),
                species_of(2.2, None, -2.2, None),
                species_of(-2.2, None, 2.2, None),  # the reverse of the one before
            ]
            self.ordered_structure_origins = ["fm", "afm_by_Fe", "afm_by_Fe"]

    monkeypatch.setattr("pymatgen.analysis.magnetism.analyzer.MagneticStructureEnumerator", Enumerator)
    found = enumerate_orderings(L10_FENI, EnumerateSettings())
    assert [c.magnetic_state for c in found] == ["NM", "FM", "AFM"]
    assert [m[2] for m in found[2].structure.magmoms] == [2.2, 0.0, -2.2, 0.0]


def test_orderings_are_compared_with_their_reverse_and_not_loosely():
    def fe2(first, second, c=2.88):
        return from_pymatgen(
            Structure(
                Lattice.tetragonal(2.86, c),
                [Species("Fe", spin=first), Species("Fe", spin=second)],
                [[0, 0, 0], [0.5, 0.5, 0.5]],
            )
        )

    assert enumlib.same_ordering(fe2(2.0, -2.0), fe2(-2.0, 2.0))
    assert enumlib.same_ordering(fe2(2.0, 1.0), fe2(-2.0, -1.0))
    assert not enumlib.same_ordering(fe2(2.0, 2.0), fe2(2.0, -2.0))
    assert not enumlib.same_ordering(fe2(2.0, 2.0), fe2(2.0, 2.0, c=3.0))


def test_moments_go_to_pymatgen_and_back():
    turned = L10_FENI.model_copy(update={"magmoms": [[1.0, -2.0, 0.5], [0.0, 0.0, 0.25]]})
    back = from_pymatgen(to_pymatgen(turned))
    assert back.symbols == turned.symbols and back.magmoms == turned.magmoms
    assert np.asarray(back.positions) == pytest.approx(np.asarray(turned.positions))
