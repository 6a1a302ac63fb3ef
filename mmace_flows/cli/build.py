"""`mmace build anisotropy`: bring the table of materials up to date."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from mmace_flows.cli.existing_database import existing_database

build_group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make collections from others.")

EVERY = 5.0  # seconds between two lines where there is no terminal
SHOWN = 10  # sources set aside that are named


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(build_group, name="build")


@build_group.command("anisotropy")
def build_anisotropy_command(
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable summary")] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
) -> None:
    """Make the table that `mmace query anisotropy` and `mmace serve` show, from force-theorem runs and predictions.

    Only what is new or changed is made; a build that was stopped or killed is finished by the same command.
    Exit code 1 if sources had to be set aside.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mmace_flows.cli.signals import termination_interrupts
    from mmace_flows.execution.stores import open_stores
    from mmace_flows.screening.builder import build_anisotropy

    settings = existing_database(data_dir)
    console = Console(stderr=True)
    stores = open_stores(settings)
    bar = Progress(
        TextColumn("rows"), MofNCompleteColumn(), BarColumn(bar_width=30), TimeRemainingColumn(), console=console
    )
    task = bar.add_task("rows", total=None)
    started = said = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal said
        if console.is_terminal:
            bar.update(task, completed=done, total=total)
        elif time.monotonic() - said > EVERY or done == total:
            said = time.monotonic()
            left = (total - done) * (said - started) / done
            console.print(f"row {done} of {total}; {left:.0f} s left", highlight=False, soft_wrap=True)

    try:
        with termination_interrupts():
            if console.is_terminal:
                with bar:
                    summary = build_anisotropy(stores, show)
            else:
                summary = build_anisotropy(stores, show)
    except KeyboardInterrupt:
        console.print("stopped; the same command makes the rest", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if as_json:
        names = ("made", "unchanged", "hulls_mended", "removed", "set_aside")
        typer.echo(json.dumps({name: getattr(summary, name) for name in names}))
    else:
        typer.echo(
            f"{summary.made} rows made, {summary.unchanged} unchanged, {summary.hulls_mended} energies above the hull "
            f"mended, {summary.removed} removed"
        )
        for which, why in summary.set_aside[:SHOWN]:
            typer.echo(f"set aside: {which}: {why}", err=True)
        if len(summary.set_aside) > SHOWN:
            typer.echo(f"set aside: {len(summary.set_aside) - SHOWN} more (--json names all)", err=True)
    if summary.set_aside:
        raise typer.Exit(1)
