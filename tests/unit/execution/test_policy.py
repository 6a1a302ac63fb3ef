"""Which worker takes which job, for jobs of the recipe and for jobs that jobs make."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fireworks import FWAction, FWorker
from jobflow import Flow, Job, Response, job, run_locally
from jobflow.managers.fireworks import flow_to_workflow
from maggma.stores import MemoryStore
from pydantic import ValidationError

from mmace_flows.execution.policy import BOOKKEEPING, DFT, TRAINING, Rules, RulesOfCampaigns, clock, needs_of, spec
from mmace_flows.execution.recipe import load_recipe
from mmace_flows.labels.gpaw_makers import GPAWLabelMaker
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.needs import Needs, NeedsChange

FENI = Path(__file__).parents[3] / "workflows" / "feni.py"


def workflow_needs(flow: Flow, rules: Rules) -> dict[str, Needs]:
    """Needs by stage; what stands in the fireworks is what the rules say."""
    workflow = flow_to_workflow(flow, store=None)
    found = rules.assign(workflow)
    for firework in workflow.fws:
        wanted = spec(found[firework.name.partition(":")[0]])
        assert {key: firework.spec[key] for key in wanted} == wanted
    return found


def test_every_stage_of_the_feni_campaign_goes_to_its_kind_of_worker() -> None:
    recipe = load_recipe(FENI)
    settings = recipe.settings("tiny")
    rules = Rules.of(settings.model_dump(mode="json"), recipe.estimate(settings))
    needs = workflow_needs(recipe.build(settings, "c"), rules)
    assert {stage: one.category for stage, one in needs.items()} == {
        "relax": "cpu", "label": "cpu", "reference": "cpu", "data set": "cpu",
        "train": "gpu", "bain path": "gpu", "evaluate": "cpu", "next": "gpu",
    }  # fmt: skip
    assert needs["train"].resumes and needs["relax"].resumes and not needs["label"].resumes
    # core-seconds of the estimate, shared among the cores of the job
    assert needs["label"].seconds == 8.0 and needs["train"].seconds == 5.0 / needs["train"].cores
    sys.modules.pop("feni", None)


def test_a_preset_changes_needs_and_what_is_misspelt_is_named() -> None:
    estimate = CostEstimate(stages=[StageEstimate(stage="label", jobs=1, core_seconds_per_job=100.0)])
    rules = Rules.of({"needs": {"label": {"cores": 4}, "more": {"category": "gpu", "gpus": 1}}}, estimate)
    needs = workflow_needs(Flow([_named(grow(1), "label: a"), _named(grow(1), "more: a")]), rules)
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


def memory_store(key: str) -> MemoryStore:
    store = MemoryStore(key=key)
    store.connect()
    return store


def _named(one: Job, name: str) -> Job:
    one.name = name
    return one


def test_jobs_that_jobs_make_have_needs_too(memory_jobstore) -> None:
    """Also of stages that nobody foresaw, and when the database is gone by then: rules are read before the job runs."""
    campaigns = memory_store("campaigns")
    campaigns.update(
        [{"campaign": "c", "settings": {"needs": {"label": {"cores": 3}}}, "estimate": None}], key="campaign"
    )
    rules = RulesOfCampaigns()
    rules.learn(SimpleNamespace(collection=lambda name: campaigns._collection), "c")  # type: ignore[arg-type]
    campaigns.close()
    first = _named(grow(1), "grow: a")
    first.update_metadata({"campaign": "c"}, dynamic=True)
    made = first.run(memory_jobstore).replace
    action = FWAction(detours=[flow_to_workflow(made, store=None)])
    rules.assign(action)
    found = {one.name: one.spec for one in action.detours[0].fws}
    assert found["label: b"]["needs"]["cores"] == 3 and found["relabel: c"]["needs"]["cores"] == 1
    assert found["new"]["_category"] == "cpu", "a job without a category would wait for ever"


def test_makers_of_other_rooms() -> None:
    from mmace_flows.screening.flow import ScreeningMaker

    maker = ScreeningMaker()
    assert needs_of(maker.predict("c", [], [])).category == "gpu"
    assert needs_of(maker.train_maker.make_committee("c", [], 1)[0]) == TRAINING
    assert needs_of(maker.collect("c", [])) == BOOKKEEPING
    assert needs_of(GPAWLabelMaker().run(None, "c")) == DFT  # type: ignore[arg-type]


def test_the_same_jobs_run_without_a_queue() -> None:
    """`run_locally` of jobflow knows nothing of needs, and does not mind."""
    flow = Flow([_named(grow(1), "grow: a")])
    Rules().assign(flow_to_workflow(flow, store=None))
    outputs = [one[1].output for one in run_locally(flow, ensure_success=True, log=False).values() if 1 in one]
    assert {2, 3, 4} <= set(outputs)


@pytest.fixture
def memory_jobstore():
    from jobflow import JobStore

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
