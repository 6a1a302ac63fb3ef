"""`mmace atom-curve`: energies of isolated atoms against their moment by DFT, and both fits of E0_mag."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmace_flows.cli.options import AsJson, Overwrite


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("atom-curve")(atom_curve_command)


def atom_curve_command(
    elements: Annotated[list[str], typer.Argument(metavar="ELEMENT...", help="chemical symbols, e.g. Fe Co Ni Mn")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT.extxyz", help="energies; fits and plots are written beside it"),
    ] = Path("atoms.extxyz"),
    moments: Annotated[
        str, typer.Option(metavar="FROM:TO:STEP", help="total moments, μB, or a list like 0,1,2.5")
    ] = "0:5:0.5",
    cutoff: Annotated[
        float, typer.Option(min=50.0, help="plane-wave cutoff, eV: that of the crystals' labels")
    ] = 340.0,
    box: Annotated[float, typer.Option(min=4.0, help="side of the box, Å")] = 8.0,
    campaign: Annotated[str, typer.Option(help="name that the labels are kept under")] = "atoms",
    overwrite: Overwrite = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
    as_json: AsJson = False,
) -> None:
    """Energy of isolated atoms with their total moment held by GPAW, and the one-body curves fitted to it.

    Writes OUT.extxyz and, for each of the two fits, OUT-spline.json and OUT-chebyshev.json with a plot; `mmace train
    --one-body` takes either. Labels are kept in the database and never computed twice. Exit code 1 if some moments did
    not converge.
    """
    from rich.console import Console

    from mmace.data.writing import check_target, target_format
    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.cli.signals import termination_interrupts
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores
    from mmace_flows.labels.atom_curves import ground_state_lines, write_atom_curves
    from mmace_flows.labels.batch import EngineSet, label_all
    from mmace_flows.labels.isolated_atoms import atom_candidates, atom_settings
    from mmace_flows.labels.labelling import summary_line

    grid = parsed_moments(moments)
    target_format(output)
    check_target(output, overwrite)
    candidates = [one for element in elements for one in atom_candidates(element, grid, box)]
    engines = EngineSet("gpaw", atom_settings(cutoff).model_dump(mode="json"))
    engines.check([(f"{one.structure.symbols[0]} at {one.details['total_magmom']:g} μB", one) for one in candidates])
    stores = open_stores(load_settings(data_dir=data_dir))
    console = Console(stderr=True)
    spent: list[float] = []

    def tell(position: int, document: Any, computed: bool) -> None:
        if computed:
            spent.append(document.wall_seconds or 0.0)
        left = (len(candidates) - position - 1) * sum(spent) / len(spent) if spent else 0.0
        held = f"{document.structure.symbols[0]} at {document.candidate.details['total_magmom']:g} μB"
        console.print(
            f"{position + 1} of {len(candidates)}: {held}: {summary_line(document, computed)}; {left:.0f} s left",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    try:
        with termination_interrupts():
            documents = label_all(
                candidates, engines, stores.labels, stores.scratch(campaign, "gpaw"), campaign, on_label=tell
            )
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from there", highlight=False)
        raise typer.Exit(130) from None
    good = [document for document in documents if document.status == "converged"]
    failed = [document for document in documents if document.status != "converged"]
    files, problems = write_atom_curves(documents, output, overwrite)
    for problem in problems:
        console.print(problem, highlight=False, soft_wrap=True)
    if as_json:
        print_json({"files": files, "labelled": len(good), "failed": len(failed)})
    else:
        for line in ground_state_lines(documents):
            typer.echo(line)
        typer.echo(f"{len(good)} of {len(documents)} energies; written: {', '.join(files) or 'nothing'}")
    if failed:
        raise typer.Exit(1)


def parsed_moments(text: str) -> list[float]:
    """Moments of ``FROM:TO:STEP`` or ``a,b,c``, μB, none negative. Raises UserError."""
    import numpy as np

    from mmace.errors import UserError

    wrong = UserError(f"--moments {text}: write FROM:TO:STEP or a list, for example 0:5:0.5; no negative moments")
    try:
        numbers = [float(part) for part in text.replace(",", ":").split(":")]
    except ValueError:
        raise wrong from None
    if not np.isfinite(numbers).all():
        raise wrong
    if ":" in text:
        if len(numbers) != 3 or numbers[2] <= 0 or numbers[1] < numbers[0]:
            raise wrong
        first, last, step = numbers
        numbers = [float(one) for one in np.round(first + step * np.arange(int((last - first) / step + 1e-9) + 1), 9)]
    if min(numbers) < 0:
        raise wrong
    return numbers
