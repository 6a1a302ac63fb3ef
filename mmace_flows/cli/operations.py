"""`mmace watch`, `logs`, `pause`, `cancel`, `retry`, `campaigns`: look after campaigns, wherever they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmace_flows.cli.project_options import DataDir, ProjectName, console, need_project, open_campaign, open_settings

Name = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Name of the campaign.")]
OneJob = Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job: its number, or a part of its name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("campaigns")(campaigns)
    app.command("watch")(watch)
    app.command("logs")(logs)
    app.command("pause")(pause)
    app.command("cancel")(cancel)
    app.command("retry")(retry)


def campaigns(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    project: ProjectName = None,
    data_dir: DataDir = None,
) -> None:
    """List all campaigns, one line each."""
    from mmace_flows.execution.status import overview, print_overview

    rows = overview(open_settings(project, data_dir))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        print_overview(rows, console())


def watch(
    name: Annotated[str | None, typer.Argument(help="Campaign (default: the newest unfinished one).")] = None,
    project: ProjectName = None,
    data_dir: DataDir = None,
) -> None:
    """Show a campaign live until it is finished, whoever runs it. Ctrl-C ends watching, not the campaign."""
    from mmace_flows.execution.watch import watch as watch_campaign

    found = need_project(project) if project else None
    stores, campaign = open_campaign(name, project, data_dir)
    watch_campaign(stores, campaign.campaign, stores.connection.settings, found, console())


def logs(
    job: Annotated[str, typer.Argument(help="Job: its number, or its name or a part of it with --campaign.")],
    campaign: Annotated[str | None, typer.Option("--campaign", help="Campaign of a job that is given by name.")] = None,
    project: ProjectName = None,
    data_dir: DataDir = None,
) -> None:
    """Say where a job ran and how each attempt ended, and print its log. Numbers stand in `mmace status CAMPAIGN`."""
    from mmace_flows.execution.job_logs import log_lines
    from mmace_flows.execution.operations import find_job

    stores, _ = open_campaign(campaign, project, data_dir)
    for line in log_lines(stores, find_job(stores, campaign, job)):
        typer.echo(line)


def pause(name: Name, project: ProjectName = None, data_dir: DataDir = None) -> None:
    """Start no further job of a campaign; those that run may finish. `mmace resume` goes on."""
    from mmace_flows.execution import operations

    stores, campaign = open_campaign(name, project, data_dir)
    typer.echo(f"{operations.pause(stores, campaign)}; go on with: {_command('resume', name, project, data_dir)}")


def cancel(name: Name, job: OneJob = None, project: ProjectName = None, data_dir: DataDir = None) -> None:
    """Stop a campaign, ending what runs, or one of its jobs. What is finished stays; `mmace resume` takes it back."""
    from mmace_flows.execution import operations

    stores, campaign = open_campaign(name, project, data_dir)
    if job is None:
        typer.echo(f"{operations.cancel(stores, campaign)}; take back: {_command('resume', name, project, data_dir)}")
        return
    found = operations.find_job(stores, campaign.campaign, job)
    back = _command("retry", name, project, data_dir)
    typer.echo(f"{operations.cancel_job(stores, campaign, found)}; take back: {back} {found.firework}")


def retry(name: Name, job: OneJob = None, project: ProjectName = None, data_dir: DataDir = None) -> None:
    """Put a campaign's failed jobs, or one of them, back into the queue, and what dead workers held."""
    from mmace_flows.execution import operations

    stores, campaign = open_campaign(name, project, data_dir)
    found = operations.find_job(stores, campaign.campaign, job) if job is not None else None
    again = operations.retry(stores, campaign, found)
    for one in again:
        typer.echo(f"back in the queue: {one.name}  (job {one.firework})")
    if not again:
        typer.echo("nothing to retry: no job failed or was cut off")
    elif not campaign.details.get("project"):
        typer.echo(f"run them, unless it is running: {_command('resume', name, project, data_dir)}")


def _command(verb: str, name: str, project: str | None, data_dir: Path | None) -> str:
    """A command about the same campaign, to type."""
    import shlex

    words = ["mmace", verb, name]
    words += ["--project", project] if project else []
    words += ["--data-dir", str(data_dir)] if data_dir else []
    return shlex.join(words)
