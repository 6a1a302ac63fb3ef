"""Which kind of worker a job needs: the one place that says so, from the Maker of the job's stage.

A job's needs stand in its firework's spec: ``_category`` (FireWorks' word for the kind of worker), ``_queueadapter``
(what `qlaunch` in reservation mode asks the batch system for) and ``needs``, by which workers choose jobs that they can
finish. Jobs that are made later get them too, by their stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.queue import stage_of
from mmace_flows.schemas.needs import Needs, NeedsChange

if TYPE_CHECKING:
    from jobflow import Flow, Job
    from pydantic import BaseModel

    from mmace_flows.schemas.campaign import CostEstimate

# DFT: one core per calculation, many side by side, is what uses a node best; `needs` in a preset asks for more
DFT = Needs(category="cpu", cores=1, memory_gb=3.0, seconds=3600.0)
RELAXATION = DFT.model_copy(update={"seconds": 4 * 3600.0, "resumes": True})  # each step is a label in the store
TRAINING = Needs(category="gpu", cores=2, memory_gb=8.0, gpus=1, seconds=4 * 3600.0, resumes=True)
MODEL = Needs(category="gpu", cores=1, memory_gb=4.0, gpus=1, seconds=1800.0)  # walks and screening with a potential
BOOKKEEPING = Needs(category="cpu", cores=1, memory_gb=2.0, seconds=300.0)

# (class of the Maker or a base of it, method or None for all) → needs; the first that fits
POLICY: tuple[tuple[str, str | None, Needs], ...] = (
    ("RelaxMaker", None, RELAXATION),
    ("EngineMaker", None, DFT),
    ("SpinOrbitMaker", None, DFT),
    ("TrainMaker", None, TRAINING),
    ("BainPathMaker", None, MODEL),
    ("ActiveLearningMaker", "advance", MODEL),
)
ROOMS: dict[str, Needs] = {"mmace_flows.screening": MODEL}  # every Maker and job of these rooms


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


def stage_needs(flow: Flow, settings: BaseModel | None, estimate: CostEstimate | None) -> dict[str, Needs]:
    """Needs by stage: the policy's, with times of the estimate and the changes of the preset (its field ``needs``)."""
    found: dict[str, Needs] = {}
    for job, _ in flow.iterflow():
        found.setdefault(stage_of(job.name), needs_of(job))
    changes: Mapping[str, NeedsChange] = getattr(settings, "needs", None) or {}
    for stage, change in changes.items():
        found[stage] = found.get(stage, BOOKKEEPING).changed(change)
    for one in estimate.stages if estimate else []:
        change = changes.get(one.stage, NeedsChange())
        if one.stage in found and change.seconds is None and one.core_seconds_per_job > 0:
            cores = found[one.stage].cores
            found[one.stage] = found[one.stage].model_copy(update={"seconds": one.core_seconds_per_job / cores})
    return found


def assign_needs(flow: Flow, needs: Mapping[str, Needs]) -> None:
    """Write needs into all jobs of the flow, and into those that they will make."""
    _update(flow, BOOKKEEPING, None)
    # jobflow filters by a part of the name, and the last update counts: longer names of stages come later
    for stage in sorted(needs, key=len):
        _update(flow, needs[stage], f"{stage}:")


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


def _update(flow: Flow, needs: Needs, name_filter: str | None) -> None:
    # without pass_manager_config=False each new job would get the needs of the job that made it
    config = {"manager_config": spec(needs), "pass_manager_config": False}
    flow.update_config(config, name_filter=name_filter, attributes=list(config), dynamic=True)
