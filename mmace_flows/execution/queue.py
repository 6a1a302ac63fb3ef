"""The FireWorks queue of a campaign: put a flow in, see where its jobs stand, why one failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobflow import Flow, Job
    from pymongo.collection import Collection

    from mmace_flows.execution.policy import Rules
    from mmace_flows.execution.stores import Stores

# FireWorks' states in a user's words
DONE = frozenset({"COMPLETED", "ARCHIVED"})
RUNNING = frozenset({"RUNNING"})
FAILED = frozenset({"FIZZLED"})
SKIPPED = frozenset({"DEFUSED"})  # a job asked for its children to be left out
# what the status reads stands in these indexes, so that it need not read the jobs themselves
STATUS_INDEX = [
    ("spec.campaign", 1), ("state", 1), ("fw_id", 1), ("name", 1), ("spec._category", 1), ("spec.needs.cores", 1),
]  # fmt: skip
COST_INDEX = [("fw_id", 1), ("state", 1), ("runtime_secs", 1)]
UNFINISHED = frozenset({"READY", "RESERVED", "RUNNING"})  # work that a worker has or could take


@dataclass(frozen=True)
class QueuedJob:
    """One job of the queue."""

    firework: int
    name: str
    state: str
    cores: int = 1

    @property
    def stage(self) -> str:
        """The part of the name before the colon: what progress is counted by."""
        return stage_of(self.name)


def stage_of(name: str) -> str:
    """Stage of a job named ``stage: detail``."""
    return name.partition(":")[0].strip()


def submit(stores: Stores, flow: Flow | Job, campaign: str, rules: Rules | None = None) -> list[int]:
    """Put the flow into the queue under the campaign's name; returns the root fireworks.

    Every job, also those that jobs make later, carries the campaign in its metadata, and its needs by the ``rules``. No
    store goes into the queue: workers open their own, so no address and no password is written there.
    """
    from jobflow.managers.fireworks import flow_to_workflow

    flow.update_metadata({"campaign": campaign}, dynamic=True)
    workflow = flow_to_workflow(flow, name=campaign, metadata={"campaign": campaign})
    if rules is not None:
        rules.assign(workflow)
    stores.launchpad.add_wf(workflow)
    return sorted(workflow.root_fw_ids)


def submitted(stores: Stores, campaign: str) -> list[int]:
    """Root fireworks of the campaign's workflow; empty if it never got into the queue.

    Fireworks that an interrupted `submit` left without a workflow are removed.
    """
    launchpad = stores.launchpad
    workflow = launchpad.workflows.find_one({"metadata.campaign": campaign}, {"nodes": 1, "parent_links": 1})
    if workflow is None:
        launchpad.fireworks.delete_many({"spec.campaign": campaign})
        return []
    return sorted(node for node in workflow["nodes"] if not workflow["parent_links"].get(str(node)))


def jobs(stores: Stores, campaign: str) -> list[QueuedJob]:
    """All jobs of the campaign that the queue knows by now, in the order in which they were made."""
    fireworks = stores.fireworks
    fields = {"_id": 0, "fw_id": 1, "name": 1, "state": 1, "spec.needs.cores": 1}
    found = fireworks.find({"spec.campaign": campaign}, fields, **_hint(fireworks, STATUS_INDEX))
    made = (QueuedJob(job["fw_id"], job["name"], job["state"], _cores(job)) for job in found)
    return sorted(made, key=lambda job: job.firework)


def _cores(firework: dict[str, Any]) -> int:
    return int(((firework.get("spec") or {}).get("needs") or {}).get("cores") or 1)


def runtimes(stores: Stores, fireworks: Iterable[int], state: str = "COMPLETED") -> dict[int, float]:
    """Seconds that each job took which ended in this state, by firework."""
    query = {"fw_id": {"$in": list(fireworks)}, "state": state}
    launches = stores.launches
    found = launches.find(query, {"_id": 0, "fw_id": 1, "runtime_secs": 1}, **_hint(launches, COST_INDEX))
    return {launch["fw_id"]: float(launch.get("runtime_secs") or 0.0) for launch in found}


@dataclass(frozen=True)
class Counts:
    """Jobs of one campaign, by state; those that are ready or run, by category too."""

    states: Counter[str]
    ready: Counter[str]
    running: Counter[str]


def counts(stores: Stores, campaigns: Iterable[str]) -> dict[str, Counts]:
    """Jobs of each campaign, counted by the server over an index: quick also for ten thousand of them."""
    wanted = list(campaigns)
    key = {"campaign": "$spec.campaign", "state": "$state", "category": "$spec._category"}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"spec.campaign": {"$in": wanted}}},
        {"$group": {"_id": key, "jobs": {"$sum": 1}}},
    ]
    found = {name: Counts(Counter(), Counter(), Counter()) for name in wanted}
    fireworks = stores.fireworks
    for group in fireworks.aggregate(pipeline, **_hint(fireworks, STATUS_INDEX)):
        one, state = found[group["_id"]["campaign"]], group["_id"]["state"]
        one.states[state] += group["jobs"]
        category = str(group["_id"].get("category") or "cpu")
        if state == "READY":
            one.ready[category] += group["jobs"]
        elif state in RUNNING | {"RESERVED"}:
            one.running[category] += group["jobs"]
    return found


def _hint(collection: Collection[dict[str, Any]], index: list[tuple[str, int]]) -> dict[str, Any]:
    """The index to use, if it is there: those who may only read cannot make it."""
    names = [name for name, one in collection.index_information().items() if one["key"] == index]
    return {"hint": names[0]} if names else {}


def failure_message(stores: Stores, firework: int) -> str:
    """Why a job failed: the last line of what it raised."""
    launch = stores.launches.find_one(
        {"fw_id": firework, "state": "FIZZLED"}, {"action.stored_data": 1}, sort=[("launch_id", -1)]
    )
    data: dict[str, Any] = ((launch or {}).get("action") or {}).get("stored_data") or {}
    trace = (data.get("_exception") or {}).get("_stacktrace") or ""
    if launch is None:  # it could not even be read
        document = stores.fireworks.find_one({"fw_id": firework}, {"spec._exception_details": 1}) or {}
        trace = (document.get("spec", {}).get("_exception_details") or {}).get("_stacktrace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    return lines[-1] if lines else "its process ended without a message (out of memory?)"


def interrupted(stores: Stores, campaign: str) -> list[int]:
    """Fireworks that had been begun, were cut off, and wait to start again.

    Putting a job back into the queue archives its launch, whoever does it: Ctrl-C at once, a resume after a kill.
    """
    query = {"spec.campaign": campaign, "state": "READY", "archived_launches.0": {"$exists": True}}
    return [job["fw_id"] for job in stores.fireworks.find(query, {"fw_id": 1})]


def rerun_failed(stores: Stores, campaign: str) -> list[QueuedJob]:
    """Put the failed jobs back into the queue, to be tried once more; returns them."""
    failed = [job for job in jobs(stores, campaign) if job.state in FAILED]
    for job in failed:
        stores.launchpad.rerun_fw(job.firework)
    return failed
