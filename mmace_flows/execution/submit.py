"""Put a campaign into the queue, once: also when two submit it at the same time, or one dies while submitting."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.execution import queue
from mmace_flows.execution.campaign import update_campaign
from mmace_flows.execution.connection import on_this_machine
from mmace_flows.execution.policy import Rules
from mmace_flows.execution.processes import ProcessName

if TYPE_CHECKING:
    from jobflow import Flow

    from mmace_flows.execution.recipe import Recipe
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign

CLAIM = timedelta(minutes=10)  # a submitter on another machine that is silent for longer is dead
WAIT_SECONDS = 600.0


def campaign_flow(recipe: Recipe, campaign: Campaign) -> tuple[Flow, Rules]:
    """The campaign's flow, and the rules for the needs of its jobs. Raises UserError."""
    kind = type(recipe.preset(campaign.preset))
    settings = recipe.check(kind, campaign.settings, f"campaign '{campaign.campaign}':")
    return recipe.build(settings, campaign.campaign), Rules.of(campaign.settings, campaign.estimate)


def submit_once(stores: Stores, campaign: Campaign, recipe: Recipe) -> bool:
    """Put the campaign's flow into the queue unless it is there; False if it was. Raises UserError.

    Whoever wants to submit claims the campaign first, in its document; others wait for him. A claim whose holder died
    is taken over, and what he left half-written is removed.
    """
    name = campaign.campaign
    end = time.monotonic() + WAIT_SECONDS
    while not _claim(stores, name):
        document = stores.campaigns.query_one({"campaign": name}, properties=["firework_ids"]) or {}
        if document.get("firework_ids"):
            return False
        if time.monotonic() > end:
            raise UserError(f"campaign '{name}' is being submitted by somebody else for minutes; try again later")
        time.sleep(0.2)
    try:
        roots = queue.submitted(stores, name)
        new = not roots
        if new:
            flow, rules = campaign_flow(recipe, campaign)
            roots = queue.submit(stores, flow, name, rules)
        update_campaign(stores, name, firework_ids=roots)
    finally:
        update_campaign(stores, name, **{"details.submitter": None})
    return new


def _claim(stores: Stores, name: str) -> bool:
    """Whether the claim is ours now. False also if the campaign is in the queue already."""
    now = stores.now()
    claim = {"process": str(ProcessName.this()), "time": now.isoformat(timespec="seconds")}
    collection = stores.collection("campaigns")
    free: dict[str, Any] = {"campaign": name, "firework_ids": [], "details.submitter": None}
    if collection.update_one(free, {"$set": {"details.submitter": claim}}).modified_count:
        return True
    document = collection.find_one({"campaign": name}, {"details.submitter": 1, "firework_ids": 1}) or {}
    other = (document.get("details") or {}).get("submitter")
    if document.get("firework_ids") or not other:
        return False
    process = ProcessName.parse(other["process"])
    if process is not None and on_this_machine(stores.connection, process):
        dead = not process.alive()
    else:
        dead = now - datetime.fromisoformat(other["time"]) > CLAIM
    if not dead:
        return False
    taken = {"campaign": name, "details.submitter": other}
    return bool(collection.update_one(taken, {"$set": {"details.submitter": claim}}).modified_count)
