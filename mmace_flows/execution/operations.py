"""`mmace pause`, `resume`, `cancel` and `retry`: a campaign as a whole, or one of its jobs.

Pausing and cancelling are marks in the campaign's document, which every worker asks for before it takes a job: that
works at once for ten thousand jobs, and for those that are not made yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmace.errors import UserError
from mmace_flows.execution import queue
from mmace_flows.execution.campaign import update_campaign
from mmace_flows.execution.queue import DONE, FAILED, RUNNING, SKIPPED, QueuedJob
from mmace_flows.execution.recovery import recover
from mmace_flows.execution.upkeep import defuse_cancelled

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign

SHOWN = 5  # jobs that a message lists


def pause(stores: Stores, campaign: Campaign) -> str:
    """No further job starts; those that run go on to their end. Returns what to say. Raises UserError."""
    _refuse_finished(campaign)
    update_campaign(stores, campaign.campaign, **{"details.paused": stores.now().isoformat(timespec="seconds")})
    running = sum(job.state in RUNNING for job in queue.jobs(stores, campaign.campaign))
    which = "1 job that runs" if running == 1 else f"{running} jobs that run"
    return f"campaign {campaign.campaign} is paused" + (f"; the {which} may finish" if running else "")


def cancel(stores: Stores, campaign: Campaign) -> str:
    """No further job starts, and those that run are ended within seconds; results stay. Raises UserError."""
    _refuse_finished(campaign)
    update_campaign(stores, campaign.campaign, **{"details.cancelled": stores.now().isoformat(timespec="seconds")})
    return f"campaign {campaign.campaign} is cancelled: what runs is ended, what is finished stays"


def reopen(stores: Stores, campaign: str) -> None:
    """Take back what `pause` and `cancel` did."""
    update_campaign(stores, campaign, **{"details.paused": None, "details.cancelled": None})


def cancel_job(stores: Stores, campaign: Campaign, job: QueuedJob) -> str:
    """Take one job off the queue, ending it if it runs; jobs that need its result do not run. Raises UserError."""
    if job.state in DONE:
        raise UserError(f"job {job.firework} ({job.name}) is finished; finished jobs stay")
    trust_recipe(campaign)
    fireworks = stores.fireworks
    now = stores.now().isoformat(timespec="seconds")
    fireworks.update_one({"fw_id": job.firework}, {"$set": {"spec.cancelled": now}})
    if job.state in RUNNING:
        recover(stores, campaign.campaign, others_live=True)  # whoever held it may be dead
    state = (fireworks.find_one({"fw_id": job.firework}, {"state": 1}) or {}).get("state")
    if state in ("RUNNING", "RESERVED"):
        return f"job {job.firework} ({job.name}) is being ended by its worker"
    defuse_cancelled(stores, [job.firework])
    return f"job {job.firework} ({job.name}) is cancelled"


def retry(stores: Stores, campaign: Campaign, job: QueuedJob | None = None) -> list[QueuedJob]:
    """Put failed jobs, or the one that is named, back into the queue, and what dead workers held. Raises UserError.

    Returns the jobs that start again because of this.
    """
    name = campaign.campaign
    trust_recipe(campaign)
    recovered = recover(stores, name, others_live=True)
    found = queue.jobs(stores, name)
    if job is not None:
        current = next(one for one in found if one.firework == job.firework)
        if current.state not in FAILED | SKIPPED and current.firework not in recovered.rerun:
            state = in_words(current.state)
            raise UserError(f"job {job.firework} ({job.name}) is {state}; only failed ones are retried")
        chosen = [current]
    else:
        chosen = [one for one in found if one.state in FAILED]
    for one in chosen:
        stores.fireworks.update_one(
            {"fw_id": one.firework}, {"$unset": {"spec.needs.deaths": True, "spec.cancelled": True}}
        )
        if one.state in SKIPPED:
            stores.launchpad.reignite_fw(one.firework)
        elif one.state in FAILED:
            stores.launchpad.rerun_fw(one.firework)
    again = {one.firework for one in chosen} | set(recovered.rerun)
    return [one for one in found if one.firework in again]


def find_job(stores: Stores, campaign: str | None, text: str) -> QueuedJob:
    """A job by its number, its name, or a part of its name. Raises UserError that lists those that would fit."""
    fields = {"fw_id": 1, "name": 1, "state": 1, "spec.campaign": 1}
    if text.isdigit():
        one = stores.fireworks.find_one({"fw_id": int(text)}, fields)
        if one is None or (campaign is not None and one["spec"].get("campaign") != campaign):
            where = f" in campaign {campaign}" if campaign else ""
            raise UserError(f"no job {text}{where}; see `mmace status`")
        return QueuedJob(one["fw_id"], one["name"], one["state"])
    if campaign is None:
        raise UserError(f"job '{text}': a name needs its campaign, like `mmace logs '{text}' --campaign feni-small`")
    found = queue.jobs(stores, campaign)
    fitting = [one for one in found if one.name == text] or [one for one in found if text in one.name]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise UserError(f"no job of campaign {campaign} is called '{text}'; see `mmace status {campaign}`")
    listed = ", ".join(f"{one.firework} ({one.name})" for one in fitting[:SHOWN])
    more = " …" if len(fitting) > SHOWN else ""
    raise UserError(f"'{text}' fits {len(fitting)} jobs, give a number: {listed}{more}")


def in_words(state: str) -> str:
    """FireWorks' state of a job in a user's words."""
    words = {
        "READY": "waiting for a worker", "WAITING": "waiting for other jobs", "RESERVED": "being taken",
        "RUNNING": "running", "COMPLETED": "finished", "ARCHIVED": "finished", "FIZZLED": "failed",
        "DEFUSED": "cancelled", "PAUSED": "paused",
    }  # fmt: skip
    return words.get(state, state.lower())


def trust_recipe(campaign: Campaign) -> None:
    """Load the campaign's recipe if it is here: FireWorks reads jobs when it changes a workflow."""
    path = Path(campaign.details.get("recipe_file") or campaign.recipe)
    if path.exists():
        from mmace_flows.execution.recipe import load_recipe

        load_recipe(path)


def _refuse_finished(campaign: Campaign) -> None:
    if campaign.finished is not None:
        raise UserError(f"campaign {campaign.campaign} is finished; there is nothing left to stop")
