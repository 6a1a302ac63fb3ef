"""Tell a workflow that one of its jobs began or ended, without loading the workflow.

FireWorks reads, rebuilds and replaces the whole workflow document for that, twice per job: with ten thousand jobs a
second of work for each. Here only the job's own entry and those of its children are touched. What is not plain, a job
that makes others or failed or was launched twice, is left to FireWorks.

The order of writes is FireWorks' own, on which `recovery` relies: fireworks first, the workflow last and in one piece.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fireworks.core.launchpad import LockedWorkflowError

if TYPE_CHECKING:
    from fireworks import LaunchPad

LOCKED_SECONDS = 300.0
LONGEST_PAUSE = 0.5
NOTHING_MORE = {  # of a response: it changes nothing but its own job
    "action.detours": [], "action.additions": [], "action.append_wfs": [], "action.mod_spec": [],
    "action.update_spec": {}, "action.defuse_children": False, "action.defuse_workflow": False,
}  # fmt: skip


class JobGone(Exception):
    """A job that is no more: who made it died before it was part of its workflow, and it will be made again."""


@contextmanager
def locked(launchpad: LaunchPad, firework: int) -> Iterator[None]:
    """FireWorks' lock of a workflow, taken without reading the workflow. Raises LockedWorkflowError, JobGone.

    A job that another one makes can be taken from the queue before the workflow knows it, which is written last: who
    took it waits for that.
    """
    workflows, end, pause = launchpad.workflows, time.monotonic() + LOCKED_SECONDS, 0.01
    free = {"nodes": firework, "locked": {"$exists": False}}
    while not workflows.update_one(free, {"$set": {"locked": True}}).matched_count:
        known = workflows.find_one({"nodes": firework}, {"_id": 1}) is not None
        if not known and launchpad.fireworks.find_one({"fw_id": firework}, {"_id": 1}) is None:
            raise JobGone(f"job {firework} was withdrawn")
        if time.monotonic() > end:
            if not known:
                raise ValueError(f"job {firework} belongs to no workflow")
            raise LockedWorkflowError(f"the workflow of job {firework} is locked for minutes")
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE)
    try:
        yield
    finally:
        workflows.update_one({"nodes": firework}, {"$unset": {"locked": True}})


def refresh_quickly(launchpad: LaunchPad, firework: int) -> bool:
    """Bring the workflow up to date after a job's begin or plain end; False if that is left to FireWorks.

    For the holder of the workflow's lock.
    """
    job = launchpad.fireworks.find_one({"fw_id": firework}, {"state": 1, "launches": 1})
    if job is None or len(job["launches"]) != 1 or job["state"] in ("PAUSED", "DEFUSED", "ARCHIVED"):
        return False
    launch = launchpad.launches.find_one({"launch_id": job["launches"][0]}, {"state": 1})
    if launch is None:
        return False
    if launch["state"] in ("RUNNING", "RESERVED"):
        states: dict[int, str] | None = {firework: launch["state"]}
    elif launch["state"] == "COMPLETED" and job["state"] == "RUNNING":
        query = {"launch_id": job["launches"][0], **NOTHING_MORE}
        plain = launchpad.launches.count_documents(query, limit=1) == 1
        states = _ended(launchpad, firework) if plain else None
    else:
        states = None
    if states is None:
        return False
    _write(launchpad, firework, job["state"], states)
    return True


def _ended(launchpad: LaunchPad, firework: int) -> dict[int, str] | None:
    """States that change when a job is complete: its own, and those of children that waited for it alone."""
    workflow = _workflow(launchpad, firework, {f"links.{firework}": 1})
    states = {firework: "COMPLETED"}
    children = (workflow.get("links") or {}).get(str(firework), [])
    if not children:
        return states
    fields = {"fw_id": 1, "state": 1, "launches": 1, "spec._allow_fizzled_parents": 1}
    found = list(launchpad.fireworks.find({"fw_id": {"$in": children}}, fields))
    if len(found) != len(children):
        return None
    parents = _workflow(launchpad, firework, {f"parent_links.{child}": 1 for child in children} | {"fw_states": 1})
    for child in found:
        if child["state"] != "WAITING" or child["launches"] or child["spec"].get("_allow_fizzled_parents"):
            return None
        others = [parent for parent in parents["parent_links"][str(child["fw_id"])] if parent != firework]
        if all(parents["fw_states"][str(parent)] == "COMPLETED" for parent in others):
            states[child["fw_id"]] = "READY"
    return states


def _workflow(launchpad: LaunchPad, firework: int, fields: dict[str, Any]) -> dict[str, Any]:
    found = launchpad.workflows.find_one({"nodes": firework}, fields)
    if found is None:
        raise ValueError(f"job {firework} belongs to no workflow")
    return found


def _write(launchpad: LaunchPad, firework: int, known: str, states: dict[int, str]) -> None:
    now = datetime.now(UTC).isoformat()
    for number, state in states.items():
        if number != firework or state != known:
            launchpad.fireworks.update_one({"fw_id": number}, {"$set": {"state": state, "updated_on": now}})
    changes: dict[str, Any] = {f"fw_states.{number}": state for number, state in states.items()}
    ended = states[firework] == "COMPLETED"
    workflow = _workflow(launchpad, firework, {"state": 1} | ({"fw_states": 1} if ended and len(states) == 1 else {}))
    if "fw_states" in workflow and all(
        state == "COMPLETED" for number, state in workflow["fw_states"].items() if number != str(firework)
    ):
        changes["state"] = "COMPLETED"
    elif workflow["state"] in ("READY", "RESERVED"):
        changes["state"] = "RUNNING"
    launchpad.workflows.update_one({"nodes": firework}, {"$set": changes | {"updated_on": now}})
