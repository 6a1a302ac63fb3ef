"""`mmace doctor` and `mmace db`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmace_flows.cli.findings import print_findings

if TYPE_CHECKING:
    from mmace_flows.execution.embedded import EmbeddedDatabase

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the database.")]

database = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The embedded database: start, stop, status.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("doctor")(doctor)
    app.add_typer(database, name="db")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Say what is installed and what is missing. Exit code 0 if the small FeNi campaign can run."""
    from mmace_flows.execution.doctor import examine
    from mmace_flows.execution.settings import load_settings

    findings = examine(load_settings(data_dir=data_dir))
    print_findings(findings, as_json)
    broken = [finding.name for finding in findings if finding.needed and not finding.ok]
    if broken and not as_json:
        typer.echo(f"the small FeNi campaign cannot run: {', '.join(broken)}")
    raise typer.Exit(1 if broken else 0)


@database.command("start")
def start(data_dir: DataDir = None) -> None:
    """Start the database and leave it running."""
    embedded = _embedded(data_dir)
    port = embedded.keep()
    typer.echo(f"running on 127.0.0.1:{port}; user and password in {embedded.connection_file}")


@database.command("stop")
def stop(data_dir: DataDir = None) -> None:
    """Stop the database, unless something uses it."""
    typer.echo("stopped" if _embedded(data_dir).stop() else "it was not running")


@database.command("status")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Say whether the database runs, where, and who uses it."""
    embedded = _embedded(data_dir)
    found = embedded.status()
    if as_json:
        values = {"running": found.running, "pid": found.pid, "port": found.port, "users": found.users}
        typer.echo(json.dumps(values | {"kept": found.kept, "folder": str(embedded.folder)}))
    elif not found.running:
        typer.echo(f"not running; folder {embedded.folder}")
    else:
        users = ", ".join(str(pid) for pid in found.users) or "nobody"
        typer.echo(f"running as process {found.pid} on 127.0.0.1:{found.port}, used by {users}; {embedded.folder}")


def _embedded(data_dir: Path | None) -> EmbeddedDatabase:
    from mmace.errors import UserError
    from mmace_flows.execution.embedded import EmbeddedDatabase
    from mmace_flows.execution.settings import load_settings

    settings = load_settings(data_dir=data_dir)
    if settings.database is not None:
        raise UserError(f"MMACE_DATABASE names your own server ({settings.database}); start and stop that yourself")
    return EmbeddedDatabase(settings)
