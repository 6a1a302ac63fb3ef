"""`mmace run`, `mmace resume`, `mmace status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mmace_flows.execution.settings import Settings

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder for database, logs, reports.")]
WorkerCount = Annotated[int | None, typer.Option("--workers", min=1, help="Jobs that run at a time.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("resume")(resume)
    app.command("status")(status)


def run(
    recipe: Annotated[Path, typer.Argument(help="Recipe file, like workflows/feni.py.")],
    preset: Annotated[str, typer.Option(help="Named settings of the recipe.")] = "small",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the campaign (default: recipe-preset).")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin a new campaign even if one of this name exists.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start without asking, however long it takes.")] = False,
    workers: WorkerCount = None,
    data_dir: DataDir = None,
) -> None:
    """Run a campaign; the same command again continues it."""
    from mmace_flows.execution import run as execution

    settings = _settings(data_dir, workers)
    request = execution.Request(recipe, preset, tuple(changes or ()), name, new, yes)
    raise typer.Exit(execution.run(request, settings, _console()))


def resume(
    name: Annotated[str | None, typer.Argument(help="Campaign (default: the newest unfinished one).")] = None,
    workers: WorkerCount = None,
    data_dir: DataDir = None,
) -> None:
    """Continue a campaign; what is finished is not computed again."""
    from mmace_flows.execution import run as execution

    raise typer.Exit(execution.resume(name, _settings(data_dir, workers), _console()))


def status(
    name: Annotated[str | None, typer.Argument(help="Campaign (default: all, briefly).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show where campaigns stand."""
    from mmace_flows.execution.status import campaign_status, overview, print_overview, print_status

    settings = _settings(data_dir, None)
    if name is None:
        rows = overview(settings)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
        else:
            print_overview(rows, _console())
        return
    details = campaign_status(settings, name)
    if as_json:
        typer.echo(json.dumps(details, indent=1))
    else:
        print_status(details, _console())


def _settings(data_dir: Path | None, workers: int | None) -> Settings:
    from mmace_flows.execution.settings import load_settings

    return load_settings(data_dir=data_dir, workers=workers)


def _console() -> Console:
    from rich.console import Console

    return Console()
