"""The screening campaign: a chain of small jobs that hand on one `ScreeningState`.

One round is

    DFT with spin–orbit coupling ──► train ──► predict, in chunks ──► rank ──► next
                                                                              │ "continue": replaced by DFT runs of
                                                                              ▼ what was chosen and one more round
                                                                             end

Jobs get ids, keys and model hashes, never files or long lists of structures: any of them may run on another machine,
and any of them can be started over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jobflow import Flow, Job, Maker, Response, job

from mmace_flows.execution.hand_on import hand_on
from mmace_flows.labels.spin_orbit_maker import SpinOrbitMaker
from mmace_flows.learning.anisotropy_train_maker import AnisotropyTrainMaker
from mmace_flows.properties.anisotropy_prediction import PredictionSettings
from mmace_flows.schemas.screening import ScreeningState
from mmace_flows.screening.prospects import collect_prospects, first_runs, read_prospects
from mmace_flows.screening.rounds import build_state, predict_prospects, ready_keys
from mmace_flows.screening.rule import ScreeningRule


@dataclass
class ScreeningMaker(Maker):
    """From candidates to a ranking that is stable, or to the end of the budget.

    ``spin_orbit_maker`` makes the DFT runs, ``train_maker`` a committee from what they gave, ``prediction`` says how
    the committee judges every ordering, ``rule`` what is computed next and when it ends. ``chunk`` orderings are
    predicted by one job; at most ``max_prospects`` are looked at.
    """

    name: str = "screening"
    spin_orbit_maker: SpinOrbitMaker = field(default_factory=SpinOrbitMaker)
    train_maker: AnisotropyTrainMaker = field(default_factory=AnisotropyTrainMaker)
    prediction: PredictionSettings = field(default_factory=PredictionSettings)
    rule: ScreeningRule = field(default_factory=ScreeningRule)
    chunk: int = 200
    max_prospects: int = 20_000

    def make(self, campaign: str, sources: Sequence[Any]) -> Flow:
        """``sources``: outputs of jobs of `StructuresMaker`, magnetic orderings on crystals."""
        collected = self.collect(campaign, list(sources))
        collected.name = "prospects: collect"
        return Flow([collected], output=collected.output, name="screening")

    @job
    def collect(self, campaign: str, sources: list[dict[str, Any]]) -> Response[Any]:
        """Keep every distinct ordering as a prospect, choose what DFT computes first, and begin round 1."""
        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
        found = collect_prospects(campaign, sources, self.rule, self.max_prospects)
        for start in range(0, len(found), 1000):
            part = [one.model_dump(mode="json") for one in found[start : start + 1000]]
            stores.prospects.update(part, key="prospect_id")
        first = first_runs(found, self.rule)
        crystals = len({one.crystal for one in found})
        told = f"{len(found)} orderings of {crystals} crystals; DFT begins with {len(first)}"
        stores.event(campaign, "prospects", told, ends_job="prospects: collect")
        return self._round(campaign, [one.prospect_id for one in found], first, None)

    def _round(
        self, campaign: str, prospects: Sequence[str], chosen: Sequence[str], previous: dict[str, Any] | None
    ) -> Response[Any]:
        """The running job, replaced by DFT runs of ``chosen`` and the jobs of the round that they make possible."""
        from mmace_flows.execution.stores import open_stores

        number = previous["round"] + 1 if previous else 1
        candidates = {one.prospect_id: one.candidate for one in read_prospects(open_stores(), chosen)}
        runs = {key: self.spin_orbit_maker.make(candidates[key], campaign) for key in chosen}
        gathered = self.gather(campaign, {key: run.output for key, run in runs.items()}, previous)
        gathered.name = f"train: round {number}, runs"
        members = self.train_maker.make_committee(campaign, gathered.output["training_keys"], number)
        models = [one.output["model_hash"] for one in members]
        pieces = [list(prospects[start : start + self.chunk]) for start in range(0, len(prospects), self.chunk)]
        predictions = []
        for place, piece in enumerate(pieces):
            part = f"round {number}, {place + 1} of {len(pieces)}"
            made: Job = self.predict(campaign, piece, models, part)
            made.name = f"predict: {part}"
            predictions.append(made)
        ranked = self.rank(
            campaign, number, gathered.output, models, [made.output for made in predictions], list(prospects), previous
        )
        ranked.name = f"rank: round {number}"
        following = self.advance(campaign, ranked.output, list(prospects))
        following.name = f"next: round {number}"
        jobs: list[Flow | Job] = [*runs.values(), gathered, *members, *predictions, ranked, following]
        rest = Flow(jobs, output=following.output, name=f"round {number}")
        return Response(replace=Flow([rest, hand_on(rest, f"next: result from round {number} on")]))

    @job
    def gather(self, campaign: str, outputs: dict[str, Any], previous: dict[str, Any] | None) -> dict[str, Any]:
        """All runs so far, by prospect, and the keys of those that models may be trained on."""
        from mmace_flows.execution.stores import open_stores

        runs = dict(previous["runs"]) if previous else {}
        runs |= {key: output["spin_orbit_key"] for key, output in outputs.items()}
        return {"runs": runs, "training_keys": ready_keys(open_stores(), runs)}

    @job
    def predict(self, campaign: str, prospects: list[str], models: list[str], part: str) -> dict[str, Any]:
        """Predictions of one chunk, kept in the store; those that are there are not made again."""
        from mmace_flows.execution.stores import open_stores

        started = time.perf_counter()
        made = predict_prospects(open_stores(), campaign, prospects, models, self.prediction, part)
        return {"keys": made, "seconds": time.perf_counter() - started}

    @job
    def rank(
        self,
        campaign: str,
        number: int,
        gathered: dict[str, Any],
        models: list[str],
        predictions: list[dict[str, Any]],
        prospects: list[str],
        previous: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """The ranking, its errors on held-out crystals and the decision: the `ScreeningState`, also written to the
        store; the table that users ask is brought up to date."""
        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
        state = build_state(stores, self.rule, campaign, number, gathered, models, predictions, prospects, previous)
        stores.screening_states.update([state.model_dump(mode="json")], key="screening_id")
        return state.model_dump(mode="json")

    @job
    def advance(self, campaign: str, state: dict[str, Any], prospects: list[str]) -> Response[Any]:
        """Stop, or have DFT compute what was chosen and go into the next round."""
        known = ScreeningState.model_validate(state)
        if known.decision == "stop":
            return Response(output=state)
        return self._round(campaign, prospects, known.chosen, state)
