"""Which worker takes which job, for jobs of the recipe and for jobs that jobs make."""

import sys
from pathlib import Path

import pytest
from fireworks import FWorker
from jobflow import Flow, Job, Response, job
from jobflow.managers.fireworks import flow_to_workflow
from pydantic import BaseModel, ValidationError

from mmace_flows.execution.policy import BOOKKEEPING, DFT, assign_needs, clock, needs_of, spec, stage_needs
from mmace_flows.execution.recipe import load_recipe
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.needs import Needs, NeedsChange

FENI = Path(__file__).parents[3] / "workflows" / "feni.py"


def test_every_stage_of_the_feni_campaign_goes_to_its_kind_of_worker() -> None:
    recipe = load_recipe(FENI)
    settings = recipe.settings("tiny")
    estimate = recipe.estimate(settings)
    flow = recipe.build(settings, "c")
    needs = stage_needs(flow, settings, estimate)
    assert {stage: one.category for stage, one in needs.items()} == {
        "relax": "cpu", "label": "cpu", "reference": "cpu", "data set": "cpu",
        "train": "gpu", "bain path": "gpu", "evaluate": "cpu", "next": "gpu",
    }  # fmt: skip
    assert needs["train"].resumes and needs["relax"].resumes and not needs["label"].resumes
    # core-seconds of the estimate, shared among the cores of the job
    assert needs["label"].seconds == 8.0 and needs["train"].seconds == 5.0 / needs["train"].cores
    assign_needs(flow, needs)
    for firework in flow_to_workflow(flow, store=None).fws:
        wanted = needs[firework.name.partition(":")[0]]
        assert firework.spec["_category"] == wanted.category
        assert firework.spec["needs"]["least_seconds"] == wanted.least_seconds
        assert firework.spec["_queueadapter"]["ntasks"] == wanted.cores
    sys.modules.pop("feni", None)


def test_a_preset_changes_needs_and_what_is_misspelt_is_named() -> None:
    class Settings(BaseModel):
        needs: dict[str, NeedsChange] = {"label": NeedsChange(cores=4), "more": NeedsChange(category="gpu", gpus=1)}

    estimate = CostEstimate(stages=[StageEstimate(stage="label", jobs=1, core_seconds_per_job=100.0)])
    needs = stage_needs(Flow([_named(grow(1), "label: a")]), Settings(), estimate)
    assert needs["label"] == BOOKKEEPING.model_copy(update={"cores": 4, "seconds": 25.0})
    assert needs["more"].category == "gpu"
    with pytest.raises(ValidationError, match="core"):
        NeedsChange(core=1)  # type: ignore[call-arg]


def test_needs_do_not_make_another_campaign() -> None:
    from mmace_flows.execution.campaign import settings_hash

    recipe = load_recipe(FENI)
    plain, changed = recipe.settings("tiny"), recipe.settings("tiny", ["needs={label: {cores: 4}}"])
    assert changed.needs["label"].cores == 4  # type: ignore[attr-defined]
    assert settings_hash(recipe, plain) == settings_hash(recipe, changed)
    sys.modules.pop("feni", None)


@job
def grow(number: int) -> Response[int]:
    """Makes two jobs: one of a stage with needs of its own, and one of a stage that nobody foresaw."""
    if number > 1:
        return Response(output=number)
    return Response(replace=Flow([_named(grow(2), "label: b"), _named(grow(3), "relabel: c"), _named(grow(4), "new")]))


def _named(one: Job, name: str) -> Job:
    one.name = name
    return one


def test_jobs_that_jobs_make_have_the_needs_of_their_stage(memory_jobstore) -> None:
    flow = Flow([_named(grow(1), "grow: a")])
    label, again = Needs(category="gpu", cores=2), Needs(category="cpu", cores=3)
    assign_needs(flow, {"relabel": again, "label": label})
    (first,) = [one for one, _ in flow.iterflow()]
    assert first.config.manager_config == spec(BOOKKEEPING)
    replaced = first.run(memory_jobstore).replace
    found = {one.name: one.config.manager_config for one, _ in replaced.iterflow()}
    assert found["label: b"] == spec(label) and found["relabel: c"] == spec(again)
    assert found["new"] == spec(BOOKKEEPING), "a job without a category would wait for ever"


@pytest.fixture
def memory_jobstore():
    from jobflow import JobStore
    from maggma.stores import MemoryStore

    store = JobStore(MemoryStore())
    store.connect()
    return store


def test_fireworks_understands_the_category() -> None:
    assert FWorker(category=["cpu", "gpu"]).query["spec._category"] == {"$in": ["cpu", "gpu"]}
    assert "spec._category" not in FWorker().query, "on a laptop one worker takes all"


def test_needs() -> None:
    assert DFT.least_seconds == DFT.seconds
    assert Needs(seconds=1e5, resumes=True).least_seconds == 600.0
    assert Needs(seconds=30.0, resumes=True).least_seconds == 30.0
    assert [clock(s) for s in (59.6, 3600, 86400 * 2 + 61)] == ["00:01:00", "01:00:00", "48:01:01"]
    assert needs_of(_named(grow(1), "a")) == BOOKKEEPING
