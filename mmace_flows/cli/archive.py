"""`mmace export`, `mmace import`, `mmace gc`, `mmace deliver`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of database, results that wait, scratch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("import")(import_)
    app.command("gc")(gc)
    app.command("deliver")(deliver)


def export(
    campaign: Annotated[str, typer.Argument(help="Campaign.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: NAME.tar.gz, or .tar.xz: smaller.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Write a campaign into one file: documents, arrays, models, with checksums. To move or publish it."""
    from mmace_flows.execution.archive_export import export as write
    from mmace_flows.execution.campaign import require_database

    stores = _stores(data_dir, lambda settings: require_database(settings, campaign))
    with _progress(as_json) as tell:
        counts = write(stores, campaign, output.absolute(), overwrite, tell)
    size = counts.pop("bytes")
    if as_json:
        typer.echo(json.dumps({"file": str(output), "bytes": size, "counts": counts}))
    else:
        typer.echo(f"{output}: {_listed(counts)}; {_size(size)}")


def import_(
    file: Annotated[Path, typer.Argument(help="File that `mmace export` wrote.")],
    max_gb: Annotated[float, typer.Option(min=0.0, help="Refuse archives that unpack to more.")] = 100.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take a campaign from a file into this database. Checks everything first, overwrites nothing."""
    from mmace_flows.execution.archive_import import import_archive
    from mmace_flows.execution.connection import require_writing

    stores = _stores(data_dir)
    require_writing(stores.connection)
    with _progress(as_json) as tell:
        result = import_archive(stores, file, max_gb, tell)
    if as_json:
        typer.echo(
            json.dumps({"campaign": result.campaign, "new": result.new, "there": result.there, "kept": result.kept})
        )
        return
    typer.echo(
        f"campaign {result.campaign}: {_listed(result.new) or 'nothing'} new, {result.there.total()} there already"
    )
    if result.kept:
        typer.echo(f"found here with other results, which stay: {_listed(result.kept)}")
    typer.echo(f"next: mmace status {result.campaign}")


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without this it is only listed.")] = False,
    older_than: Annotated[float, typer.Option(min=0.0, help="Only what is older than this, hours.")] = 24.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """List or delete what nothing needs: arrays and models without a document, scratch of finished campaigns."""
    from datetime import timedelta

    from mmace_flows.execution.campaign import require_database
    from mmace_flows.execution.collect_garbage import delete as remove
    from mmace_flows.execution.collect_garbage import find_garbage
    from mmace_flows.execution.connection import require_writing

    stores = _stores(data_dir, lambda settings: require_database(settings, None))
    if delete:
        require_writing(stores.connection)
    found = find_garbage(stores, timedelta(hours=older_than))
    size = sum(one.bytes for one in found)
    for one in found:
        if not as_json:
            typer.echo(f"{one.kind:<18}  {_size(one.bytes):>10}  {one.name}")
        if delete:
            remove(stores, one)
    if as_json:
        listed = [{"kind": one.kind, "name": one.name, "bytes": one.bytes} for one in found]
        typer.echo(json.dumps({"deleted": delete, "bytes": size, "found": listed}))
    elif not found:
        typer.echo("nothing to delete")
    else:
        done = "deleted" if delete else "could be deleted: add --delete"
        typer.echo(f"{len(found)} thing{'s' if len(found) > 1 else ''}, {_size(size)}, {done}")


def deliver(data_dir: DataDir = None) -> None:
    """Store results that workers kept on disk while the database was away. The next worker does that too."""
    from mmace_flows.execution.delivery import deliver_all

    line = deliver_all(_stores(data_dir), typer.echo)
    if line:
        typer.echo(line)


def _stores(data_dir: Path | None, check: Callable[..., None] = lambda settings: None) -> Stores:
    import os

    from mmace_flows.execution.settings import load_settings

    settings = load_settings(data_dir=data_dir)
    check(settings)
    os.environ.update(settings.environment())  # stores that open by themselves find the same ones
    from mmace_flows.execution.stores import open_stores

    return open_stores(settings)


def _listed(counts: dict[str, int]) -> str:
    words = ((number, name.replace("_", " ")) for name, number in sorted(counts.items()) if number)
    return ", ".join(f"{number} {name.removesuffix('s') if number == 1 else name}" for number, name in words)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar per kind of thing on a terminal, with the time left; nothing in a file or pipe."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        bars: dict[str, object] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=of or None)
            progress.update(bars[what], completed=done, total=of or None)  # type: ignore[arg-type]

        yield tell
