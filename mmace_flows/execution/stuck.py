"""What holds a campaign up, and the one command that mends it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.needs import SPARE_FACTOR, SPARE_SECONDS
from mmace_flows.execution.progress import duration

if TYPE_CHECKING:
    from mmace_flows.execution.projects import Project
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign


@dataclass(frozen=True)
class Stuck:
    """One thing that holds a campaign up."""

    what: str
    mend: str  # what to type, or to change

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def find_stuck(stores: Stores, campaign: Campaign, row: dict[str, Any], project: Project | None) -> list[Stuck]:
    """What holds the campaign up, the first to mend first. ``row``: its line of the status."""
    from mmace_flows.execution.upkeep import campaigns_to_mend

    name = campaign.campaign
    with_project = f" --project {row['project']}" if row["project"] else ""

    def command(verb: str) -> str:
        return f"mmace {verb} {name}{with_project}"

    if campaign.finished is not None:
        return []
    if row["state"] in ("paused", "cancelled"):
        return [Stuck(f"it was {row['state']}", command("resume"))]
    found = []
    if row["jobs_running"] and row["process"] is None and name in campaigns_to_mend(stores):
        found.append(Stuck("jobs are held by workers that died", command("retry" if row["project"] else "resume")))
    if row["jobs_failed"]:
        what = "1 job failed" if row["jobs_failed"] == 1 else f"{row['jobs_failed']} jobs failed"
        verb = "retry" if row["project"] or row["process"] else "resume"
        found.append(Stuck(f"{what}; why: mmace status {name}{with_project}", command(verb)))
    if row["project"]:
        found += _without_workers(row, project) + _too_long(stores, name, project)
    elif row["state"] == "interrupted":
        found.append(Stuck("nobody runs it", command("resume")))
    return found


def _without_workers(row: dict[str, Any], project: Project | None) -> list[Stuck]:
    """Categories whose jobs wait, and of which none runs."""
    found = []
    for category, count in row["jobs_ready"].items():
        if row["running_by_category"].get(category):
            continue
        kinds = project.serving(category) if project is not None else []
        kind = kinds[0] if kinds else category
        slurm = project is None or project.config.workers.get(kind) is None or project.config.workers[kind].qadapter
        verb = "launch" if slurm else "worker"
        jobs = "1 job waits" if count == 1 else f"{count} jobs wait"
        found.append(Stuck(f"{jobs} for {category} workers", f"mmace {verb} {kind} --project {row['project']}"))
    return found


def _too_long(stores: Stores, name: str, project: Project | None) -> list[Stuck]:
    """Jobs that no worker of the project has the wall time for."""
    if project is None:
        return []
    from mmace_flows.execution.allocation_plan import END_SECONDS, parse_walltime
    from mmace_flows.execution.settings import read_yaml

    found = []
    for kind, files in project.config.workers.items():
        if files.qadapter is None:
            continue
        path = project.path(files.qadapter)
        walltime = read_yaml(path).get("walltime")
        if not walltime:
            continue
        room = (parse_walltime(str(walltime), str(path)) - END_SECONDS - SPARE_SECONDS) / SPARE_FACTOR
        categories = list(project.worker(kind).categories)
        query: dict[str, Any] = {"spec.campaign": name, "state": "READY", "spec.needs.least_seconds": {"$gt": room}}
        if categories:
            query["spec._category"] = {"$in": categories}
        longest = stores.fireworks.find_one(query, {"spec.needs": 1}, sort=[("spec.needs.least_seconds", -1)])
        if longest is not None:
            needed = duration(longest["spec"]["needs"]["least_seconds"])
            what = f"jobs need {needed}, more than {kind} workers have ({walltime})"
            found.append(Stuck(what, f"raise walltime in {path}"))
    return found
