"""`mmace structures select`: which of many structures to label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmace_flows.cli.structures_options import (
    AsJson,
    FormatName,
    Inputs,
    Output,
    Overwrite,
    checked_output,
    interval,
    read_all,
    settings_of,
    write_and_tell,
)


def select_command(
    inputs: Inputs,
    output: Output,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="structures selected, at most")] = 50,
    known: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="structures that are labelled already; repeatable")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="checkpoint whose features measure distances [default: a cheap description]")
    ] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="file of `mmace uncertainty fit`, or folder of a committee; needs --model")
    ] = None,
    by: Annotated[
        str, typer.Option(help="distance: far from each other and from --known; or uncertainty")
    ] = "distance",
    trust: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", help="window of the uncertainty, meV per atom")
    ] = None,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the structures to label next: no copies, far from each other, or those a potential is least sure of."""
    from mmace.errors import UserError
    from mmace_flows.structures.selection import SelectSettings, select

    checked_output(output, overwrite)
    if uncertainty is not None and model is None:
        raise UserError(f"--uncertainty {uncertainty}: give the --model that it belongs to")
    window = None if trust is None else tuple(value / 1000.0 for value in interval(trust, "--trust"))
    settings = settings_of(SelectSettings, "select", count=count, by=by, trust=window)
    candidates = read_all(inputs, format_name)
    labelled = [candidate.structure for candidate in read_all(known or [], format_name)]
    potential = sure = None
    if model is not None:
        from mmace import load

        potential = load(model)
        if uncertainty is not None:
            from mmace.uncertainty.resolve import resolve

            sure = resolve(uncertainty, potential)
    found, counts = select(candidates, settings, labelled, potential, sure)
    if not found:
        raise UserError(
            f"select: none of {len(candidates)} structures is left ({counts}); widen --trust, or see --known"
        )
    said = ", ".join(f"{number} {reason}" for reason, number in counts.items() if number)
    write_and_tell(output, found, [f"of {len(candidates)} structures: {said}"] if said else [], as_json)
