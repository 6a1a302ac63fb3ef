"""`mmace run`, `mmace resume`, `mmace status`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mmace_flows.cli.project_options import (
    Changes,
    DataDir,
    New,
    NewName,
    Preset,
    ProjectName,
    RecipeFile,
    console,
    need_project,
    open_settings,
)

WorkerCount = Annotated[int | None, typer.Option("--workers", min=1, help="Jobs that run at a time.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("resume")(resume)
    app.command("status")(status)


def run(
    recipe: RecipeFile,
    preset: Preset = "small",
    changes: Changes = None,
    name: NewName = None,
    new: New = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start without asking, however long it takes.")] = False,
    workers: WorkerCount = None,
    data_dir: DataDir = None,
) -> None:
    """Run a campaign; the same command again continues it."""
    from mmace_flows.execution import run as execution

    settings = open_settings(None, data_dir, workers)
    request = execution.Request(recipe, preset, tuple(changes or ()), name, new, yes)
    raise typer.Exit(execution.run(request, settings, console()))


def resume(
    name: Annotated[str | None, typer.Argument(help="Campaign (default: the newest unfinished one).")] = None,
    workers: WorkerCount = None,
    project: ProjectName = None,
    data_dir: DataDir = None,
) -> None:
    """Continue a campaign, also one that was paused or cancelled; what is finished is not computed again.

    A campaign that was submitted to a project goes back into its queue; others run here.
    """
    from mmace_flows.execution import run as execution

    raise typer.Exit(execution.resume(name, open_settings(project, data_dir, workers), console()))


def status(
    name: Annotated[str | None, typer.Argument(help="Campaign (default: all, briefly).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    project: ProjectName = None,
    data_dir: DataDir = None,
) -> None:
    """Show where campaigns stand: stages, jobs, time left, cost so far, and the command that mends what is stuck."""
    from mmace_flows.execution.status import campaign_status, overview, print_overview, print_status

    found = need_project(project) if project else None
    settings = open_settings(project, data_dir)
    if name is None:
        rows = overview(settings)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
        else:
            print_overview(rows, console())
        return
    details = campaign_status(settings, name, found)
    if as_json:
        typer.echo(json.dumps(details, indent=1))
    else:
        print_status(details, console())
