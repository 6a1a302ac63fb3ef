"""Random search: compositions, crystals, screening, resuming; with a quick calculator in place of CHGNet."""

from __future__ import annotations

import json
import stat
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from crystals import BCC_FE, BCC_FE_CUBE, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.structures import random_search as rs
from mmace_flows.structures.random_crystals import (
    ChemicalSpace,
    buildcell_input,
    check_space,
    chosen_generator,
    draw_composition,
    parse_cell,
    random_crystal,
    too_close,
)
from mmace_flows.structures.screening import Screen, distinct_crystals, match_distribution, screened

SEVEN = {"Al": 1, "Mn": 2, "Fe": 2, "Co": 2, "Ni": 2, "Pt": 1, "Y": 1, "B": 1, "C": 1, "Si": 1}
CELL = """Symm: P1
%BLOCK LATTICE_ABC
  3.0 3.0 4.0
  90.0 90.0 120.0
%ENDBLOCK LATTICE_ABC

%BLOCK POSITIONS_FRAC
  Fe  0.0 0.0 0.0 # Fe1
  Ni  0.333333333333 0.666666666667 0.5
%ENDBLOCK POSITIONS_FRAC
"""


class Volumes(Calculator):
    """Wants 12 Å³ per atom; moments by element. Counts its relaxations by its first calls."""

    implemented_properties = ["energy", "forces", "stress", "magmoms"]  # noqa: RUF012
    calls = 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        type(self).calls += 1
        assert self.atoms.get_initial_magnetic_moments().ndim == 1  # a general potential gets no vectors
        number, volume = len(self.atoms), self.atoms.get_volume()
        strain = volume / number - 12.0
        forces = np.zeros((number, 3))
        forces[0, 0], forces[-1, 0] = 0.01, -0.01
        self.results = {
            "energy": number * 0.5 * 0.1 * strain**2 - float(self.atoms.numbers.sum()),
            "forces": forces if number > 1 else np.zeros((1, 3)),
            "stress": np.array([0.1 * strain, 0.1 * strain, 0.1 * strain, 0, 0, 0]),
            "magmoms": np.where(self.atoms.numbers == 26, 2.3, 0.04),
        }


@st.composite
def spaces(draw):
    elements = draw(st.dictionaries(st.sampled_from(sorted(SEVEN)), st.floats(0.1, 5), min_size=1, max_size=6))
    one_of = [element for element in ("B", "C", "Si") if element in elements]
    most = draw(st.integers(1, 10))
    return ChemicalSpace(
        elements=elements, one_of=one_of, species=(1, draw(st.integers(1, 4))), atoms=(draw(st.integers(1, most)), most)
    )


@settings(max_examples=200)
@given(spaces(), st.integers(0, 10_000))
def test_compositions_keep_to_the_space(space, seed):
    check_space(space)
    found = draw_composition(space, np.random.default_rng(seed))
    assert found == draw_composition(space, np.random.default_rng(seed))
    assert set(found) <= set(space.elements) and all(count >= 1 for count in found.values())
    assert space.atoms[0] <= sum(found.values()) <= space.atoms[1]
    assert space.species[0] <= len(found) <= space.species[1]
    assert len(set(found) & set(space.one_of)) <= 1


def test_elements_are_drawn_by_weight_and_splits_are_even():
    generator = np.random.default_rng(0)
    space = ChemicalSpace(elements={"Fe": 3, "Ni": 1}, species=(1, 1))
    counts = Counter(next(iter(draw_composition(space, generator))) for _ in range(2000))
    assert counts["Fe"] / 2000 == pytest.approx(0.75, abs=0.04)
    space = ChemicalSpace(elements={"Fe": 1, "Ni": 1}, species=(2, 2), atoms=(5, 5))
    splits = Counter(draw_composition(space, generator)["Fe"] for _ in range(2000))
    assert set(splits) == {1, 2, 3, 4} and min(splits.values()) > 420


def test_formulas_are_kept_to_in_multiples():
    space = ChemicalSpace(elements={"Fe": 1, "Ni": 1}, formulas=["FeNi3", "FeNi"], atoms=(4, 8))
    check_space(space)
    generator = np.random.default_rng(0)
    found = {tuple(sorted(draw_composition(space, generator).items())) for _ in range(100)}
    assert found == {(("Fe", n), ("Ni", 3 * n)) for n in (1, 2)} | {(("Fe", n), ("Ni", n)) for n in (2, 3, 4)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"elements": {}}, "none is given"),
        ({"elements": {"Ee": 1}}, "'Ee' is no element"),
        ({"elements": {"Fe": -1}}, "weight of Fe"),
        ({"elements": {"Fe": 1}, "one_of": ["B"]}, "add it there"),
        ({"elements": {"Fe": 1}, "atoms": (5, 2)}, "two numbers that rise"),
        ({"elements": {"Fe": 1}, "space_groups": (1, 231)}, "from 1 to 230"),
        ({"elements": {"Fe": 1}, "species": (2, 3)}, "2 are asked for, 1"),
        ({"elements": {"Fe": 1}, "formulas": ["Fe$"]}, "no formula"),
        ({"elements": {"Fe": 1}, "formulas": ["FeNi"]}, "has Ni"),
        ({"elements": {"Fe": 1, "Ni": 1}, "formulas": ["Fe7Ni7"]}, "no multiple"),
    ],
)
def test_impossible_spaces_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        check_space(ChemicalSpace(**options))


def test_crystals_have_the_atoms_volume_and_distances_asked_for():
    pytest.importorskip("pyxtal")
    space = ChemicalSpace(elements={"Fe": 1, "Pt": 1}, species=(1, 2), atoms=(2, 8))
    for seed in range(6):
        made = random_crystal(space, seed)
        structure = made["structure"]
        assert made == random_crystal(space, seed)
        assert len(structure.symbols) <= 8 and set(structure.symbols) <= {"Fe", "Pt"}
        assert not too_close(structure, space.minimum_distance)
        volume = abs(np.linalg.det(structure.cell)) / len(structure.symbols)
        assert 7.0 < volume < 25.0
        assert not np.any(structure.magmoms)
    assert random_crystal(space, 0) != random_crystal(space, 1)


def test_too_close_counts_images_and_radii():
    assert not too_close(BCC_FE_CUBE, 0.75)  # 2.49 Å, radii 1.32 Å
    assert too_close(BCC_FE_CUBE, 0.95)
    assert too_close(plain(Atoms("Fe", cell=[1.5, 5, 5], pbc=True)), 0.75)  # its own image


def test_buildcell_is_taken_where_it_is(monkeypatch, tmp_path):
    program = tmp_path / "buildcell"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/input\ncat <<'END'\n{CELL}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert chosen_generator("auto") == "buildcell"
    space = ChemicalSpace(elements={"Fe": 1, "Ni": 1}, species=(2, 2), atoms=(2, 2), minimum_distance=0.5)
    structure = random_crystal(space, 0, "buildcell")["structure"]
    assert structure.symbols == ["Fe", "Ni"]
    assert structure.positions[1] == pytest.approx([0.0, 3.0 / 3**0.5, 2.0], abs=1e-6)
    asked = (tmp_path / "input").read_text()
    assert "#SPECIES=" in asked and "Fe%NUM=1" in asked and "Ni%NUM=1" in asked and "#VARVOL=" in asked
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ValueError, match="ended with 3"):
        random_crystal(space, 0, "buildcell")


def test_buildcell_input_and_output():
    text = buildcell_input({"Fe": 2, "Ni": 1}, 36.0, ChemicalSpace(elements={"Fe": 1, "Ni": 1}))
    assert "#VARVOL=36.0000\n#SPECIES=Fe%NUM=2,Ni%NUM=1\n" in text and "Fe-Ni=" in text
    with pytest.raises(ValueError, match="no lattice"):
        parse_cell("nothing")


def test_generators_that_are_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="install AIRSS"):
        chosen_generator("buildcell")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for asked in ("auto", "pyxtal"):
        with pytest.raises(UserError, match=r"pip install 'mmace-flows\[search\]'"):
            chosen_generator(asked)
    with pytest.raises(UserError, match="unknown generator 'foo'"):
        chosen_generator("foo")


SEARCH = rs.SearchSettings(
    space=ChemicalSpace(elements={"Fe": 1, "Al": 1}, atoms=(1, 4)),
    attempts=5,
    calculator="x:Volumes",
    generator="pyxtal",
    screen=Screen(energy=(-1000, 1000), energy_above_lowest=100.0),
)


@pytest.fixture
def quick(monkeypatch):
    """The quick calculator in place of the named one."""
    pytest.importorskip("pyxtal")
    Volumes.calls = 0
    monkeypatch.setattr(rs, "make_calculator", lambda name: Volumes())


def test_a_search_gives_candidates_and_goes_on_where_it_was(quick, tmp_path, monkeypatch):
    told = []
    whole, counts = rs.random_search(SEARCH, tmp_path / "whole", told.append)
    assert [event["done"] for event in told] == [1, 2, 3, 4, 5] and not any(event["resumed"] for event in told)
    assert counts["kept"] == len(whole) > 0
    for candidate in whole:
        assert candidate.operation == "random" and candidate.details["calculator"] == "x:Volumes"
        lengths = [2.3 if symbol == "Fe" else 0.0 for symbol in candidate.structure.symbols]
        assert [m[2] for m in candidate.structure.magmoms] == pytest.approx(lengths)  # 0.04 μB is none
        volume = abs(np.linalg.det(candidate.structure.cell)) / len(lengths)
        assert volume == pytest.approx(12.0, abs=0.3)
    energies = [c.details["calculator_energy_per_atom"] for c in whole]
    assert energies == sorted(energies)

    # killed in the third attempt, and in the middle of writing a file
    def killed(event):
        if event["done"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rs.random_search(SEARCH, tmp_path / "broken", killed)
    (tmp_path / "broken" / ".attempt-000002.json.1.tmp").write_text("{")
    assert sorted(p.name for p in (tmp_path / "broken").glob("attempt*")) == [f"attempt-00000{n}.json" for n in (0, 1)]
    told.clear()
    again, _ = rs.random_search(SEARCH, tmp_path / "broken", told.append)
    assert [event["resumed"] for event in told] == [True, True, False, False, False]
    assert again == whole

    # finished: nothing is computed; wider windows and a selection need nothing new
    calls = Volumes.calls
    fewer, counts = rs.random_search(SEARCH.model_copy(update={"keep": 1}), tmp_path / "whole")
    assert Volumes.calls == calls and len(fewer) == 1 and counts["not selected"] == len(whole) - 1
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        rs.random_search(SEARCH.model_copy(update={"seed": 1}), tmp_path / "whole")
    (tmp_path / "whole" / "attempt-000001.json").write_text("{}")
    with pytest.raises(UserError, match="remove this file"):
        rs.random_search(SEARCH, tmp_path / "whole")


def test_attempts_that_fail_are_told_and_not_fatal(quick, tmp_path, monkeypatch):
    def fails(self, *arguments):
        raise RuntimeError("isolated atom")

    monkeypatch.setattr(Volumes, "calculate", fails)
    with pytest.raises(UserError, match=r"nothing is left of 5 attempts \(5 failed\).*isolated atom"):
        rs.random_search(SEARCH, tmp_path / "x")
    stored = json.loads((tmp_path / "x" / "attempt-000000.json").read_text())
    assert stored["error"] == "RuntimeError: isolated atom" and stored["structure"] is None


def attempt(index, structure=BCC_FE, **values):
    numbers = {"energy": -8.0, "max_force": 0.0, "pressure": 0.0, **values}
    return rs.Attempt(index=index, seed=index, structure=structure, **numbers)


def test_every_window_throws_out_what_it_is_for():
    big = BCC_FE.model_copy(update={"cell": (2.0 * np.array(BCC_FE.cell)).tolist()})
    tight = BCC_FE.model_copy(update={"cell": (0.88 * np.array(BCC_FE.cell)).tolist()})
    attempts = [
        attempt(0),
        attempt(1, energy=-8.2),
        attempt(2, energy=-7.6),
        attempt(3, energy=-40.0),
        attempt(4, max_force=0.4),
        attempt(5, pressure=9.0),
        attempt(6, structure=big),
        attempt(7, structure=tight),
        rs.Attempt(index=8, seed=8, error="it broke"),
    ]
    passed, counts = screened(attempts, Screen(minimum_distance=0.85))
    assert [one.index for one in passed] == [1, 0]
    assert counts == {
        "above the lowest of their composition": 1,
        "outside the energy window": 1,
        "with forces left": 1,
        "with pressure left": 1,
        "outside the volume window": 1,
        "with atoms too close": 1,
        "failed": 1,
    }
    assert [one.index for one in screened([attempt(5, pressure=9.0)], Screen(), pressure=10.0)[0]] == [5]


def test_the_same_crystal_in_another_cell_is_a_duplicate():
    squeezed = BCC_FE.model_copy(update={"cell": (0.9 * np.array(BCC_FE.cell)).tolist()})
    fcc = plain(Atoms("Fe", cell=1.8 * (np.ones((3, 3)) - np.eye(3)), pbc=True))
    found = distinct_crystals([attempt(0), attempt(1, BCC_FE_CUBE), attempt(2, fcc), attempt(3, squeezed)])
    assert [one.index for one in found][:2] == [0, 2] and 1 not in [one.index for one in found]


def test_selection_follows_the_element_weights():
    pool = [["Fe"] * 4] * 10 + [["Ni"] * 4] * 10 + [["Fe", "Ni"]] * 5
    chosen = match_distribution(pool, {"Fe": 3, "Ni": 1}, 8)
    symbols = Counter(symbol for index in chosen for symbol in pool[index])
    assert len(set(chosen)) == 8 and symbols["Fe"] / sum(symbols.values()) == pytest.approx(0.75, abs=0.05)
    even = match_distribution(pool, {"Fe": 1, "Ni": 1}, 7)
    symbols = Counter(symbol for index in even for symbol in pool[index])
    assert symbols["Fe"] == symbols["Ni"]
    assert sorted(match_distribution(pool, {"Fe": 1}, 100)) == list(range(25))


@pytest.mark.slow
def test_chgnet_relaxes_crystals_and_gives_first_moments(tmp_path):
    pytest.importorskip("chgnet")
    pytest.importorskip("pyxtal")
    chosen = rs.SearchSettings(space=ChemicalSpace(elements={"Fe": 1}, atoms=(1, 1)), attempts=2, seed=1, steps=60)
    found, _ = rs.random_search(chosen, tmp_path / "x")
    assert -8.6 < found[0].details["calculator_energy_per_atom"] < -7.5
    assert found[0].magnetic_state == "FM" and 0.3 < found[0].structure.magmoms[0][2] < 3.0
