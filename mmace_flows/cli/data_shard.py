"""`mmace data shard`: training data larger than memory, prepared once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mmace_flows.cli.data_source import SAY_EVERY, iterate_source, read_options
from mmace_flows.cli.learning_settings import STORE, parsed_keys
from mmace_flows.cli.options import Elements, FormatName, Keys, Sources, ZeroMoments


def shard_command(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the shards")],
    r_max: Annotated[
        float, typer.Option(help="cutoff radius of the neighbour lists, Å; the model's must be the same")
    ] = 5.0,
    only: Annotated[
        str | None, typer.Option("--only", metavar="Fe,Ni", help="elements that may occur [default: all]")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="that work at once [default: as many as CPUs]")] = None,
    structures: Annotated[int, typer.Option(min=1, help="per shard")] = 1000,
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace shards of other data or settings")] = False,
) -> None:
    """Prepare data that do not fit into memory: structures with their neighbour lists, for `mmace train --data FOLDER`.

    Stopped at any moment, the same command goes on with what is missing.
    """
    from rich.console import Console

    from mmace.train.shard_writer import write_shards

    options = read_options(parsed_keys(key), format_name, elements, zero_moments)
    stored = any(str(source).startswith(STORE) for source in sources)
    data: Any = sources
    if stored:
        data = itertools.chain.from_iterable(iterate_source(source, options) for source in sources)
    console = Console(stderr=True)
    with _progress(console) as show:
        shards = write_shards(
            data,
            output,
            only.replace(",", " ").split() if only is not None else None,
            r_max,
            processes,
            show,
            options=options,
            structures_per_shard=structures,
            overwrite=overwrite,
        )
    found = ", ".join(f"{name} {count}" for name, count in shards.branches.items() if count)
    console.print(
        f"{output}: {len(shards)} structures of {', '.join(shards.elements)}; {found}; r_max {r_max:g} Å; "
        f"train with --data {output}",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _progress(console: Any) -> Iterator[Any]:
    """Shows the events of `write_shards`: a line that changes on a terminal, else a line now and then."""
    said = time.monotonic()
    status = console.status("preparing shards") if console.is_terminal else None

    def show(event: dict[str, Any]) -> None:
        nonlocal said
        parts = [f"{event['shards']} shards, {event['structures']} structures"]
        if event["done"] is not None:
            parts.append(f"{100 * event['done']:.0f} %")
        if event["left"] is not None:
            parts.append(f"{event['left']:.0f} s left")
        if status is not None:
            status.update(", ".join(parts))
        elif time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            console.print(", ".join(parts), highlight=False, soft_wrap=True)

    if status is None:
        yield show
        return
    with status:
        yield show
