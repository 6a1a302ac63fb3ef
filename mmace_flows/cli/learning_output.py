"""What `mmace train` and `mmace evaluate` show: progress, tables, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from mmace_flows.cli.signals import termination_interrupts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mmace.train import TrainingConfig, TrainingResult

# Columns of the tables: name in the errors, heading, factor from eV, eV/Å, eV/Å³, eV/μB to the unit people read.
COLUMNS = (
    ("energy", "energy\nmeV/atom", 1000.0),
    ("forces", "forces\nmeV/Å", 1000.0),
    ("stress", "stress\nGPa", 160.21766208),
    ("magnetic_forces", "magnetic forces\nmeV/μB", 1000.0),
)
WIDE = 200  # columns where there is no terminal
WIDE_BAR = 150  # columns that the progress bar needs to show units too
TURNED = ("anisotropy", "anisotropy\nµeV/atom", 1e6)  # shown where the data have energies of directions
UNITS = {"energy_per_atom": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "magnetic_forces": "eV/μB"}


def with_progress(run: Any, config: TrainingConfig, console: Any) -> TrainingResult:
    """Runs ``run(progress)`` with a progress bar, or with plain lines where there is no terminal."""
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    said = [0.0]

    with_units = not console.is_terminal or console.width >= WIDE_BAR

    def summary(event: dict[str, Any]) -> str:
        parts = [f"loss {event['loss']:.3g}"]
        for name, heading, factor in (*COLUMNS, TURNED):
            error = event.get(f"{name}_rmse")
            if error is not None:
                what, unit = heading.split("\n")
                parts.append(f"{what} {factor * error:.3g} {unit if with_units else ''}".rstrip())
        return " · ".join(parts)

    bar = Progress(
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
    )

    def show(event: dict[str, Any]) -> None:
        if console.is_terminal:
            bar.update(task, completed=event["epoch"], description=summary(event))
        elif event["epoch"] == event["epochs"] or time.monotonic() - said[0] > 10:
            said[0] = time.monotonic()
            left = (event["epochs"] - event["epoch"]) * event["seconds"] / max(event["epoch"], 1)
            console.print(
                f"epoch {event['epoch']}/{event['epochs']} · {summary(event)} · {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )

    task = bar.add_task("validation RMSE in meV/atom, meV/Å, GPa, meV/μB", total=config.epochs)
    try:
        with termination_interrupts():
            if console.is_terminal:
                with bar:
                    return run(show)
            return run(show)
    except KeyboardInterrupt as stop:
        console.print(str(stop) or "stopped", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None


def nested(errors: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Errors with one mapping per quantity: branch → {count, energy_per_atom: {rmse, mae}, forces: …}.

    Branches without structures are left out, as in the table.
    """
    result: dict[str, dict[str, Any]] = {}
    for branch, values in errors.items():
        if not values["count"]:
            continue
        result[branch] = {"count": values["count"]}
        for (name, _, _), shown in zip(COLUMNS, UNITS, strict=True):
            result[branch][shown] = {kind: values[f"{name}_{kind}"] for kind in ("rmse", "mae")}
        if "anisotropy_rmse" in values:
            result[branch]["anisotropy"] = {kind: values[f"anisotropy_{kind}"] for kind in ("rmse", "mae")}
    return result


def print_json(data: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def output_console() -> Console:
    """Where results go. Off a terminal nothing is folded or cut to a width that nobody has."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def errors_table(errors: dict[str, dict[str, Any]], title: str) -> Table:
    """RMSE and MAE per branch in the units people read."""
    from rich.table import Table

    table = Table(title=f"{title}: RMSE (MAE)", title_justify="left")
    table.add_column("branch")
    table.add_column("count", justify="right")
    turned = any("anisotropy_rmse" in values for values in errors.values())
    columns = (*COLUMNS, TURNED) if turned else COLUMNS
    for _, heading, _ in columns:
        table.add_column(heading, justify="right")
    for branch, values in errors.items():
        if not values["count"]:
            continue
        cells = []
        for name, _, factor in columns:
            rmse, mae = values.get(f"{name}_rmse"), values.get(f"{name}_mae")
            cells.append("–" if rmse is None or mae is None else f"{_short(factor * rmse)} ({_short(factor * mae)})")
        table.add_row(branch, str(values["count"]), *cells)
    return table


def committee_table(summary: dict[str, Any]) -> Table:
    """RMSE of each member and of their mean on the validation data, and the spread, in the units people read."""
    from rich.table import Table

    kind = "bootstrap samples" if summary["bootstrap"] else "other seeds"
    table = Table(title=f"committee of {len(summary['members'])}, {kind}: validation RMSE", title_justify="left")
    table.add_column("member")
    table.add_column("best epoch", justify="right")
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right")

    def row(name: str, epoch: str, values: dict[str, Any], suffix: str) -> None:
        found = [(values.get(key + suffix), factor) for key, _, factor in COLUMNS]
        table.add_row(name, epoch, *("–" if value is None else _short(factor * value) for value, factor in found))

    for member in summary["members"]:
        row(member["folder"], str(member["best_epoch"]), member["errors"], "_rmse")
    row("mean", "", summary["mean"], "_rmse")
    row("spread", "", {**summary["spread"], "energy": summary["spread"]["energy_per_atom"]}, "")
    return table


def _short(value: float) -> str:
    """Three digits, without an exponent where a number of people's size does as well."""
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
