"""`mmace submit` and `mmace worker`: a campaign into a project's queue, and the processes that take its jobs."""

from __future__ import annotations

import importlib.metadata
import signal
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING

from mmace.errors import UserError
from mmace_flows.execution import queue
from mmace_flows.execution.allocation_plan import Plan, cores_here, end_here, gpus_here, memory_here
from mmace_flows.execution.one_job import open_patiently, say
from mmace_flows.execution.projects import Project
from mmace_flows.execution.queue import stage_of
from mmace_flows.execution.recipe import load_recipe

if TYPE_CHECKING:
    from rich.console import Console

    from mmace_flows.execution.run import Request
    from mmace_flows.schemas.campaign import Campaign
    from mmace_flows.schemas.needs import Needs

INTERRUPTED = 130


def submit_campaign(request: Request, project: Project, console: Console) -> Campaign:
    """Put the campaign into the project's queue, unless it is there; say what to type next. Raises UserError."""
    from mmace_flows.execution.campaign import update_campaign
    from mmace_flows.execution.run import begin
    from mmace_flows.execution.submit import campaign_flow, submit_once

    recipe = load_recipe(request.recipe)
    settings = project.activate()
    stores, campaign = begin(request, recipe, settings, console)
    name = campaign.campaign
    if campaign.finished is not None:
        console.print(f"campaign {name} is complete: mmace report {name} --project {project.given}")
        return campaign
    flow, rules = campaign_flow(recipe, campaign)
    needs = {stage_of(job.name): rules.needs(job) for job, _ in flow.iterflow()}
    _check_workers(project, needs)
    if recipe.path.parent not in project.recipe_dirs() and _has_own_jobs(flow, recipe.name):
        raise UserError(
            f"{project.file}: recipes: add {recipe.path.parent}, so that workers may run the jobs that "
            f"{recipe.path.name} defines"
        )
    new = submit_once(stores, campaign, recipe)
    update_campaign(stores, name, **{"details.project": project.config.name})
    jobs = queue.jobs(stores, name)
    state = "submitted" if new else "is in the queue already"
    console.print(f"campaign {name} {state}: {len(jobs)} jobs so far", highlight=False)
    for line in _next_steps(project, needs):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"watch it: mmace watch {name} --project {project.given}", highlight=False, soft_wrap=True)
    return campaign


def work_for(
    project: Project,
    kind: str,
    processes: int | None = None,
    walltime: str | None = None,
    categories: tuple[str, ...] = (),
    idle_seconds: float = 60.0,
) -> int:
    """Be a worker of the project; returns the exit code. Raises UserError."""
    from mmace_flows.execution.allocation import Allocation

    config = project.worker(kind)
    project.activate()
    count = processes or config.env.processes
    cores, memory = cores_here(), config.env.memory_gb or memory_here()
    if walltime is None and count > cores:
        say(f"{count} jobs side by side on {cores} cores: they will share them")
    plan = Plan(
        kind=kind,
        processes=count,
        categories=categories or config.categories,
        cores=max(1, cores // count),
        memory_gb=memory / count if memory is not None else None,
        until=end_here(walltime),
        idle_seconds=idle_seconds,
        recipe_dirs=tuple(project.recipe_dirs()),
        espresso_command=project.config.espresso_command,
        gpus=gpus_here(),
    )

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):  # Slurm's way to say that the time is out
        signal.signal(number, interrupt)
    stores = open_patiently()
    version = importlib.metadata.version("mmace-flows")
    allocation = Allocation(stores, plan, say)
    until = f", until {datetime.fromtimestamp(plan.until):%Y-%m-%d %H:%M:%S}" if plan.until is not None else ""
    taken = ", ".join(plan.categories) or "all"
    say(f"mmace {version}: {kind} worker {allocation.name}: {count} × {plan.cores} cores, takes {taken} jobs{until}")
    say(f"logs: {allocation.folder / 'logs'}")
    try:
        return allocation.run()
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED


def _check_workers(project: Project, needs: dict[str, Needs]) -> None:
    """Raises UserError for a stage whose jobs no worker of the project would take."""
    for stage, one in needs.items():
        if not project.serving(one.category):
            file = project.path(next(iter(project.config.workers.values())).fworker)
            raise UserError(
                f"stage '{stage}' needs a worker of category '{one.category}', and project '{project.config.name}' has "
                f"none; add '{one.category}' to category in {file}"
            )


def _has_own_jobs(flow: object, module: str) -> bool:
    """Whether a job of the flow is defined in the recipe itself."""
    jobs = [job for job, _ in flow.iterflow()]  # type: ignore[attr-defined]
    return any(
        module in (getattr(job.function, "__module__", ""), type(job.maker).__module__ if job.maker else "")
        for job in jobs
    )


def _next_steps(project: Project, needs: dict[str, Needs]) -> list[str]:
    """What to type so that somebody takes the jobs."""
    lines = []
    categories = sorted({one.category for one in needs.values()})
    for kind in dict.fromkeys(project.serving(category)[0] for category in categories):
        verb = "launch" if project.config.workers[kind].qadapter else "worker"
        where = "workers on Slurm" if verb == "launch" else "a worker on this machine"
        lines.append(f"{where}: mmace {verb} {kind} --project {project.given}")
    return lines
