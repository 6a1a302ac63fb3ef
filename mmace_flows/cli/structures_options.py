"""What the commands of `mmace structures` share: parsing of values, progress, the file written and what is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Inputs = Annotated[
    list[Path], typer.Argument(metavar="IN...", help="structures in any format that ASE reads, or .mcif; all are taken")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT.extxyz", help="extended XYZ to write")]
FormatName = Annotated[
    str | None, typer.Option("--format", help="format of IN, ASE's name for it [default: by name and content]")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace OUT if it is there")]
AsJson = Annotated[bool, typer.Option("--json", help="say what was made as JSON")]
Seed = Annotated[int, typer.Option(min=0, help="the same seed gives the same structures; kept in OUT")]
Moments = Annotated[
    list[str] | None,
    typer.Option(
        "--moment",
        metavar="EL=μB",
        help="length of an element's moments, e.g. Fe=2.2,Pt=0; repeatable [default: those of IN, else by element]",
    ),
]
SAY_EVERY = 10.0  # seconds between lines where there is no terminal


def settings_of(document: Any, where: str, /, **values: Any) -> Any:
    """``document(**values)``; the first thing that is wrong with a value as a UserError of one line."""
    from pydantic import ValidationError

    from mmace.errors import UserError

    try:
        return document(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        given = first.get("input")
        raise UserError(f"structures {where}: {field}: {given} is not possible: {first['msg'].lower()}") from error


def pairs(texts: Sequence[str] | None, option: str, default: float | None = None) -> dict[str, float]:
    """{"Fe": 2.2} of ["Fe=2.2,Ni=0.6", …]; ``default`` is the value of a name alone. Raises UserError."""
    from mmace.errors import UserError

    found = {}
    for part in (one for text in texts or [] for one in text.replace(",", " ").split()):
        name, equals, number = part.partition("=")
        try:
            found[name] = float(number) if equals or default is None else default
        except ValueError:
            raise UserError(f"{option} {part}: write ELEMENT=NUMBER, for example Fe=2.2") from None
    return found


def numbers(text: str, option: str, count: int | None = None) -> list[float]:
    """The numbers of "0,0,1". Raises UserError if they are none, or not ``count``."""
    from mmace.errors import UserError

    try:
        found = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or (count is not None and len(found) != count):
        wanted = f"{count} numbers" if count is not None else "numbers"
        raise UserError(f"{option} {text}: give {wanted}, separated by commas")
    return found


def axis_of(text: str) -> list[float]:
    """The axis of "0,0,1". Raises UserError."""
    from math import isfinite

    from mmace.errors import UserError

    try:
        found = numbers(text, "--axis", 3)
    except UserError:
        found = []
    if not any(found) or not all(map(isfinite, found)):
        raise UserError(f"--axis {text}: give three numbers that are not all zero, for example 0,0,1")
    return found


def interval(text: str, option: str) -> tuple[float, float]:
    """(0.6, 1.4) of "0.6:1.4"; one number stands for both. Raises UserError if it does not rise."""
    from mmace.errors import UserError

    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) == 1:
        parts = parts * 2
    if len(parts) != 2 or not parts[0] <= parts[1]:
        raise UserError(f"{option} {text}: give LOW:HIGH, for example 0.9:1.1")
    return parts[0], parts[1]


def whole_interval(text: str, option: str) -> tuple[int, int]:
    """As `interval`, whole numbers."""
    from mmace.errors import UserError

    low, high = interval(text, option)
    if low != int(low) or high != int(high):
        raise UserError(f"{option} {text}: give whole numbers LOW:HIGH, for example 2:10")
    return int(low), int(high)


def words(texts: Sequence[str] | None) -> list[str]:
    """["FM", "AFM"] of ["FM,AFM"]."""
    return [word for text in texts or [] for word in text.replace(",", " ").split()]


def read_all(paths: Sequence[Path], format_name: str | None) -> list[Any]:
    """The candidates of all files, in order. Raises UserError."""
    from mmace_flows.structures.files import read_candidates

    return [candidate for path in paths for candidate in read_candidates(path, format_name)]


def checked_output(output: Path, overwrite: bool) -> None:
    """Raises UserError before any work if OUT could not be written, or would replace something."""
    from mmace.errors import UserError
    from mmace_flows.structures.files import check_output

    check_output(output)
    if output.exists() and not overwrite:
        raise UserError(f"{output}: is there already; choose another name, or replace it with --overwrite")


def write_and_tell(output: Path, candidates: Sequence[Any], lines: Sequence[str], as_json: bool, **more: Any) -> None:
    """Write OUT and say how many structures of which state and size are in it."""
    from collections import Counter

    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.structures.files import write_candidates

    write_candidates(output, candidates)
    states = Counter(candidate.magnetic_state for candidate in candidates)
    sizes = [len(candidate.structure.symbols) for candidate in candidates]
    if as_json:
        print_json(
            {"file": str(output), "count": len(candidates), "states": dict(states), "lines": list(lines), **more}
        )
        return
    for line in lines:
        typer.echo(line)
    of_states = ", ".join(f"{count} {state}" for state, count in states.items())
    atoms = f"{min(sizes)} to {max(sizes)} atoms" if min(sizes) < max(sizes) else f"{sizes[0]} atoms"
    typer.echo(f"{len(candidates)} structures ({of_states}; {atoms}) written to {output}")


@contextmanager
def work_progress(verb: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function for events {"done", "total", "message"}: a bar with the time left, or lines off a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn(verb),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
    )
    begin = said = time.monotonic()
    resumed = 0
    task: list[Any] = []

    def show(event: dict[str, Any]) -> None:
        nonlocal said, resumed
        done, total = event["done"], event["total"]
        resumed += bool(event.get("resumed"))
        if console.is_terminal:
            if not task:
                bar.start()
                task.append(bar.add_task("", total=total))
            bar.update(task[0], completed=done, description=event["message"])
        elif done == total or time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            fresh = done - resumed  # what was found on disk says nothing about the time left
            left = f", {(said - begin) / fresh * (total - done):.0f} s left" if fresh and done < total else ""
            console.print(f"{verb} {done}/{total}: {event['message']}{left}", highlight=False, soft_wrap=True)

    try:
        yield show
    finally:
        if task:
            bar.stop()
