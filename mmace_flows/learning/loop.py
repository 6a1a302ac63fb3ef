"""The active-learning loop: a chain of small jobs that hand on one `LoopState`.

One iteration is

    labels ──► data set ──► train ──► bain path ──► evaluate ──► next
                                                                  │ "continue": replaced by new labels and one more
                                                                  ▼ iteration, else it hands on the last state
                                                                 end

Jobs get label keys and model hashes, never files: any of them may run on another machine, and any of them can be
started over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobflow import Flow, Job, Maker, Response, job

from mmace_flows.execution.hand_on import hand_on
from mmace_flows.learning.dataset import DataSet, DataSetSettings, build_dataset, read_labels
from mmace_flows.learning.sampling import SamplingSettings, propose
from mmace_flows.learning.selection import uncertainty_for
from mmace_flows.learning.state import build_state, save_state
from mmace_flows.learning.stop_rule import StopRule
from mmace_flows.learning.train_maker import TrainMaker
from mmace_flows.properties.bain import BainPathMaker
from mmace_flows.schemas.structure import Candidate


@dataclass
class ActiveLearningMaker(Maker):
    """The loop, from the first labels to the decision to stop.

    ``label_maker`` makes the label job of one candidate: ``make(candidate, campaign)``, named after its ``stage``, with
    an output that names the ``label_key``. Everything else has defaults.
    """

    label_maker: Maker
    name: str = "active learning"
    dataset: DataSetSettings = field(default_factory=DataSetSettings)
    train_maker: TrainMaker = field(default_factory=TrainMaker)
    bain_maker: BainPathMaker = field(default_factory=BainPathMaker)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    stop_rule: StopRule = field(default_factory=StopRule)

    def make(self, campaign: str, labels: Sequence[Any], bain: Sequence[Any]) -> Flow:
        """The loop from its first iteration.

        Parameters: ``labels`` outputs of the jobs that label the initial data; ``bain`` outputs of those that label the
        Bain path, as `label_keys` reads them.
        """
        return self.iteration(campaign, labels, bain)

    def iteration(
        self, campaign: str, labels: Sequence[Any], bain: Sequence[Any], previous: dict[str, Any] | None = None
    ) -> Flow:
        """One iteration and, by its last job, all that follow. ``previous`` is the `LoopState` before, if any."""
        number = previous["iteration"] + 1 if previous else 1
        dataset = self.collect(list(labels), list(bain), previous)
        training = self.train_maker.make_committee(campaign, dataset.output, _committee(previous))
        models = [one.output for one in training]
        path = self.bain_maker.make(training[0].output["model_hash"], dataset.output["bain_keys"])
        evaluation = self.evaluate(campaign, dataset.output, models, path.output, previous)
        following = self.advance(campaign, evaluation.output)
        _name(dataset, "data set", number)
        for member, one in enumerate(training):
            _name(one, "train", number, f", member {member + 1}" if len(training) > 1 else "")
        _name(path, "bain path", number)
        _name(evaluation, "evaluate", number)
        _name(following, "next", number)
        jobs = [dataset, *training, path, evaluation, following]
        return Flow(jobs, output=following.output, name=f"iteration {number}")

    def label_jobs(self, candidates: Sequence[Candidate], campaign: str, stage: str = "label") -> list[Job]:
        """A label job per candidate, counted under ``stage``."""
        maker: Any = replace(self.label_maker, stage=stage)  # type: ignore[call-arg]
        return [maker.make(candidate, campaign=campaign) for candidate in candidates]

    @job
    def collect(self, labels: list[Any], bain: list[Any], previous: dict[str, Any] | None) -> dict[str, Any]:
        """The `DataSet` of this iteration: what was asked for before and the new ``labels``."""
        from mmace_flows.execution.stores import open_stores

        store = open_stores().labels
        before = DataSet(**previous["details"]["dataset"]) if previous else None
        known = [*before.training_keys, *before.test_keys, *before.set_aside] if before else []
        bain_keys = before.bain_keys if before else label_keys(bain)
        own = [key for key in dict.fromkeys([*known, *label_keys(labels)]) if key not in set(bain_keys)]
        return build_dataset(read_labels(store, own), read_labels(store, bain_keys), self.dataset, before).model_dump()

    @job
    def evaluate(
        self,
        campaign: str,
        dataset: dict[str, Any],
        models: list[dict[str, Any]],
        bain: dict[str, Any],
        previous: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Errors per branch and the decision: the `LoopState`, which is also written to the store."""
        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
        state = build_state(self, campaign, DataSet(**dataset), models, bain, previous, stores)
        save_state(state, stores)
        return state.model_dump()

    @job
    def advance(self, campaign: str, state: dict[str, Any]) -> Response[dict[str, Any]]:
        """Stop, or sample new structures with the model, label them, and go into the next iteration."""
        from mmace import from_bytes
        from mmace_flows.execution.stores import open_stores

        if state["decision"] == "stop":
            return Response(output=state)
        stores = open_stores()
        number = state["iteration"] + 1
        model, _ = from_bytes(stores.load_model(state["model_hash"]), f"model {state['model_hash']}")

        def progress(event: dict[str, Any]) -> None:
            if event["step"] == event["steps"]:
                message = (
                    f"iteration {number}: walk {event['walk'] + 1} done, {100 * event['acceptance']:.0f} % accepted"
                )
                stores.event(campaign, "sample", message, walk=event)

        uncertainty = None
        if self.sampling.selection == "uncertainty":
            hashes = _committee(state)
            members = [from_bytes(stores.load_model(key), f"model {key}")[0].eval() for key in hashes]
            labels = read_labels(stores.labels, state["training_keys"])
            uncertainty = uncertainty_for(model.eval(), members, labels)
        candidates, details = propose(model.eval(), self.sampling, number, progress, uncertainty)
        stores.event(campaign, "sample", f"iteration {number}: {len(candidates)} new structures to label")
        jobs = self.label_jobs(candidates, campaign)
        state["details"]["sampling"] = details
        rest = self.iteration(campaign, [one.output for one in jobs], [], state)
        result = hand_on(rest, f"next: result from iteration {number} on")
        return Response(replace=Flow([*jobs, rest, result], name=f"iteration {number}"))


def label_keys(outputs: Any) -> list[str]:
    """Label keys in outputs of label jobs, each key once.

    An output is a key, something that names its ``label_key``, something that lists ``labels``, or a list of these.
    """
    if isinstance(outputs, str):
        return [outputs]
    if isinstance(outputs, dict):
        return label_keys(outputs["labels"]) if "labels" in outputs else [outputs["label_key"]]
    if isinstance(outputs, list | tuple):
        return list(dict.fromkeys(key for output in outputs for key in label_keys(output)))
    raise TypeError(f"output of a label job is {type(outputs).__name__}; expected a label key or what names one")


def _committee(previous: dict[str, Any] | None) -> list[str]:
    return list(previous["details"]["committee"]) if previous else []


def _name(one: Job, stage: str, number: int, detail: str = "") -> None:
    """The part before the colon is the stage that progress is counted by."""
    one.name = f"{stage}: iteration {number}{detail}"
