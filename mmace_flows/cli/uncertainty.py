"""`mmace uncertainty fit`: error bars for a trained potential."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the group `uncertainty` to ``app``."""
    group = typer.Typer(help="Error bars for a trained potential.", no_args_is_help=True)
    group.command("fit")(fit_command)
    app.add_typer(group, name="uncertainty")


def fit_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="checkpoint, .safetensors")],
    data: Annotated[Path | None, typer.Option(help="structures the model was trained on")] = None,
    valid: Annotated[Path | None, typer.Option(help="labelled structures it has not seen: they set the scale")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="file to write [default: uncertainty.safetensors by the model]"),
    ] = None,
    ridge: Annotated[float | None, typer.Option(help="λ, of the mean eigenvalue [default: the likeliest]")] = None,
    power_law: Annotated[bool, typer.Option("--power-law", help="fit σ = a·s^b instead of σ = a·s")] = False,
    plot: Annotated[Path | None, typer.Option(help="PNG of the calibration [default: beside the output]")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="FIELD=KEY", help="other key, e.g. magmoms=magmoms")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="structures at a time")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Fit the uncertainty of a model's energies and say how honest it is.

    Use it with MagneticCalculator(MODEL, uncertainty=FILE) or `mmace evaluate MODEL DATA --uncertainty FILE`.
    """
    from rich.console import Console
    from rich.progress import Progress

    from mmace import load, model_hash
    from mmace.errors import UserError
    from mmace.plots.training import write_figure
    from mmace.plots.uncertainty import calibration_figure
    from mmace.train import read_configurations
    from mmace.uncertainty import fit_last_layer, save_uncertainty
    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.cli.learning_settings import checkpoint_file, parsed_keys

    if data is None:
        raise UserError("uncertainty fit: no data; give --data FILE.extxyz, the structures the model was trained on")
    potential = load(checkpoint_file(model))
    keys = parsed_keys(key)
    training = read_configurations(data, keys)
    held_out = read_configurations(valid, keys) if valid is not None else None
    target = output or model.parent / "uncertainty.safetensors"
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("last-layer features", total=None)
        fitted, report = fit_last_layer(
            potential,
            training,
            held_out,
            ridge,
            power_law,
            batch_size,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    save_uncertainty(fitted, target, report.to_dict())
    title = f"{valid.name if valid else data.name}, {len(report.errors)} structures"
    drawn = write_figure(
        lambda: calibration_figure(report.errors, report.sigmas, report.branches, title),
        plot or target.with_suffix(".png"),
    )
    if as_json:
        files = {"file": str(target), "plot": str(drawn) if drawn else None, "model_hash": model_hash(potential)}
        print_json({**files, "calibration": fitted.calibration.to_dict(), **report.to_dict()})
        return
    _show(report, title)
    typer.echo(f"uncertainty: {target}" + (f" (plot: {drawn})" if drawn else ""))


def _show(report: Any, title: str) -> None:
    from rich.table import Table

    from mmace_flows.cli.learning_output import output_console

    table = Table(title=f"energy per atom, {title}", title_justify="left")
    table.add_column("")
    for heading in ("within σ\n(68.3 %)", "within 2σ\n(95.4 %)", "miscalibration\narea", "NLL", "rank correlation"):
        table.add_column(heading, justify="right")
    for name, values in (("before calibration", report.before), ("after", report.after)):
        table.add_row(
            name,
            f"{100 * values.coverage_68:.1f} %",
            f"{100 * values.coverage_95:.1f} %",
            f"{values.miscalibration_area:.3f}",
            f"{values.nll:.3f}",
            f"{values.rank_correlation:.2f}",
        )
    console = output_console()
    console.print(table)
    if not report.held_out:
        console.print(
            "scale from the errors of the training structures, which are smaller than those of new ones: "
            "give --valid FILE.extxyz with structures that the model has not seen",
            soft_wrap=True,
        )
