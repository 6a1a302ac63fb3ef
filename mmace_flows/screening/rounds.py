"""One round of a screening campaign, against the stores: what models may train on, predictions, the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.labels.spin_orbit_runs import read_runs
from mmace_flows.learning.anisotropy_data import usable
from mmace_flows.properties.anisotropy_prediction import PredictionSettings
from mmace_flows.properties.anisotropy_prediction_maker import predict_chunk
from mmace_flows.properties.anisotropy_values import values_from_document
from mmace_flows.schemas.screening import Prospect, Ranked, ScreeningState
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.screening import scores
from mmace_flows.screening.builder import build_anisotropy
from mmace_flows.screening.prospects import read_prospects
from mmace_flows.screening.rule import ScreeningRule

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

SAME_STATE = 0.01  # relative difference of DFT values up to which two runs of a crystal ended in one state
ROWS = 500  # of the ranking that a state keeps besides those that DFT has computed
FLOORS = {"strength_mev_per_atom": 1e-3, "k1": 0.01, "hardness": 0.01}  # below it, errors count as absolute: 1 µeV/atom


def ready_keys(stores: Stores, runs: dict[str, str]) -> list[str]:
    """Keys of converged runs whose crystals are not held out: what models may be trained on."""
    held = {runs[one.prospect_id] for one in read_prospects(stores, list(runs)) if one.held_out}
    found = read_runs(stores.spin_orbit, list(dict.fromkeys(runs.values())))
    return [one.spin_orbit_key for one in usable(found) if one.spin_orbit_key not in held]


def predict_prospects(
    stores: Stores,
    campaign: str,
    ids: Sequence[str],
    models: Sequence[str],
    settings: PredictionSettings,
    part: str = "",
) -> dict[str, str]:
    """Prediction key of each prospect (id → key) that the models can judge; new predictions go to the store.

    ``part``: as of `predict_chunk`.
    """
    structures = [one.candidate.structure for one in read_prospects(stores, ids)]
    found = predict_chunk(stores, campaign, structures, models, settings, part=part)
    return {prospect: key for prospect, key in zip(ids, found.keys, strict=True) if key is not None}


def build_state(
    stores: Stores,
    rule: ScreeningRule,
    campaign: str,
    number: int,
    gathered: dict[str, Any],
    models: Sequence[str],
    predictions: Sequence[dict[str, Any]],
    prospects: Sequence[str],
    previous: dict[str, Any] | None,
) -> ScreeningState:
    """Rank, judge on held-out crystals, decide; the table that users ask is brought up to date."""
    keys = {key: value for one in predictions for key, value in one["keys"].items()}
    listed = read_prospects(stores, prospects)
    documents = {one.spin_orbit_key: one for one in read_runs(stores.spin_orbit, list(gathered["runs"].values()))}
    runs = {key: documents[value] for key, value in gathered["runs"].items()}
    ranking, failed = rank(rule, listed, keys, _predicted(stores, rule.quantity, list(keys.values())), runs)
    judged = held_out_scores(ranking, rule.quantity)
    first = [row for row in ranking if row.best is not None][: rule.top]
    top = [row.prospect_id for row in first]
    guesses = sum(row.computed is None and not row.held_out and row.prospect_id not in failed for row in first)
    stayed = scores.overlap(top, previous["top"] if previous else [])
    left = sum(row.computed is None and not row.held_out and row.prospect_id not in failed for row in ranking)
    decision, reason = rule.decide(number, stayed, len(runs), left, guesses)
    chosen = (
        rule.choose([row for row in ranking if row.prospect_id not in failed], len(runs))
        if decision == "continue"
        else []
    )
    if decision == "continue" and not chosen:
        decision, reason = "stop", "the models know no further ordering that DFT could compute"
    build_anisotropy(stores)
    _tell(stores, campaign, number, ranking, judged, reason)
    return ScreeningState(
        screening_id=f"{campaign}/{number}",
        campaign=campaign,
        round=number,
        quantity=rule.quantity,
        prospects=len(listed),
        crystals=len({one.crystal for one in listed}),
        ranking=[row for place, row in enumerate(ranking) if place < ROWS or row.computed is not None or row.became],
        top=top,
        models=list(models),
        runs=gathered["runs"],
        training_keys=list(gathered["training_keys"]),
        failed=failed,
        held_out=judged,
        overlap=stayed,
        dft_core_seconds=sum(one.wall_seconds or 0.0 for one in documents.values() if one.campaign == campaign),
        prediction_seconds=sum(one["seconds"] for one in predictions),
        decision=decision,
        reason=reason,
        chosen=chosen,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def rank(
    rule: ScreeningRule,
    prospects: Sequence[Prospect],
    keys: dict[str, str],
    predicted: dict[str, tuple[float | None, float | None]],
    runs: dict[str, SpinOrbitDocument],
) -> tuple[list[Ranked], dict[str, str]]:
    """Rows, best first (those of which nothing is known come last), and why DFT gave nothing: prospect id → reason.

    Parameters: ``keys`` prospect id → prediction key; ``predicted`` prediction key → value and spread. What DFT
    computed counts for the ordering in which it ended, as in the table that users ask.
    """
    rows, failed, ended = [], {}, {}
    for one in prospects:
        value, spread = predicted.get(keys.get(one.prospect_id, ""), (None, None))
        computed = None
        run = runs.get(one.prospect_id)
        if run is not None:
            try:
                found = values_from_document(run)
            except UserError as error:
                found, run = None, run.model_copy(update={"error": str(error)})
            computed = None if found is None else getattr(found, rule.quantity)
            if found is None:
                failed[one.prospect_id] = run.error or "DFT gave no energies"
            elif run.magnetic_state_reached not in (None, one.candidate.magnetic_state):
                ended[one.prospect_id] = str(run.magnetic_state_reached)
        rows.append(
            Ranked(
                prospect_id=one.prospect_id,
                formula=one.formula,
                ordering=one.candidate.magnetic_state,
                crystal=one.crystal,
                held_out=one.held_out,
                predicted=value,
                spread=spread,
                computed=computed,
            )
        )
    rows = _under_reached(rows, ended)
    failed |= {row.prospect_id: f"DFT ended in {row.became}" for row in rows if row.became is not None}
    rows.sort(key=lambda row: (row.best is None, -(row.best or 0.0)))
    return rows, failed


def _under_reached(rows: Sequence[Ranked], ended: dict[str, str]) -> list[Ranked]:
    """The rows with DFT's values under the orderings in which it ended, prospect id → that ordering.

    Where the crystal has that state already, the row is set aside: a ferromagnetic one, which takes the value if it has
    none, or another whose value is the same. Else the row becomes that state, of which no model said anything.
    """
    found = {row.prospect_id: row for row in rows}
    lost = [row for row in rows if row.prospect_id in ended]
    for row in lost:
        found[row.prospect_id] = row.model_copy(update={"became": ended[row.prospect_id], "computed": None})
    for row in lost:
        reached = ended[row.prospect_id]
        state = (row.crystal, reached, None)
        there = [one for one in found.values() if (one.crystal, one.ordering, one.became) == state]
        known = [one.computed for one in there if one.computed is not None]
        if reached == "FM" and there:  # a crystal has one ferromagnetic ordering, but many of the others
            if not known:
                found[there[0].prospect_id] = there[0].model_copy(update={"computed": row.computed})
        elif not any(abs(value - (row.computed or 0.0)) <= SAME_STATE * abs(value) for value in known):
            stated = {"ordering": reached, "predicted": None, "spread": None}
            found[row.prospect_id] = row.model_copy(update=stated)
    return list(found.values())


def held_out_scores(ranking: Sequence[Ranked], quantity: str) -> dict[str, float | None]:
    """Errors of predictions for held-out crystals that DFT has computed."""
    pairs = [
        (row.predicted, row.computed)
        for row in ranking
        if row.held_out and row.predicted is not None and row.computed is not None
    ]
    predicted, computed = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "count": float(len(pairs)),
        "spearman": scores.spearman(predicted, computed),
        "recall": scores.recall(predicted, computed),
        "relative_error": scores.relative_error(predicted, computed, FLOORS[quantity]),
    }


def _predicted(stores: Stores, quantity: str, keys: list[str]) -> dict[str, tuple[float | None, float | None]]:
    """Prediction key → value and spread of K1."""
    found = {}
    for start in range(0, len(keys), 1000):
        wanted = {"prediction_key": {"$in": keys[start : start + 1000]}}
        fields = ["prediction_key", f"values.{quantity}", "values.spread", "converged"]
        for one in stores.predictions.query(wanted, properties=fields):
            value = one["values"].get(quantity) if one.get("converged", True) else None
            usable = value is not None and np.isfinite(value)
            found[one["prediction_key"]] = (value if usable else None, one["values"].get("spread"))
    return found


def _tell(
    stores: Stores,
    campaign: str,
    number: int,
    ranking: Sequence[Ranked],
    judged: dict[str, float | None],
    reason: str,
) -> None:
    correlation = judged["spearman"]
    said = "no correlation yet" if correlation is None else f"Spearman {correlation:.2f}"
    best = ", ".join(
        f"{row.formula} {row.ordering} {row.best:.3g}{'' if row.computed is not None else ' (model)'}"
        for row in ranking[:3]
        if row.best is not None
    )
    line = f"round {number}: {best}; held out {judged['count']:.0f}, {said}; {reason}"
    stores.event(campaign, "rank", line, ends_job=f"rank: round {number}")
