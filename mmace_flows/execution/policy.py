"""Which kind of worker a job needs: the one place that says so, from the Maker of the job.

A job's needs stand in its firework's spec: ``_category`` (FireWorks' word for the kind of worker), ``_queueadapter``
(what `qlaunch` in reservation mode asks the batch system for) and ``needs``, by which workers choose jobs that they can
finish. They are written whenever jobs enter the queue: at submission, and when a job makes further ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.queue import stage_of
from mmace_flows.schemas.campaign import CostEstimate
from mmace_flows.schemas.needs import Needs, NeedsChange

if TYPE_CHECKING:
    from fireworks import FWAction, Workflow
    from jobflow import Job

    from mmace_flows.execution.stores import Stores

# DFT: one core per calculation, many side by side, is what uses a node best; `needs` in a preset asks for more
DFT = Needs(category="cpu", cores=1, memory_gb=3.0, seconds=3600.0)
# what goes on where it was cut off: relaxations (each step is a label in the store), directions of a force-theorem run
LONG_DFT = DFT.model_copy(update={"seconds": 4 * 3600.0, "resumes": True})
TRAINING = Needs(category="gpu", cores=2, memory_gb=8.0, gpus=1, seconds=4 * 3600.0, resumes=True)
MODEL = Needs(category="gpu", cores=1, memory_gb=4.0, gpus=1, seconds=1800.0)  # walks and screening with a potential
STRUCTURES = Needs(category="cpu", cores=1, memory_gb=3.0, seconds=1800.0)
BOOKKEEPING = Needs(category="cpu", cores=1, memory_gb=2.0, seconds=300.0)

# (class of the Maker or a base of it, method or None for all) → needs; the first that fits
POLICY: tuple[tuple[str, str | None, Needs], ...] = (
    ("RelaxMaker", None, LONG_DFT),
    ("EngineMaker", None, DFT),
    ("SpinOrbitMaker", None, LONG_DFT),
    ("TrainMaker", None, TRAINING),
    ("AnisotropyTrainMaker", None, TRAINING),
    ("BainPathMaker", None, MODEL),
    ("AnisotropyPredictionMaker", None, MODEL),
    ("ActiveLearningMaker", "advance", MODEL),
    ("ScreeningMaker", "predict", MODEL),
    ("StructuresMaker", None, STRUCTURES),
)
ROOMS: dict[str, Needs] = {"atomate2.": DFT}  # Makers and jobs of other packages, by the beginning of their module


def needs_of(job: Job) -> Needs:
    """Needs by the job's Maker and method; `BOOKKEEPING` for what is not in the policy."""
    maker = job.maker
    kinds = {kind.__name__ for kind in type(maker).__mro__} if maker is not None else set()
    function = getattr(job.function, "__name__", "")
    for kind, method, needs in POLICY:
        if kind in kinds and method in (None, function):
            return needs
    module = type(maker).__module__ if maker is not None else getattr(job.function, "__module__", "")
    return next((needs for room, needs in ROOMS.items() if module.startswith(room)), BOOKKEEPING)


@dataclass(frozen=True)
class Rules:
    """The policy for one campaign: with the times of its estimate, and what its preset changes (its ``needs``)."""

    changes: Mapping[str, NeedsChange] = field(default_factory=dict)  # by stage
    core_seconds: Mapping[str, float] = field(default_factory=dict)  # of one job, by stage

    @classmethod
    def of(cls, settings: Mapping[str, Any], estimate: CostEstimate | None) -> Rules:
        """Rules of a campaign's settings, as its document has them, and of its estimate."""
        changes = {stage: NeedsChange.model_validate(one) for stage, one in (settings.get("needs") or {}).items()}
        stages = estimate.stages if estimate else []
        return cls(changes, {one.stage: one.core_seconds_per_job for one in stages if one.core_seconds_per_job > 0})

    def needs(self, job: Job) -> Needs:
        """Needs of a job."""
        stage = stage_of(job.name)
        found, change = needs_of(job), self.changes.get(stage, NeedsChange())
        found = found.changed(change)
        if change.seconds is None and stage in self.core_seconds:
            found = found.model_copy(update={"seconds": self.core_seconds[stage] / found.cores})
        return found

    def assign(self, workflow: Workflow) -> dict[str, Needs]:
        """Write needs into all jobs of a workflow; returns them by stage."""
        found: dict[str, Needs] = {}
        for firework in workflow.fws:
            job = firework.tasks[0].get("job") if firework.tasks else None
            if job is not None:
                needs = found[stage_of(job.name)] = self.needs(job)
                firework.spec.update(spec(needs))
        return found


class RulesOfCampaigns:
    """Rules of the campaigns whose jobs a process runs, read before the job runs: afterwards the server may be gone."""

    def __init__(self) -> None:
        self._known: dict[str, Rules] = {}

    def learn(self, stores: Stores, campaign: str) -> None:
        """Read the rules of a campaign; a flow that was submitted by hand has the policy's own."""
        found = stores.collection("campaigns").find_one({"campaign": campaign}, {"settings": 1, "estimate": 1}) or {}
        estimate = CostEstimate.model_validate(found["estimate"]) if found.get("estimate") else None
        self._known[campaign] = Rules.of(found.get("settings") or {}, estimate)

    def assign(self, action: FWAction) -> None:
        """Write needs into the jobs that a job made."""
        for workflow in [*(action.detours or []), *(action.additions or [])]:
            campaign = next((firework.spec.get("campaign") for firework in workflow.fws), None)
            self._known.get(str(campaign), Rules()).assign(workflow)


def spec(needs: Needs) -> dict[str, Any]:
    """What a firework's spec says about its needs."""
    adapter: dict[str, Any] = {
        "ntasks": needs.cores,
        "mem": f"{needs.memory_gb:.0f}G",
        "walltime": clock(1.5 * needs.seconds + 300.0),
    }
    if needs.gpus:
        adapter["gres"] = f"gpu:{needs.gpus}"
    values = {**needs.model_dump(), "least_seconds": needs.least_seconds}
    return {"_category": needs.category, "_queueadapter": adapter, "needs": values}


def clock(seconds: float) -> str:
    """``02:30:00``, as batch systems write wall times."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d}"
