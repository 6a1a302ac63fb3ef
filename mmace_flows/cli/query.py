"""`mmace query anisotropy`: the table of materials, filtered, sorted, as text or file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmace_flows.cli.existing_database import existing_database
from mmace_flows.cli.options import given

query_group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Ask the collections of results.")

SUFFIXES = {".json": "json", ".csv": "csv", ".extxyz": "extxyz", ".xyz": "extxyz", ".txt": "table"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(query_group, name="query")


@query_group.command("anisotropy")
def query_anisotropy(
    elements: Annotated[str | None, typer.Option(metavar="Fe,Pt", help="elements that must all be there")] = None,
    any_of: Annotated[str | None, typer.Option(metavar="Fe,Co", help="elements of which one must be there")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="Pt,Y", help="elements that must not be there")] = None,
    formula: Annotated[str | None, typer.Option(metavar="FePt", help="reduced formulas")] = None,
    ordering: Annotated[str | None, typer.Option(metavar="FM", help="NM, FM, AFM, FiM, non-collinear")] = None,
    level: Annotated[str | None, typer.Option(help="where the values come from: model or DFT")] = None,
    space_group: Annotated[str | None, typer.Option(metavar="P4/mmm", help="symbol, or number from 1 to 230")] = None,
    campaign: Annotated[str | None, typer.Option(help="campaign that a row comes from")] = None,
    min_k1: Annotated[float | None, typer.Option(help="K1 at least, MJ/m³")] = None,
    max_k1: Annotated[float | None, typer.Option(help="K1 at most, MJ/m³")] = None,
    min_strength: Annotated[float | None, typer.Option(help="ΔE_A at least, meV per atom")] = None,
    min_ms: Annotated[float | None, typer.Option(help="μ0 Ms at least, T")] = None,
    max_ms: Annotated[float | None, typer.Option(help="μ0 Ms at most, T")] = None,
    min_hardness: Annotated[float | None, typer.Option(help="hardness κ at least")] = None,
    max_hardness: Annotated[float | None, typer.Option(help="hardness κ at most")] = None,
    max_ehull: Annotated[
        float | None, typer.Option(help="energy above the hull at most, eV per atom; rows where it is unknown fail")
    ] = None,
    max_atoms: Annotated[int | None, typer.Option(help="atoms in the cell at most")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="k1, strength, ms, hardness, ehull, spread, volume, formula, space-group, "
            "updated; with a minus in front the largest first [default: -k1]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="rows of a page, at most 1000 [default: 50]")] = None,
    page: Annotated[int | None, typer.Option(help="which page [default: 1]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="all rows instead of a page")] = False,
    output_format: Annotated[
        str | None,
        typer.Option("--format", help="table, json, csv, extxyz [default: by the name of the file, else table]"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="write to a file")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
) -> None:
    """Ranked magnets: one row per crystal and magnetic ordering, DFT values where there are any, else the model's.

    All filters must hold. The table is made by `mmace build anisotropy`.

    Example: mmace query anisotropy --elements Fe,Pt --min-k1 1 --ordering FM --max-ehull 0.1 --sort -k1
    """
    from mmace.errors import UserError
    from mmace_flows.cli.learning_output import output_console
    from mmace_flows.screening import output as texts
    from mmace_flows.screening.query import ask
    from mmace_flows.screening.table import count, find_entries, row_of

    wanted = _format(output_format, output)
    query = ask(
        **given(
            elements=elements, any_of=any_of, exclude=exclude, formula=formula, ordering=ordering, level=level,
            space_group=space_group, campaign=campaign, min_k1=min_k1, max_k1=max_k1, min_strength=min_strength,
            min_ms=min_ms, max_ms=max_ms, min_hardness=min_hardness, max_hardness=max_hardness, max_ehull=max_ehull,
            max_atoms=max_atoms, sort=sort, limit=limit, page=page,
        )
    )  # fmt: skip
    table = _table(data_dir)
    total, before = count(table, query), 0 if everything else query.skip
    entries = list(find_entries(table, query, everything))
    if not entries and total == 0 and table.estimated_document_count() == 0:
        raise UserError("the table is empty; fill it with `mmace build anisotropy`, after `mmace soc` or a screening")
    rows = [row_of(entry) for entry in entries]
    if wanted == "table":
        made: Any = texts.as_table(rows)
        if output is None:
            console = output_console()
            console.print(made)
            typer.echo(_counted(len(rows), total, before), err=True)
            return
        text = _rendered(made)
    elif wanted == "json":
        text = texts.as_json(entries, total)
    elif wanted == "csv":
        text = texts.as_csv(rows)
    else:
        text = texts.as_extxyz(entries)
    if output is None:
        typer.echo(text, nl=False)
    else:
        from mmace_flows.execution.processes import write_file

        write_file(output, text)
        typer.echo(f"{output}: {_counted(len(rows), total, before)}", err=True)


def _format(chosen: str | None, output: Path | None) -> str:
    """The format, and a file that can be written. Raises UserError."""
    from mmace.errors import UserError, unknown_key_message
    from mmace_flows.screening.output import FORMATS

    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        what = "is a folder; give the name of a file" if output.is_dir() else f"there is no folder {output.parent}"
        raise UserError(f"--output {output}: {what}")
    if chosen is None:
        return "table" if output is None else SUFFIXES.get(output.suffix, "table")
    if chosen not in FORMATS:
        raise UserError(unknown_key_message(chosen, FORMATS, "--format").replace("setting", "format"))
    return chosen


def _table(data_dir: Path | None) -> Any:
    from mmace_flows.execution.stores import open_stores

    settings = existing_database(data_dir)
    return open_stores(settings).collection("anisotropy")


def _counted(shown: int, total: int, before: int) -> str:
    from mmace_flows.screening.table import COUNTED

    of = f"more than {COUNTED:,}" if total > COUNTED else f"{total:,}"
    if shown == 0:
        return f"no row matches on this page; {of} in all" if total else "no row matches; loosen the filters"
    return f"rows {before + 1:,}–{before + shown:,} of {of}"


def _rendered(table: Any) -> str:
    import io

    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=200).print(table)
    return stream.getvalue()
