"""`mmace soc`: magnetocrystalline anisotropy by DFT and the magnetic force theorem."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace_flows.cli.anisotropy_output import mev, value_lines
from mmace_flows.cli.options import AsJson
from mmace_flows.cli.structures_options import FormatName, Inputs, axis_of, read_all

if TYPE_CHECKING:
    from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings
    from mmace_flows.schemas.anisotropy_entry import AnisotropyValues
    from mmace_flows.schemas.spin_orbit import SpinOrbitDocument

PRESETS = ("small", "paper")
ENGINES = ("gpaw",)


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("soc")(soc_command)


def soc_command(
    inputs: Inputs,
    engine: Annotated[str, typer.Option(help="gpaw")] = "gpaw",
    directions: Annotated[
        str | None,
        typer.Option(metavar="SET", help="lebedev:N, fibonacci:N or random:N[:SEED] [default: the preset's]"),
    ] = None,
    preset: Annotated[str, typer.Option(help="named settings: small or paper")] = "small",
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="settings that differ from the preset, with a section dft")
    ] = None,
    axis: Annotated[
        str | None, typer.Option(metavar="x,y,z", help="axis of uniaxial K1 and K2 [default: what the crystal says]")
    ] = None,
    campaign: Annotated[str, typer.Option(help="name that the results are kept under")] = "soc",
    format_name: FormatName = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
    as_json: AsJson = False,
) -> None:
    """Energy with spin–orbit coupling for many directions of the moments, and what it says: easy axis, ΔE_A, K1, K2.

    IN's moments start a collinear ground state. Results are kept in the database and never computed twice; a run that
    was stopped goes on from its last direction. Exit code 1 if a ground state did not converge.
    """
    import numpy as np
    from rich.console import Console

    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.cli.signals import termination_interrupts
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores
    from mmace_flows.labels.gpaw_spin_orbit import check_moments, find_or_compute_spin_orbit
    from mmace_flows.properties.anisotropy_values import values_from_document

    along = None if axis is None else np.array(axis_of(axis))
    chosen = _settings(engine, preset, settings, directions)
    named = [
        (f"{path}: configuration {number}", candidate.structure)
        for path in inputs
        for number, candidate in enumerate(read_all([path], format_name))
    ]
    for where, structure in named:
        check_moments(structure, where)
    stores = open_stores(load_settings(data_dir=data_dir))
    folder = stores.scratch(campaign, "soc")
    console = Console(stderr=True)
    rows = []
    try:
        with termination_interrupts():
            for where, structure in named:
                bar = _Progress(console, where, folder)
                document, computed = find_or_compute_spin_orbit(
                    structure, chosen, stores.spin_orbit, folder, campaign, bar.show
                )
                rows.append((where, document, computed, values_from_document(document, along)))
                if not as_json:
                    typer.echo(_lines(*rows[-1]))
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from the last direction", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if as_json:
        results_of = [
            {
                "structure": where,
                "computed": computed,
                "document": document.model_dump(mode="json"),
                "anisotropy": None if found is None else found.model_dump(mode="json"),
            }
            for where, document, computed, found in rows
        ]
        print_json({"count": len(results_of), "results": results_of})
    if any(document.status == "failed" for _, document, _, _ in rows):
        raise typer.Exit(1)


def _settings(engine: str, preset: str, path: Path | None, directions: str | None) -> SpinOrbitSettings:
    """The preset with what file and options change. Raises UserError, one line with file and field."""
    from pydantic import ValidationError

    from mmace.errors import UserError, unknown_key_message
    from mmace_flows.execution.explain import explain
    from mmace_flows.execution.settings import read_yaml
    from mmace_flows.labels.gpaw_spin_orbit import SpinOrbitSettings
    from mmace_flows.structures.directions import directions as checked

    if engine not in ENGINES:
        raise UserError(f"--engine {engine}: anisotropy is computed with gpaw; labels of other engines: mmace label")
    if preset not in PRESETS:
        raise UserError(unknown_key_message(preset, PRESETS, "--preset").replace("unknown setting", "unknown preset"))
    start: SpinOrbitSettings = getattr(SpinOrbitSettings, preset)()
    changes: dict[str, Any] = {}
    if path is not None:
        if not path.is_file():
            raise UserError(f"--settings {path}: no such file")
        changes = read_yaml(path)
    if directions is not None:
        checked(directions)
        changes["directions"] = directions
    merged = start.model_dump(mode="json") | changes
    if isinstance(changes.get("dft"), dict):
        merged["dft"] = start.dft.model_dump(mode="json") | changes["dft"]
        for given, other in (("kpoints", "kpoint_spacing"), ("kpoint_spacing", "kpoints")):
            if changes["dft"].get(given) is not None:  # one replaces the other, which may stand in the preset
                merged["dft"][other] = changes["dft"].get(other)
    try:
        return SpinOrbitSettings.model_validate(merged)
    except ValidationError as error:
        raise UserError(f"{path or 'options'} {explain(SpinOrbitSettings, merged, error)}") from error


def _lines(where: str, document: SpinOrbitDocument, computed: bool, found: AnisotropyValues | None) -> str:
    """A few lines for people."""
    if found is None:
        return f"{where}: not converged: {document.error}"
    errors = [f"fit {mev(found.fit_error)}"]
    if document.opposite_error is not None:
        errors.append(f"opposite directions {mev(document.opposite_error)}")
    if document.band_cut_error is not None:
        errors.append(f"cut of the bands {mev(document.band_cut_error)}")
    if found.symmetry_error is not None:
        errors.append(f"symmetry {mev(found.symmetry_error)}")
    lengths = " ".join(f"{length:+.2f}" for length in document.lengths)
    return "\n  ".join(
        [
            f"{where}: {document.magnetic_state_reached} ({lengths} μB), {len(document.directions)} directions, "
            f"{document.bands} bands{'' if computed else ', found in the database'}",
            *value_lines(found, len(document.lengths)),
            f"errors, meV per cell: {', '.join(errors)}",
        ]
    )


class _Progress:
    """A line when the ground state begins, and every few directions, with the time left."""

    EVERY = 10.0  # seconds

    def __init__(self, console: Any, where: str, folder: Path) -> None:
        self.console, self.where, self.folder = console, where, folder
        self.spent: list[float] = []
        self.said = 0.0

    def show(self, done: int, total: int, seconds: float) -> None:
        """One direction more; none: the ground state begins."""
        import time

        if done == 0:
            self.console.print(
                f"{self.where}: ground state, then {total} directions; GPAW's text is in {self.folder}",
                highlight=False,
                soft_wrap=True,
            )
            return
        self.spent.append(seconds)
        if time.monotonic() - self.said < self.EVERY and done < total:
            return
        self.said = time.monotonic()
        left = (total - done) * sum(self.spent) / len(self.spent)
        self.console.print(
            f"{self.where}: direction {done} of {total}; {left:.0f} s left", highlight=False, soft_wrap=True
        )
