"""`mmace status` and `mmace campaigns`: where campaigns stand, what they cost, what holds them up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmace_flows.execution import queue
from mmace_flows.execution.connection import on_this_machine
from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.progress import Progress, ProgressReader, duration
from mmace_flows.execution.queue import DONE, FAILED, RUNNING, Counts, failure_message
from mmace_flows.execution.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from mmace_flows.execution.projects import Project
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign

EVENTS_SHOWN = 10
JOBS_SHOWN = 10  # running and failed ones


def overview(settings: Settings) -> list[dict[str, Any]]:
    """One row per campaign; empty if there never was a database (none is started then)."""
    stores = _stores(settings)
    if stores is None:
        return []
    from mmace_flows.execution.campaign import list_campaigns

    campaigns = list_campaigns(stores)
    counted = queue.counts(stores, [one.campaign for one in campaigns])
    return [_row(stores, campaign, counted[campaign.campaign]) for campaign in campaigns]


def campaign_status(settings: Settings, name: str, project: Project | None = None) -> dict[str, Any]:
    """Everything about one campaign. Raises UserError if there is none of this name."""
    from mmace_flows.execution.campaign import require_campaign, require_database
    from mmace_flows.execution.stores import open_stores

    require_database(settings, name)
    stores = open_stores(settings)
    return details(stores, require_campaign(stores, name), settings, project)


def details(stores: Stores, campaign: Campaign, settings: Settings, project: Project | None) -> dict[str, Any]:
    """Everything about one campaign."""
    from mmace_flows.execution.stuck import find_stuck

    name = campaign.campaign
    row = row_of(stores, campaign)
    workers = max(row["jobs_running"], 1) if row["project"] else settings.workers
    progress = ProgressReader(stores, name, campaign.estimate, workers).read()
    row["jobs_expected"] = sum(stage.total for stage in progress.stages)
    row["seconds_left"] = None if campaign.finished else progress.seconds_left
    failed = {job.firework: job.cores for job in progress.failed}
    lost = sum(failed[number] * took for number, took in queue.runtimes(stores, failed, "FIZZLED").items())
    row["core_hours"] = (progress.core_seconds + lost) / 3600
    row["core_hours_expected"] = campaign.estimate.core_seconds / 3600 if campaign.estimate else None
    running = [job for job in progress.jobs if job.state in RUNNING]
    events = stores.collection("events").find({"campaign": name}, {"_id": 0, "process": 0}).sort("_id", -1)
    return row | {
        "recipe": campaign.recipe,
        "preset": campaign.preset,
        "settings": campaign.settings,
        "stages": stage_rows(progress),
        "running_jobs": [job.name for job in running],
        "running_job_numbers": [job.firework for job in running],
        "failed_jobs": [
            {"job": job.firework, "name": job.name, "message": failure_message(stores, job.firework)}
            for job in progress.failed[:JOBS_SHOWN]
        ],
        "stuck": [one.as_dict() for one in find_stuck(stores, campaign, row, project)],
        "events": list(events.limit(EVENTS_SHOWN))[::-1],
        "log": str(stores.campaign_folder(name) / "campaign.log"),
    }


def stage_rows(progress: Progress) -> list[dict[str, Any]]:
    """Jobs per stage."""
    return [
        {"stage": stage.name, "done": stage.done, "running": stage.running, "failed": stage.failed}
        | {"to_come": stage.left - stage.running, "of": stage.total}
        for stage in progress.stages
    ]


def _stores(settings: Settings) -> Stores | None:
    from mmace_flows.execution.embedded import EmbeddedDatabase

    if settings.database is None and not EmbeddedDatabase(settings).exists():
        return None
    from mmace_flows.execution.stores import open_stores

    return open_stores(settings)


def row_of(stores: Stores, campaign: Campaign) -> dict[str, Any]:
    """What counting alone tells about a campaign: cheap, however many jobs it has."""
    return _row(stores, campaign, queue.counts(stores, [campaign.campaign])[campaign.campaign])


def _row(stores: Stores, campaign: Campaign, counted: Counts) -> dict[str, Any]:
    runner = ProcessName.parse((campaign.details.get("runner") or {}).get("process", ""))
    if runner is not None and on_this_machine(stores.connection, runner) and not runner.alive():
        runner = None
    jobs = {
        what: sum(counted.states[state] for state in states)
        for what, states in (("done", DONE), ("running", RUNNING), ("failed", FAILED))
    }
    report = stores.connection.settings.data_dir / "campaigns" / campaign.campaign / "report.html"
    expected = sum(stage.jobs for stage in campaign.estimate.stages) if campaign.estimate else 0
    return {
        "campaign": campaign.campaign,
        "state": _state(campaign, runner is not None, jobs),
        "project": campaign.details.get("project"),
        "created": campaign.created,
        "finished": campaign.finished,
        "jobs_done": jobs["done"],
        "jobs_running": jobs["running"],
        "jobs_failed": jobs["failed"],
        "jobs_ready": dict(counted.ready),
        "running_by_category": dict(counted.running),
        "jobs_expected": max(expected, counted.states.total()),
        "seconds_left": None,
        "process": str(runner) if runner else None,
        "report": str(report) if report.exists() else None,
    }


def _state(campaign: Campaign, has_runner: bool, jobs: dict[str, int]) -> str:
    """One word for where a campaign stands."""
    if campaign.finished:
        return "finished"
    for mark in ("cancelled", "paused"):
        if campaign.details.get(mark):
            return mark
    in_project = bool(campaign.details.get("project"))
    if has_runner or (in_project and jobs["running"]):
        return "running"
    if jobs["failed"]:
        return "broken"
    return "waiting" if in_project else "interrupted"


def print_overview(rows: list[dict[str, Any]], console: Console) -> None:
    """One line per campaign."""
    if not rows:
        console.print("no campaign yet; begin one with `mmace run workflows/feni.py --preset small`", highlight=False)
    for row in rows:
        console.print(_line(row), highlight=False, markup=False, soft_wrap=True)


def print_status(details: dict[str, Any], console: Console) -> None:
    """Everything about one campaign, in words; times are those of this machine's clock."""
    from mmace_flows.execution.display import event_line, local_time

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(_line(details, alone=True))
    say(f"cost so far: {cost(details)}")
    for stage in details["stages"]:
        failed = f", {stage['failed']} failed" if stage["failed"] else ""
        running = f", {stage['running']} running" if stage["running"] else ""
        say(f"  {stage['stage']:<24} {stage['done']:>4} of {stage['of']}{running}{failed}")
    running_jobs = list(zip(details["running_jobs"], details["running_job_numbers"], strict=True))
    for name, number in running_jobs[:JOBS_SHOWN]:
        say(f"running: {name}  (job {number})")
    if len(details["running_jobs"]) > JOBS_SHOWN:
        say(f"running: {len(details['running_jobs']) - JOBS_SHOWN} more")
    for job in details["failed_jobs"]:
        say(f"failed: {job['name']}: {job['message']}  (mmace logs {job['job']})")
    if details["jobs_failed"] > len(details["failed_jobs"]):
        say(f"failed: {details['jobs_failed'] - len(details['failed_jobs'])} more")
    for event in details["events"]:
        say(f"{local_time(event['time'])}  {event_line(event)}")
    say(f"log: {details['log']}")
    if details["report"]:
        say(f"report: {details['report']}")
    for stuck in details["stuck"][:1]:
        say(f"stuck: {stuck['what']}; mend with: {stuck['mend']}")


def cost(details: dict[str, Any]) -> str:
    """Core-hours so far, and as estimated."""
    expected = details["core_hours_expected"]
    return f"{details['core_hours']:.3g} core-hours" + (f" of about {expected:.3g}" if expected else "")


def _line(row: dict[str, Any], alone: bool = False) -> str:
    """``alone``: what holds it up is said elsewhere."""
    text = f"{row['campaign']}: {row['state']}, {row['jobs_done']} of {row['jobs_expected']} jobs done"
    if row["jobs_running"] and row["state"] in ("running", "paused"):
        text += f", {row['jobs_running']} running"
    if row["jobs_failed"]:
        text += f", {row['jobs_failed']} failed"
    if row["seconds_left"] and row["state"] == "running":
        text += f", about {duration(row['seconds_left'])} left"
    if row["project"]:
        text += f"; project {row['project']}"
    if row["state"] in ("interrupted", "broken", "paused", "cancelled") and not alone:
        text += f"; continue with `mmace resume {row['campaign']}`"
    return text
