"""What those who run workers do for the queue: find what died, end what was cancelled, note what is complete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.campaign import update_campaign
from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.queue import DONE, SKIPPED
from mmace_flows.execution.recovery import CHECKOUT, DEATHS, in_utc, launch_is_alive, recover

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores
    from mmace_flows.execution.workers import Workers

LONGER = 1.5  # a job that was cut off is expected to take this much longer than it had


@dataclass(frozen=True)
class HeldJob:
    """A job in a worker's hands."""

    firework: int
    campaign: str
    process: str
    seconds: float  # for which it runs


def held_jobs(stores: Stores, processes: Iterable[str]) -> list[HeldJob]:
    """Jobs that these worker processes run now."""
    query = {"state": "RUNNING", "fworker.name": {"$in": list(processes)}}
    launches = list(stores.launches.find(query, {"fw_id": 1, "fworker.name": 1, "time_start": 1}))
    fields = {"fw_id": 1, "spec.campaign": 1}
    of = {one["fw_id"]: one for one in stores.fireworks.find({"fw_id": {"$in": _ids(launches)}}, fields)}
    now = stores.now()
    return [
        HeldJob(number, of[number]["spec"].get("campaign", ""), launch["fworker"]["name"], _age(launch, now))
        for launch in launches
        if (number := launch["fw_id"]) in of
    ]


def note_cut(stores: Stores, held: Iterable[HeldJob]) -> None:
    """Expect jobs that are cut off to take longer than they had, so that they are not started in as short a time again.

    Jobs that resume go on from where they were: they are started again in any time.
    """
    for job in held:
        longer = LONGER * job.seconds
        stores.fireworks.update_one(
            {"fw_id": job.firework, "spec.needs.resumes": False},
            {"$max": {"spec.needs.seconds": longer, "spec.needs.least_seconds": longer}},
        )


def end_cancelled(stores: Stores, workers: Workers) -> list[HeldJob]:
    """End the workers of jobs that were cancelled; others start in their place. Returns those jobs."""
    processes = workers.processes()
    ended = []
    for job in held_jobs(stores, processes):
        cancelled = {"campaign": job.campaign, "details.cancelled": {"$ne": None}}
        whole = stores.collection("campaigns").count_documents(cancelled, limit=1)
        alone = stores.fireworks.count_documents({"fw_id": job.firework, "spec.cancelled": {"$exists": True}}, limit=1)
        if whole or alone:
            workers.end(processes[job.process])
            ended.append(job)
    for campaign in {job.campaign for job in ended}:
        recover(stores, campaign, others_live=True)
    defuse_cancelled(stores, [job.firework for job in ended])
    return ended


def defuse_cancelled(stores: Stores, fireworks: Iterable[int]) -> None:
    """Take single jobs that were cancelled off the queue for good, and not back into it."""
    query = {"fw_id": {"$in": list(fireworks)}, "spec.cancelled": {"$exists": True}, "state": {"$nin": [*DONE]}}
    for firework in stores.fireworks.find(query, {"fw_id": 1}):
        stores.launchpad.defuse_fw(firework["fw_id"])


def campaigns_to_mend(stores: Stores) -> list[str]:
    """Campaigns with a job that counts as taken, but is in no living worker's hands."""
    campaigns = [one["campaign"] for one in stores.collection("campaigns").find({"finished": None}, {"campaign": 1})]
    query = {"spec.campaign": {"$in": campaigns}, "state": {"$in": ["RESERVED", "RUNNING"]}}
    fields = {"fw_id": 1, "state": 1, "spec.campaign": 1, "launches": 1, "updated_on": 1}
    taken = list(stores.fireworks.find(query, fields))
    numbers = [number for firework in taken for number in firework["launches"]]
    here = ProcessName.this()
    living = {
        launch["fw_id"]
        for launch in stores.launches.find(
            {"launch_id": {"$in": numbers}, "state": "RUNNING"}, {"fw_id": 1, "fworker": 1, "state_history": 1}
        )
        if launch_is_alive(stores, launch, here)
    }
    now = stores.now()
    return sorted(
        {
            one["spec"]["campaign"]
            for one in taken
            # a worker may just be taking it
            if one["fw_id"] not in living and (one["state"] == "RUNNING" or now - in_utc(one["updated_on"]) > CHECKOUT)
        }
    )


def died_too_often(stores: Stores, firework: int) -> bool:
    """Count one more death of this job's worker; whether that is enough. `mmace retry` begins counting anew."""
    from pymongo import ReturnDocument

    found = stores.fireworks.find_one_and_update(
        {"fw_id": firework},
        {"$inc": {"spec.needs.deaths": 1}},
        {"spec.needs.deaths": 1},
        return_document=ReturnDocument.AFTER,
    )
    return found is not None and found["spec"]["needs"]["deaths"] >= DEATHS


def note_finished(stores: Stores) -> list[str]:
    """Write into campaigns that they are complete, where every job ended well; returns those."""
    finished = []
    query = {"finished": None, "firework_ids.0": {"$exists": True}}
    for one in list(stores.collection("campaigns").find(query, {"campaign": 1})):
        if complete(stores, one["campaign"]):
            now = stores.now().isoformat(timespec="seconds")
            update_campaign(stores, one["campaign"], finished=now)
            finished.append(one["campaign"])
    return finished


def complete(stores: Stores, campaign: str) -> bool:
    """Whether every job of the campaign ended well, and none is being made."""
    well = [*DONE, *SKIPPED]
    launchpad = stores.launchpad
    if launchpad.fireworks.find_one({"spec.campaign": campaign, "state": {"$nin": well}}, {"_id": 1}) is not None:
        return False
    # the workflow document is replaced last, with the jobs that a job made
    workflow = launchpad.workflows.find_one({"metadata.campaign": campaign}, {"fw_states": 1, "locked": 1})
    return workflow is not None and "locked" not in workflow and set(workflow["fw_states"].values()) <= set(well)


def _ids(launches: list[dict[str, Any]]) -> list[int]:
    return [launch["fw_id"] for launch in launches]


def _age(launch: dict[str, Any], now: datetime) -> float:
    """Seconds since the launch began."""
    started = launch.get("time_start")
    return max(0.0, (now - in_utc(started)).total_seconds()) if started else 0.0
