"""What screening computes next, when it ends, and how its ranking is judged."""

from __future__ import annotations

import numpy as np
import pytest
from anisotropy_samples import run, structure
from hypothesis import given
from hypothesis import strategies as st

from mmace.errors import UserError
from mmace_flows.schemas.screening import Ranked
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.screening import scores
from mmace_flows.screening.prospects import collect_prospects, crystals_of, first_runs
from mmace_flows.screening.rounds import held_out_scores, rank
from mmace_flows.screening.rule import ScreeningRule, split_crystals


def row(name: str, predicted: float | None, spread: float | None = 0.0, **changes: object) -> Ranked:
    details = {"formula": "FePt", "ordering": "FM", "crystal": name, **changes}
    return Ranked(prospect_id=name, predicted=predicted, spread=spread, **details)


def candidate(given: MagneticStructure, state: str = "FM") -> dict:
    return Candidate(structure=given, operation="test", magnetic_state=state).model_dump(mode="json")


def flipped(given: MagneticStructure) -> MagneticStructure:
    moments = np.array(given.magmoms)
    moments[-1] *= -1.0
    return given.model_copy(update={"magmoms": moments.tolist()})


PAIRS = [["Fe", "Pt"], ["Fe", "Co"], ["Fe", "Ni"], ["Co", "Pt"], ["Co", "Ni"], ["Ni", "Pt"], ["Mn", "Pt"], ["Mn", "Ni"]]


def crystals(count: int) -> list[MagneticStructure]:
    return [structure(pair) for pair in PAIRS[:count]]


def sources(count: int) -> list[dict]:
    made = [candidate(one) for one in crystals(count)]
    return [{"candidates": made}, {"candidates": [candidate(flipped(one), "AFM") for one in crystals(count)]}]


def test_choice_is_the_best_and_then_the_uncertain():
    rows = [row("a", 5.0, 0.1), row("b", 4.0, 0.1), row("c", 3.0, 0.2), row("d", 1.0, 2.0), row("e", 0.5, 3.0)]
    assert ScreeningRule(best=2, uncertain=2).choose(rows, runs=0) == ["a", "b", "e", "d"]


def test_uncertain_ones_are_of_crystals_that_dft_has_not_seen_if_there_are_any():
    rows = [
        row("best", 5.0, 0.1, crystal="FePt"),
        row("other ordering of it", 4.0, 9.0, crystal="FePt"),
        row("known", 3.0, computed=3.0, crystal="FeCo"),
        row("other ordering of a known one", 2.0, 8.0, crystal="FeCo"),
        row("new", 0.1, 0.2),
        row("new too", 0.0, 0.3),
    ]
    assert ScreeningRule(best=1, uncertain=1).choose(rows, runs=0) == ["best", "new too"]
    assert ScreeningRule(best=1, uncertain=3).choose(rows, runs=0)[1:] == ["new too", "new", "other ordering of it"]


def test_choice_leaves_out_what_is_known_held_out_or_not_predicted():
    rows = [
        row("known", 9.0, computed=8.0),
        row("held", 8.0, held_out=True),
        row("foreign", None),
        row("a", 1.0),
    ]
    assert ScreeningRule(best=5, uncertain=5).choose(rows, runs=0) == ["a"]


def test_choice_keeps_to_the_budget():
    rows = [row(str(number), float(number)) for number in range(10)]
    rule = ScreeningRule(best=4, uncertain=4, max_runs=20)
    assert rule.choose(rows, runs=17) == ["9", "8", "7"]
    assert rule.choose(rows, runs=25) == []


def test_a_budget_that_leaves_nothing_to_train_on_is_refused_before_any_dft():
    with pytest.raises(ValueError, match="max_runs 5 leaves fewer than two runs to train on beside 4 held-out"):
        ScreeningRule(max_runs=5)
    rule = ScreeningRule(max_runs=6)
    found = collect_prospects("c", sources(8), rule, 1000)
    held = {one.prospect_id: one.held_out for one in found}
    assert [held[key] for key in first_runs(found, rule)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize(
    ("number", "overlap", "runs", "left", "guesses", "decision", "said"),
    [
        (1, None, 10, 5, 9, "continue", "round 1 of at least 2"),
        (2, 0.95, 10, 5, 0, "stop", "stable"),
        (2, 0.95, 10, 5, 3, "continue", "95 % of the top 10 stayed, 3 of them not computed by DFT"),
        (2, 0.5, 10, 5, 0, "continue", "50 %"),
        (4, 0.5, 10, 5, 1, "stop", "last of 4 rounds; 50 % of the top 10 stayed, 1 of them not computed by DFT"),
        (4, None, 10, 5, 0, "stop", "last of 4 rounds"),
        (2, 0.5, 200, 5, 2, "stop", "budget of 200"),
        (1, None, 10, 0, 0, "stop", "every ordering"),
    ],
)
def test_decision(number, overlap, runs, left, guesses, decision, said):
    found, reason = ScreeningRule().decide(number, overlap, runs, left, guesses)
    assert found == decision
    assert said in reason


def test_prospects_are_distinct_and_a_crystal_is_held_out_whole():
    twice = [*sources(8), *sources(8)]
    nothing = {"candidates": [candidate(structure(["Pt", "Pt"], moment=0.0), "NM")]}
    found = collect_prospects("c", [*twice, nothing], ScreeningRule(held_out=3), 1000)
    assert len(found) == 16
    assert len({one.prospect_id for one in found}) == 16
    assert len({one.crystal for one in found}) == 8
    held = {one.crystal for one in found if one.held_out}
    assert len(held) == 3
    assert sum(one.crystal in held for one in found) == 6 == sum(one.held_out for one in found)


def test_orderings_in_larger_cells_are_the_same_crystal():
    plain = Candidate(structure=crystals(1)[0], operation="test", magnetic_state="FM")
    cell = np.array(plain.structure.cell)
    doubled = MagneticStructure(
        symbols=plain.structure.symbols * 2,
        positions=[*plain.structure.positions, *(np.array(plain.structure.positions) + cell[2]).tolist()],
        cell=[*cell[:2].tolist(), (2 * cell[2]).tolist()],
        magmoms=[*plain.structure.magmoms, *(-np.array(plain.structure.magmoms)).tolist()],
    )
    by_matching = Candidate(structure=doubled, operation="test", magnetic_state="AFM")
    by_parent = Candidate(structure=crystals(5)[4], operation="test", magnetic_state="FM", parent="p")
    sibling = Candidate(structure=crystals(8)[7], operation="test", magnetic_state="FM", parent="p")
    first, second, third, fourth = crystals_of([plain, by_matching, by_parent, sibling])
    assert first == second
    assert third == fourth != first


def test_same_crystals_are_held_out_when_others_come():
    rule = ScreeningRule(held_out=4)
    parents = [str(number) for number in range(30)]
    first, _ = split_crystals(parents[:20], rule)
    again, _ = split_crystals(parents[:20][::-1], rule)
    other, _ = split_crystals(parents[:20], rule.model_copy(update={"seed": 1}))
    assert first == again
    assert first != other


def test_first_runs_go_crystal_by_crystal():
    rule = ScreeningRule(held_out=2, initial=8)
    found = collect_prospects("c", sources(8), rule, 1000)
    by_id = {one.prospect_id: one for one in found}
    chosen = [by_id[key] for key in first_runs(found, rule)]
    assert len(chosen) == 10
    assert [one.held_out for one in chosen] == [True] * 2 + [False] * 8
    assert len({one.crystal for one in chosen[2:8]}) == 6, "every crystal once before any twice"


def test_first_runs_go_round_the_chemical_systems():
    iron_platinum = [structure(["Fe", "Pt"], scale) for scale in (1.0, 1.15, 1.3, 1.45)]
    others = [structure(["Fe", "Co"]), structure(["Co", "Pt"])]
    for seed in range(5):
        rule = ScreeningRule(held_out=0, initial=3, seed=seed)
        found = collect_prospects(
            "c", [{"candidates": [candidate(one) for one in [*iron_platinum, *others]]}], rule, 99
        )
        formulas = {one.prospect_id: one.formula for one in found}
        assert {formulas[key] for key in first_runs(found, rule)} == {"FePt", "CoFe", "CoPt"}


def test_too_few_crystals_is_one_line():
    with pytest.raises(UserError, match="2 crystals have moments"):
        collect_prospects("c", sources(2), ScreeningRule(), 1000)


def test_rank_by_dft_where_known_and_why_nothing_came():
    found = collect_prospects("c", sources(4)[:1], ScreeningRule(held_out=0), 1000)
    ids = [one.prospect_id for one in found]
    predicted = {"p0": (1.0, 0.1), "p1": (9.0, 0.1), "p2": (2.0, None)}
    keys = {ids[0]: "p0", ids[1]: "p1", ids[2]: "p2"}
    good = run(found[0].candidate.structure, k1_volume=0.01)
    bad = run(found[2].candidate.structure).model_copy(update={"status": "failed", "error": "SCF did not converge"})
    rows, failed = rank(ScreeningRule(quantity="k1"), found, keys, predicted, {ids[0]: good, ids[2]: bad})
    volume = abs(np.linalg.det(found[0].candidate.structure.cell))
    assert rows[0].prospect_id == ids[0]
    assert rows[0].computed == pytest.approx(0.01 / volume * 160_217.6634, rel=1e-6)
    assert [one.prospect_id for one in rows] == [ids[0], ids[1], ids[2], ids[3]]
    assert failed == {ids[2]: "SCF did not converge"}


def under(states: list[tuple[str, str | None]]) -> tuple[list[Ranked], dict[str, str]]:
    """The ranking of one crystal with orderings (asked, reached by DFT; None: not computed)."""
    asked = [candidate(structure(["Fe", "Pt"], 1.0 + 0.001 * n), state) for n, (state, _) in enumerate(states)]
    found = collect_prospects(
        "c", [{"candidates": [*asked, *sources(4)[0]["candidates"]]}], ScreeningRule(held_out=0), 1000
    )
    ids = [one.prospect_id for one in found]
    assert len({one.crystal for one in found[: len(states)]}) == 1
    runs = {
        ids[n]: run(found[n].candidate.structure, k1_volume=0.01 * (n + 1)).model_copy(
            update={"magnetic_state_reached": reached}
        )
        for n, (_, reached) in enumerate(states)
        if reached is not None
    }
    keys = {key: f"p{n}" for n, key in enumerate(ids)}
    predicted = {f"p{n}": (100.0 + n, 0.1) for n in range(len(ids))}
    rows, failed = rank(ScreeningRule(quantity="k1"), found, keys, predicted, runs)
    named = {row.prospect_id: row for row in rows}
    assert rows[-1].best is None or not failed, "orderings that DFT left come last"
    return [named[key] for key in ids[: len(states)]], {str(ids.index(key)): why for key, why in failed.items()}


def test_a_run_counts_for_the_ordering_in_which_it_ended():
    (ferri, ferro), failed = under([("FiM", "FM"), ("FM", None)])
    assert ferri.best is None and ferri.became == "FM" and ferri.computed is None
    assert ferro.computed == pytest.approx(0.01 / abs(np.linalg.det(structure(["Fe", "Pt"], 1.0).cell)) * 160_217.6634)
    assert failed == {"0": "DFT ended in FM"}


def test_a_run_of_the_ferromagnet_itself_is_not_replaced():
    (ferri, ferro), _ = under([("FiM", "FM"), ("FM", "FM")])
    assert ferri.best is None
    assert ferro.computed == pytest.approx(
        0.02 / abs(np.linalg.det(structure(["Fe", "Pt"], 1.001).cell)) * 160_217.6634
    )


def test_a_state_that_nobody_asked_for_has_no_prediction():
    (only,), failed = under([("FM", "FiM")])
    assert (only.ordering, only.predicted, only.became) == ("FiM", None, None) and only.computed is not None
    assert not failed
    assert held_out_scores([only.model_copy(update={"held_out": True})], "k1")["count"] == 0


def test_two_runs_that_change_places_are_both_told():
    rows, failed = under([("FM", "FiM"), ("FiM", "FM")])
    assert [row.ordering for row in rows] == ["FiM", "FM"] and not failed
    assert all(row.computed is not None for row in rows)


def test_one_state_is_ranked_once():
    rows, failed = under([("AFM", "FM"), ("FiM", "FM")])
    assert [row.became for row in rows] == [None, "FM"] and rows[0].ordering == "FM"
    assert failed == {"1": "DFT ended in FM"}


def test_scores_of_held_out_crystals_only():
    rows = [row(str(n), float(n), held_out=True, computed=float(n) ** 2) for n in range(5)]
    rows += [row("trained", 100.0, computed=-100.0)]
    found = held_out_scores(rows, "k1")
    assert found["count"] == 5
    assert found["spearman"] == pytest.approx(1.0)
    assert found["recall"] == 1.0


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=30, unique=True))
def test_scores_of_a_perfect_and_of_a_reversed_ranking(computed):
    assert scores.spearman(computed, computed) == pytest.approx(1.0)
    assert scores.spearman([-value for value in computed], computed) == pytest.approx(-1.0)
    assert scores.recall(computed, computed) == 1.0
    assert scores.relative_error(computed, computed, 1e-3) == 0.0


def test_scores_of_too_little():
    assert scores.spearman([1.0, 2.0], [1.0, 2.0]) is None
    assert scores.spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert scores.recall([], []) is None
    assert scores.relative_error([], [], 1.0) is None
    assert scores.overlap(["a"], []) is None
    assert scores.overlap(["a", "b"], ["b", "c"]) == 0.5
