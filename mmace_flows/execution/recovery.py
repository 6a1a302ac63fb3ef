"""Make the queue whole again after processes died at any point, so that nothing finished is computed twice.

FireWorks changes its documents in steps: firework reserved, launch written, firework running, … , launch completed,
fireworks of new jobs inserted, states set, and last the workflow document replaced, under a lock inside that document.
A process may die between any two of them. Two facts decide everything:

- a launch document in state COMPLETED holds the job's whole result (its detours and additions too): never run it again;
- the workflow document is replaced last and in one piece: what it says has been applied, what it does not say has not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.connection import on_this_machine
from mmace_flows.execution.processes import ProcessName

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

HEARTBEAT_SECONDS = 30  # how often a worker says that it lives; `worker` sets it
LOST_SECONDS = 10 * HEARTBEAT_SECONDS  # silence after which a worker of another machine counts as dead
LOCK_SECONDS = 20.0  # a living process holds a workflow's lock for milliseconds
TURN_SECONDS = 120.0  # after which a process that mends is taken for dead
CHECKOUT = timedelta(seconds=30)  # a living worker needs far less from reserving a job to running it
DEATHS = 5  # a job whose worker dies this often without a word is noted as failed


@dataclass
class Recovered:
    """What was found and mended."""

    rerun: list[int] = field(default_factory=list)  # interrupted jobs, back in the queue
    completed: list[int] = field(default_factory=list)  # jobs that had finished, but the workflow did not know
    given_up: list[int] = field(default_factory=list)  # interrupted jobs that were noted as failed
    undecided: bool = False  # a job may be in a living worker's hands or not: look again after CHECKOUT


def launch_is_alive(stores: Stores, launch: dict[str, Any], here: ProcessName) -> bool:
    """Whether the worker that runs this launch lives: by its process on this host, by its heartbeat on others."""
    worker = ProcessName.parse((launch.get("fworker") or {}).get("name") or "")
    if worker == here:
        return False  # whoever asks is between two jobs: what stands under its name was cut off
    if worker is not None and on_this_machine(stores.connection, worker):
        return worker.alive()
    running = [entry for entry in launch.get("state_history", []) if entry.get("state") == "RUNNING"]
    if not running:
        return False
    seen = in_utc(running[-1].get("updated_on") or running[-1]["created_on"])
    return stores.now() - seen < timedelta(seconds=LOST_SECONDS)


def recover(
    stores: Stores, campaign: str, others_live: bool = False, give_up: Callable[[int], bool] = lambda firework: False
) -> Recovered:
    """Mend the campaign's workflow and put interrupted jobs back into the queue.

    ``others_live``: living workers may be writing to this workflow right now. ``give_up``: asked for each interrupted
    firework; those for which it says True are noted as failed instead (a job that kills its worker each time).
    """
    end = time.monotonic() + TURN_SECONDS
    while not _take_turn(stores, campaign):  # another process is at it; afterwards there may be less to do
        if time.monotonic() > end:
            return Recovered(undecided=True)
        time.sleep(0.1)
    try:
        return _recover(stores, campaign, others_live, give_up)
    finally:
        stores.collection("campaigns").update_one({"campaign": campaign}, {"$unset": {"recovering": True}})


def _take_turn(stores: Stores, campaign: str) -> bool:
    """Whether this process may mend the campaign now: one at a time may, or two would put the same job back twice."""
    campaigns, here = stores.collection("campaigns"), ProcessName.this()
    document = campaigns.find_one({"campaign": campaign}, {"recovering": 1})
    if document is None:
        return True  # a flow that was submitted by hand
    other = document.get("recovering")
    if other is not None:
        process = ProcessName.parse(other["process"])
        near = process is not None and on_this_machine(stores.connection, process)
        lives = process.alive() if process is not None and near else stores.now() < in_utc(other["until"])
        if lives and process != here:
            return False
    until = stores.now() + timedelta(seconds=TURN_SECONDS)
    turn = {"process": str(here), "until": until.isoformat()}
    taken = campaigns.update_one({"campaign": campaign, "recovering": other}, {"$set": {"recovering": turn}})
    return taken.matched_count == 1


def _recover(stores: Stores, campaign: str, others_live: bool, give_up: Callable[[int], bool]) -> Recovered:
    launchpad = stores.launchpad
    here = ProcessName.this()

    def alive(launch: dict[str, Any]) -> bool:
        return launch_is_alive(stores, launch, here)

    workflow = launchpad.workflows.find_one({"metadata.campaign": campaign}, {"nodes": 1})
    result = Recovered()
    if workflow is None:
        return result
    node = workflow["nodes"][0]
    _take_lock(stores, node, LOCK_SECONDS if others_live else 0.0)
    try:
        _mend_states(stores, campaign, node, alive, others_live, result)
    finally:
        launchpad.workflows.update_one({"nodes": node}, {"$unset": {"locked": True}})
    for firework in result.completed:
        launchpad._refresh_wf(firework)
    for firework in list(result.rerun):
        if give_up(firework):
            result.rerun.remove(firework)
            result.given_up.append(firework)
            _note_failed(stores, firework)
        else:
            launchpad.rerun_fw(firework)
    return result


def _note_failed(stores: Stores, firework: int) -> None:
    """Note an interrupted job as failed, with a launch that says why."""
    from fireworks import FWAction

    launchpad = stores.launchpad
    launch = launchpad.launches.find_one({"fw_id": firework}, {"launch_id": 1}, sort=[("launch_id", -1)])
    trace = "the worker process died each time it ran this job (out of memory, or a crash of the engine)"
    action = FWAction(
        stored_data={"_message": trace, "_exception": {"_stacktrace": trace, "_details": None}}, exit=True
    )
    launchpad.complete_launch(launch["launch_id"], action, "FIZZLED")


def _take_lock(stores: Stores, node: int, patience: float) -> None:
    """Take the workflow's lock. One that is held for ``patience`` seconds without pause is a dead process's."""
    workflows = stores.workflows
    end = time.monotonic() + patience
    while True:
        if workflows.find_one_and_update({"nodes": node, "locked": {"$exists": False}}, {"$set": {"locked": True}}):
            return
        if time.monotonic() >= end:
            return  # it is locked, and from now on by us
        time.sleep(0.02)


def _mend_states(
    stores: Stores,
    campaign: str,
    node: int,
    alive: Callable[[dict[str, Any]], bool],
    others_live: bool,
    result: Recovered,
) -> None:
    """Bring fireworks, launches and workflow document into agreement; the workflow's lock is ours."""
    launchpad = stores.launchpad
    workflow = launchpad.workflows.find_one({"nodes": node})
    known: dict[int, str] = {int(key): state for key, state in workflow["fw_states"].items()}

    # fireworks that were inserted, but whose workflow was not replaced any more: they will be made again
    orphans = {"spec.campaign": campaign, "fw_id": {"$nin": list(known)}}
    launchpad.fireworks.delete_many(orphans)

    launches: dict[int, list[dict[str, Any]]] = {}
    query = {"fw_id": {"$in": list(known)}, "state": {"$ne": "ARCHIVED"}}
    for launch in launchpad.launches.find(query, {"action": 0}):  # actions may be large
        launches.setdefault(launch["fw_id"], []).append(launch)
    fields = {"fw_id": 1, "state": 1, "launches": 1, "archived_launches": 1, "updated_on": 1}
    for firework in launchpad.fireworks.find({"fw_id": {"$in": list(known)}}, fields):
        number = firework["fw_id"]
        own = [launch for launch in launches.get(number, []) if launch["launch_id"] in firework["launches"]]
        stray = [
            launch["launch_id"]
            for launch in launches.get(number, [])
            if launch not in own and launch["state"] == "RUNNING" and not alive(launch)
        ]
        if stray:  # written for a firework that did not learn of it, or put aside by an earlier rerun
            launchpad.launches.update_many({"launch_id": {"$in": stray}}, {"$set": {"state": "ARCHIVED"}})
        if any(launch["state"] == "RUNNING" and alive(launch) for launch in launches.get(number, [])):
            continue
        state = _true_state(firework, own, known[number], others_live)
        result.undecided |= state == "RESERVED"
        if state == "APPLY":
            # not applied yet: FireWorks applies a result when it sees the state change to COMPLETED
            result.completed.append(number)
            state = "RUNNING"
        elif state == "INTERRUPTED":
            result.rerun.append(number)
            state = "RUNNING"
        if state != firework["state"]:
            launchpad.fireworks.update_one({"fw_id": number}, {"$set": {"state": state}})


def _true_state(firework: dict[str, Any], own: list[dict[str, Any]], known: str, others_live: bool) -> str:
    """State that the firework should be in; APPLY for a finished job, INTERRUPTED for one to run again.

    ``own``: its launches, none of them alive. ``known``: its state in the workflow document.
    """
    states = {launch["state"] for launch in own}
    if known in ("DEFUSED", "PAUSED", "ARCHIVED"):
        return known
    if "COMPLETED" in states:
        return "COMPLETED" if known == "COMPLETED" else "APPLY"
    if "RUNNING" in states or "RESERVED" in states:
        return "INTERRUPTED"
    if "FIZZLED" in states:
        return "FIZZLED" if known == "FIZZLED" else "APPLY"
    if firework["state"] == "RESERVED" and others_live and _reserved_for(firework) < CHECKOUT.total_seconds():
        return "RESERVED"  # a living worker is just taking it
    if known in ("RUNNING", "RESERVED"):
        return "INTERRUPTED"
    return known


_reservations: dict[tuple[int, Any], float] = {}  # (firework, its last change) → when this process first saw it


def _reserved_for(firework: dict[str, Any]) -> float:
    """Seconds for which this process has seen a firework reserved: clocks of other machines do not come into it."""
    key = (firework["fw_id"], str(firework["updated_on"]))
    return time.monotonic() - _reservations.setdefault(key, time.monotonic())


def in_utc(moment: str | datetime) -> datetime:
    """A moment as FireWorks writes it, text or date, in UTC."""
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return when if when.tzinfo else when.replace(tzinfo=UTC)
