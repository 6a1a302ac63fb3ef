"""`mmace submit`, `mmace worker`, `mmace launch`: campaigns on other machines than this one."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mmace_flows.cli.project_options import (
    Changes,
    New,
    NewName,
    Preset,
    ProjectName,
    RecipeFile,
    console,
    need_project,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("submit")(submit)
    app.command("worker")(worker)
    app.command("launch")(launch)


def submit(
    recipe: RecipeFile,
    preset: Preset = "small",
    changes: Changes = None,
    name: NewName = None,
    new: New = False,
    yes: Annotated[bool, typer.Option("--yes", help="Submit without asking, however long it takes.")] = False,
    project: ProjectName = None,
) -> None:
    """Put a campaign into a project's queue. Workers run it: mmace worker, or mmace launch on Slurm.

    The same campaign as `mmace run` would begin; submitted twice, it is there once.
    """
    from mmace_flows.execution.run import Request
    from mmace_flows.execution.submission import submit_campaign

    request = Request(recipe, preset, tuple(changes or ()), name, new, yes)
    submit_campaign(request, need_project(project), console())


def worker(
    kind: Annotated[str, typer.Argument(help="Kind of worker, as project.yaml names them.")] = "cpu",
    project: ProjectName = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Jobs side by side (default: its file).")] = None,
    walltime: Annotated[str | None, typer.Option(help="End after HH:MM:SS (default: as Slurm says).")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Take only these jobs (default: the file's).")] = None,
    idle: Annotated[float, typer.Option(min=0.0, help="Seconds without a job after which it ends.")] = 60.0,
) -> None:
    """Take jobs from a project's queue until there are none, or the wall time is nearly out.

    Never starts what cannot finish in the time that is left, unless the job goes on where it was. Ctrl-C puts the
    jobs back that it held. This is what batch jobs run; by hand it turns any machine into a worker.
    """
    from mmace_flows.execution.submission import work_for

    found = need_project(project)
    options = {"processes": processes, "walltime": walltime, "categories": tuple(category or ()), "idle_seconds": idle}
    raise typer.Exit(work_for(found, kind, **options))  # type: ignore[arg-type]


def launch(
    kind: Annotated[str | None, typer.Argument(help="Kind of worker (default: every kind with a qadapter).")] = None,
    project: ProjectName = None,
    most: Annotated[int, typer.Option("--max", min=1, help="Batch jobs of each kind at a time.")] = 10,
    every: Annotated[float | None, typer.Option(min=1.0, help="Look again every so many seconds, until done.")] = None,
) -> None:
    """Submit workers to Slurm, as many as there are jobs for (FireWorks' qlaunch). Again and again with --every."""
    from mmace_flows.execution.launch import launch as launch_workers
    from mmace_flows.execution.needs import open_campaigns
    from mmace_flows.execution.stores import open_stores

    found = need_project(project)
    kinds = [kind] if kind else [name for name, files in found.config.workers.items() if files.qadapter]
    if not kinds:
        from mmace.errors import UserError

        raise UserError(f"{found.file}: no worker has a qadapter; make the project with --slurm, or use `mmace worker`")
    stores = open_stores(found.activate())
    while True:
        for one in kinds:
            launch_workers(stores, found, one, most, typer.echo)
        if every is None or not open_campaigns(stores):
            return
        time.sleep(every)
