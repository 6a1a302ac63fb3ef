"""The decision after an iteration and its reason."""

from __future__ import annotations

from mmace_flows.learning.stop_rule import StopRule, brief_reason
from mmace_flows.schemas.loop import BranchErrors

RULE = StopRule(energy_rmse=0.01, forces_rmse=0.1, min_iterations=2, max_iterations=3)


def errors(energy: float, forces: float) -> dict[str, BranchErrors]:
    return {branch: BranchErrors(count=3, energy_rmse=energy, forces_rmse=forces) for branch in ("all", "FM", "AFM")}


def test_the_first_iteration_is_never_the_last() -> None:
    assert RULE.decide(1, errors(1e-4, 1e-4))[0] == "continue"


def test_small_errors_stop_the_loop() -> None:
    decision, reason = RULE.decide(2, errors(0.005, 0.05), errors(0.005, 0.05))
    assert decision == "stop"
    assert "within 10 meV/atom" in reason


def test_one_bad_branch_keeps_it_going_and_is_named() -> None:
    test = errors(0.005, 0.05)
    test["AFM"].energy_rmse = 0.03
    decision, reason = RULE.decide(2, test)
    assert decision == "continue"
    assert "AFM energy 30.0 meV/atom (test set)" in reason
    assert "FM energy 5" not in reason


def test_errors_on_fresh_labels_count_and_so_does_nan() -> None:
    assert "fresh labels" in RULE.decide(2, errors(0.005, 0.05), errors(0.05, 0.05))[1]
    assert RULE.decide(2, errors(float("nan"), 0.05))[0] == "continue"
    assert RULE.decide(2, {})[0] == "continue"


def test_the_last_iteration_stops_and_says_what_is_missing() -> None:
    decision, reason = RULE.decide(3, errors(0.02, 0.05))
    assert decision == "stop"
    assert "last of 3" in reason
    assert "20.0 meV/atom" in reason


def test_the_short_reason_names_the_two_worst() -> None:
    test = errors(0.02, 0.15)
    test["AFM"].forces_rmse = 0.9
    test["NM"] = BranchErrors(count=1, energy_rmse=float("nan"), forces_rmse=0.01)
    reason = RULE.decide(3, test, errors(0.03, 0.2))[1]
    assert reason.count("; ") == 9
    short = brief_reason(reason)
    assert short == (
        "last of 3 iterations; still over tolerance: NM energy nan meV/atom (test set); "
        "AFM forces 900 meV/Å (test set); and 7 more"
    )
    assert len(short) <= 160
    for whole in (RULE.decide(3, errors(0.001, 0.15))[1], "every branch is within 10 meV/atom", "iteration 1 of 2"):
        assert brief_reason(whole) == whole
