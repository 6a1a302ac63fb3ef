"""Structures of files in the magnetic states that calculations start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmace_flows.cli.structures_options import read_all, words

if TYPE_CHECKING:
    from mmace_flows.schemas.structure import Candidate

State = Annotated[
    list[str] | None,
    typer.Option(metavar="fm,afm,nm", help="start every structure in each of these states [default: IN's moments]"),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="compute again what did not converge before")]


def starts(inputs: list[Path], format_name: str | None, state: list[str] | None) -> list[tuple[str, Candidate]]:
    """Every structure in every state asked for, with words that tell it from the others."""
    from mmace.errors import UserError
    from mmace_flows.labels.starting_states import in_state, state_names

    states = state_names(words(state))
    if state and not states:
        raise UserError("--state: no state is given; write for example fm,afm,nm")
    named = []
    for path in inputs:
        for number, candidate in enumerate(read_all([path], format_name)):
            where = f"{path}: configuration {number}"
            if not states:
                named.append((where, candidate))
            for one in states:
                try:
                    named.append((f"{where} {one}", in_state(candidate, one)))
                except UserError as error:
                    raise UserError(f"{where}: {error}") from error
    return named
