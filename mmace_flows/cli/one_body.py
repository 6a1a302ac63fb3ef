"""`mmace fit-one-body`: from energies of isolated atoms to the curves E0_mag(|m|) that training takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the command `fit-one-body` to ``app``."""
    app.command("fit-one-body")(fit_command)


def fit_command(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="single atoms as extended XYZ, or CSV with columns element,moment,energy"),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON file to write; `mmace train --one-body` takes it")
    ],
    method: Annotated[str, typer.Option(help="spline or chebyshev")] = "spline",
    smoothness: Annotated[float, typer.Option(help="spline: penalty on second differences of coefficients")] = 1e-4,
    knots: Annotated[int, typer.Option(help="spline: knots in m²")] = 16,
    degree: Annotated[int, typer.Option(help="chebyshev: highest polynomial")] = 8,
    strength: Annotated[float, typer.Option(help="chebyshev: strength of the ridge")] = 1e-8,
    power: Annotated[int, typer.Option(help="chebyshev: the ridge grows as degree^power + 1")] = 4,
    m_max: Annotated[float | None, typer.Option(help="chebyshev: largest |m|, μB [default: 1.2·max|m| + 0.1]")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of curves and residuals [default: beside the output]")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="FIELD=KEY", help="other key, e.g. magmoms=magmoms")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Fit the energy of isolated atoms as a function of their moment, before training.

    Prints residuals, the error of points that the fit has not seen, and whether the curve rises behind the data.
    """
    from mmace.one_body_data import read_atom_grids
    from mmace.one_body_file import FitOptions, fit_one_body, save_one_body
    from mmace.plots.one_body import one_body_figure
    from mmace.plots.training import write_figure
    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.cli.learning_settings import parsed_keys

    options = FitOptions(method, m_max, degree, strength, power, knots, smoothness)
    grids = read_atom_grids(data, parsed_keys(key))
    fits = {element: fit_one_body(grid, options, f"{data}: {element}") for element, grid in grids.items()}
    save_one_body(fits, output)
    drawn = write_figure(lambda: one_body_figure(fits), plot or output.with_suffix(".png"))
    rows = {element: _judged(fit) for element, fit in fits.items()}
    if as_json:
        print_json({"file": str(output), "plot": str(drawn) if drawn else None, "method": method, "elements": rows})
        return
    _show(rows, f"{data.name}, {method} fit")
    typer.echo(f"one-body energies: {output}" + (f" (plot: {drawn})" if drawn else ""))


def _judged(fit: Any) -> dict[str, Any]:
    """Numbers by which a fit is judged, in eV and μB."""
    import numpy as np

    return {
        "count": len(fit.moments),
        "largest_moment": float(fit.moments.max()),
        "atomic_energy": fit.atomic_energy,
        "residual_rms": float(np.sqrt(np.mean(fit.residuals**2))),
        "residual_max": float(np.abs(fit.residuals).max()),
        "left_out_rms": fit.left_out_rms,
        "rises_from": fit.rises_from,
        "falls_at_end": fit.falls_at_end,
    }


def _show(rows: dict[str, dict[str, Any]], title: str) -> None:
    from rich.table import Table

    from mmace_flows.cli.learning_output import output_console

    table = Table(title=title, title_justify="left")
    for heading in ("element", "energies", "up to\nμB", "E0 at m = 0\neV", "residual RMS\nmeV", "largest\nmeV"):
        table.add_column(heading, justify="left" if heading == "element" else "right")
    table.add_column("point left out\nmeV", justify="right")
    table.add_column("rises from\nμB", justify="right")
    for element, row in rows.items():
        left_out, rises = row["left_out_rms"], row["rises_from"]
        table.add_row(
            element,
            str(row["count"]),
            f"{row['largest_moment']:.2f}",
            f"{row['atomic_energy']:.4f}",
            f"{1000 * row['residual_rms']:.3g}",
            f"{1000 * row['residual_max']:.3g}",
            "–" if left_out is None else f"{1000 * left_out:.3g}",
            "never" if rises is None else f"{rises:.2f}",
        )
    console = output_console()
    console.print(table)
    for element, row in rows.items():
        if row["rises_from"] is None:
            console.print(f"{element}: the curve does not rise behind the data; a moment could run away")
        elif row["falls_at_end"]:
            console.print(
                f"{element}: the energy still falls at the largest moment; add larger moments "
                f"(the curve is turned upwards behind {row['largest_moment']:.2f} μB)"
            )
