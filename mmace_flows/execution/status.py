"""`mmace status`: where campaigns stand, as data and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.progress import Progress, ProgressReader, duration
from mmace_flows.execution.queue import DONE, RUNNING, failure_message
from mmace_flows.execution.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign

EVENTS_SHOWN = 10


def overview(settings: Settings) -> list[dict[str, Any]]:
    """One row per campaign; empty if there never was a database (none is started then)."""
    stores = _stores(settings)
    if stores is None:
        return []
    from mmace_flows.execution.campaign import list_campaigns

    return [_summary(stores, campaign, settings)[0] for campaign in list_campaigns(stores)]


def campaign_status(settings: Settings, name: str) -> dict[str, Any]:
    """Everything about one campaign. Raises UserError if there is none of this name."""
    from mmace_flows.execution.campaign import require_campaign, require_database
    from mmace_flows.execution.stores import open_stores

    require_database(settings, name)
    stores = open_stores(settings)
    campaign = require_campaign(stores, name)
    row, progress = _summary(stores, campaign, settings)
    events = stores.events._collection.find({"campaign": name}, {"_id": 0, "process": 0}).sort("_id", -1)
    return row | {
        "recipe": campaign.recipe,
        "preset": campaign.preset,
        "settings": campaign.settings,
        "stages": [
            {"stage": stage.name, "done": stage.done, "running": stage.running, "failed": stage.failed}
            | {"to_come": stage.left - stage.running, "of": stage.total}
            for stage in progress.stages
        ],
        "running_jobs": [job.name for job in progress.jobs if job.state in RUNNING],
        "failed_jobs": [
            {"name": job.name, "message": failure_message(stores, job.firework)} for job in progress.failed
        ],
        "events": list(events.limit(EVENTS_SHOWN))[::-1],
        "log": str(stores.campaign_folder(name) / "campaign.log"),
    }


def _stores(settings: Settings) -> Stores | None:
    from mmace_flows.execution.embedded import EmbeddedDatabase

    if settings.database is None and not EmbeddedDatabase(settings).exists():
        return None
    from mmace_flows.execution.stores import open_stores

    return open_stores(settings)


def _summary(stores: Stores, campaign: Campaign, settings: Settings) -> tuple[dict[str, Any], Progress]:
    reader = ProgressReader(stores, campaign.campaign, campaign.estimate, settings.workers)
    progress = reader.read()
    runner = ProcessName.parse((campaign.details.get("runner") or {}).get("process", ""))
    here = runner is not None and (runner.host == ProcessName.this().host or stores.connection.embedded is not None)
    if runner is not None and here and not runner.alive():
        runner = None
    state = "running" if runner else "finished" if campaign.finished else "broken" if progress.failed else "interrupted"
    report = stores.campaign_folder(campaign.campaign) / "report.html"
    row = {
        "campaign": campaign.campaign,
        "state": state,
        "created": campaign.created,
        "finished": campaign.finished,
        "jobs_done": progress.count(DONE),
        "jobs_running": progress.count(RUNNING),
        "jobs_failed": len(progress.failed),
        "jobs_expected": sum(stage.total for stage in progress.stages),
        "seconds_left": None if campaign.finished else progress.seconds_left,
        "process": str(runner) if runner else None,
        "report": str(report) if report.exists() else None,
    }
    return row, progress


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

    say(_line(details))
    for stage in details["stages"]:
        failed = f", {stage['failed']} failed" if stage["failed"] else ""
        running = f", {stage['running']} running" if stage["running"] else ""
        say(f"  {stage['stage']:<24} {stage['done']:>4} of {stage['of']}{running}{failed}")
    for job in details["running_jobs"]:
        say(f"running: {job}")
    for job in details["failed_jobs"]:
        say(f"failed: {job['name']}: {job['message']}")
    for event in details["events"]:
        say(f"{local_time(event['time'])}  {event_line(event)}")
    say(f"log: {details['log']}")
    if details["report"]:
        say(f"report: {details['report']}")


def _line(row: dict[str, Any]) -> str:
    text = f"{row['campaign']}: {row['state']}, {row['jobs_done']} of {row['jobs_expected']} jobs done"
    if row["jobs_running"] and row["state"] == "running":
        text += f", {row['jobs_running']} running"
    if row["jobs_failed"]:
        text += f", {row['jobs_failed']} failed"
    if row["seconds_left"] and row["state"] == "running":
        text += f", about {duration(row['seconds_left'])} left"
    if row["state"] in ("interrupted", "broken"):
        text += f"; continue with `mmace resume {row['campaign']}`"
    return text
