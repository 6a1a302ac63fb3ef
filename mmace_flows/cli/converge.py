"""`mmace converge`: cutoff, k-points and smearing of DFT for a stated tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace_flows.cli.options import AsJson, Overwrite
from mmace_flows.cli.starts import RetryFailed, State
from mmace_flows.cli.structures_options import FormatName, Inputs, words

if TYPE_CHECKING:
    from mmace_flows.labels.convergence import ConvergenceScan, ConvergenceStudy
    from mmace_flows.labels.convergence_run import Progress
    from mmace_flows.labels.convergence_settings import ConvergenceSettings

FILES = ("convergence.json", "convergence.png", "settings.yaml")


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("converge")(converge_command)


def converge_command(
    inputs: Inputs,
    tolerance: Annotated[
        str,
        typer.Option(
            metavar="2meV",
            help="largest error of energy differences, per atom; others follow (5 meV/Å, 0.1 GPa, 0.01 μB per meV) or "
            "are named: energy=2meV,forces=20meV/Å,anisotropy=0.05meV",
        ),
    ] = "2meV",
    quantity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="energy,forces,…",
            help="what decides: energy (differences), forces, stress, moments, anisotropy [default: energy,forces]",
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="gpaw, espresso or vasp")] = "gpaw",
    cutoffs: Annotated[str | None, typer.Option(metavar="300,400,…", help="plane-wave cutoffs, eV; one: fixed")] = None,
    spacings: Annotated[
        str | None, typer.Option(metavar="0.08,0.06,…", help="spacings of k-points, Å⁻¹ without the 2π; one: fixed")
    ] = None,
    kpoints: Annotated[
        str | None, typer.Option(metavar="4x4x2,6x6x3,…", help="grids of k-points in place of spacings")
    ] = None,
    smearings: Annotated[str | None, typer.Option(metavar="0.2,0.1,…", help="widths, eV; one: fixed")] = None,
    state: State = None,
    volume: Annotated[
        float, typer.Option(min=0.3, max=2.0, help="factor on the volume of the distorted copy of the first structure")
    ] = 0.94,
    displacement: Annotated[float, typer.Option(min=0.0, max=0.5, help="σ of its displacements, Å")] = 0.05,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="other settings of the engine, and where to start")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="folder for table, figure and settings.yaml")
    ] = Path("convergence"),
    campaign: Annotated[str, typer.Option(help="name that the labels are kept under")] = "convergence",
    retry_failed: RetryFailed = False,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the cutoff, k-points and smearing that keep errors within a tolerance, and write them as settings.

    Follows what matters for a potential: energy differences between IN's structures and a compressed, displaced copy of
    the first one, forces, stress, moments; with --quantity anisotropy also E(x) − E(z). Every point is a label in the
    database, never computed twice: the same command goes on after a break. Exit code 1 if the tolerance is not reached.
    """
    from rich.console import Console

    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.cli.signals import termination_interrupts
    from mmace_flows.cli.starts import starts
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores
    from mmace_flows.labels.convergence import check_probes, probes
    from mmace_flows.labels.convergence_run import check_study, run_study

    study_settings = _settings(engine, tolerance, quantity, cutoffs, spacings, kpoints, smearings, settings)
    _check_folder(output, overwrite)
    candidates = probes([one for _, one in starts(inputs, format_name, state)], volume, displacement)
    check_probes(study_settings, candidates)
    check_study(study_settings, candidates)
    stores = open_stores(load_settings(data_dir=data_dir))
    console = Console(stderr=True)
    tally = _Tally(console, study_settings, candidates)
    folder = stores.scratch(campaign, engine)
    console.print(f"{tally.total} calculations at most; their files are in {folder}", highlight=False, soft_wrap=True)
    try:
        with termination_interrupts():
            study = run_study(
                study_settings, candidates, stores.labels, stores.spin_orbit, folder, campaign, retry_failed,
                tally.show, lambda scan: None if as_json else _table(study_settings, scan),
            )  # fmt: skip
    except KeyboardInterrupt:
        console.print(f"stopped after {tally.done} calculations, which are in the database; the same command goes on")
        raise typer.Exit(130) from None
    files = _write(study, output)
    if as_json:
        print_json({"files": files, "converged": study.converged, **study.model_dump(mode="json")})
    else:
        _tell(study, files)
    if not study.converged:
        raise typer.Exit(1)


def _settings(
    engine: str,
    tolerance: str,
    quantity: list[str] | None,
    cutoffs: str | None,
    spacings: str | None,
    kpoints: str | None,
    smearings: str | None,
    path: Path | None,
) -> ConvergenceSettings:
    """The study that the options ask for. Raises UserError."""
    from pydantic import ValidationError

    from mmace.errors import UserError, unknown_key_message
    from mmace_flows.cli.engine_settings import file_changes
    from mmace_flows.cli.structures_options import numbers
    from mmace_flows.labels.convergence_settings import DEFAULTS, QUANTITIES, ConvergenceSettings, tolerances_from
    from mmace_flows.labels.engine import settings_class

    kind = settings_class(engine)
    if engine not in DEFAULTS:
        raise UserError(f"--engine {engine}: convergence is studied with {' and '.join(DEFAULTS)}")
    defaults = DEFAULTS[engine]
    density: Any = _grids(kpoints) if kpoints else numbers(spacings, "--spacings") if spacings else defaults["spacings"]
    chosen: Any = words(quantity) or ["energy", "forces"]
    for name in chosen:
        if name not in QUANTITIES:
            raise UserError(unknown_key_message(name, QUANTITIES, "--quantity").replace("setting", "quantity"))
    if spacings is not None and kpoints is not None:
        raise UserError("--kpoints: give grids or --spacings, not both")
    try:
        return ConvergenceSettings(
            engine=engine,
            dft=file_changes(kind, path) if path is not None else {},
            cutoffs=numbers(cutoffs, "--cutoffs") if cutoffs else defaults["cutoffs"],
            kpoints=density,
            smearings=numbers(smearings, "--smearings") if smearings else defaults["smearings"],
            quantities=chosen,
            tolerances=tolerances_from(tolerance, chosen),
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"converge: {field + ': ' if field else ''}{message}") from error


def _grids(text: str) -> list[Any]:
    from mmace.errors import UserError

    grids = []
    for part in text.replace(";", ",").split(","):
        numbers = part.lower().replace("×", "x").split("x")
        if len(numbers) != 3 or not all(one.strip().isdigit() for one in numbers):
            raise UserError(f"--kpoints {part.strip()}: write grids as three numbers, for example 4x4x2,6x6x3")
        grids.append(tuple(int(one) for one in numbers))
    return grids


def _check_folder(output: Path, overwrite: bool) -> None:
    from mmace.errors import UserError

    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file; give a folder")
    there = [name for name in FILES if (output / name).exists()]
    if there and not overwrite:
        raise UserError(f"--output {output}: {there[0]} is there already; give another folder or --overwrite")


def _write(study: ConvergenceStudy, output: Path) -> list[str]:
    from functools import partial

    from mmace.checkpoint import write_atomically
    from mmace.plots.training import write_figure
    from mmace_flows.labels.convergence_figure import convergence_figure
    from mmace_flows.labels.convergence_text import settings_file

    output.mkdir(parents=True, exist_ok=True)
    document, figure, settings = (output / name for name in FILES)
    write_atomically(document, study.model_dump_json(indent=1).encode())
    write_atomically(settings, settings_file(study).encode())
    drawn = write_figure(partial(convergence_figure, study), figure)
    return [str(one) for one in (document, drawn, settings) if one]


def _table(settings: ConvergenceSettings, scan: ConvergenceScan) -> None:
    """One scan on the screen."""
    from rich.table import Table

    from mmace_flows.cli.learning_output import output_console
    from mmace_flows.labels.convergence_text import cells, headings, scan_line

    console = output_console()
    table = Table(title=f"{headings(scan)[0]}: errors against the finest value", title_justify="left")
    for number, heading in enumerate(headings(scan)):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for number, point in enumerate(scan.points):
        table.add_row(*cells(settings, scan, point), style="bold" if number == scan.chosen else None)
    console.print(table)
    console.print(scan_line(settings, scan), highlight=False, soft_wrap=True)


def _tell(study: ConvergenceStudy, files: list[str]) -> None:
    from mmace_flows.labels.convergence_text import study_lines, warning_lines

    for line in [*warning_lines(study), *study_lines(study), f"written: {', '.join(files)}"]:
        typer.echo(line)


class _Tally:
    """Calculations so far and the time left, by a model of what each setting costs."""

    def __init__(self, console: Any, settings: ConvergenceSettings, candidates: list[Any]) -> None:
        from mmace_flows.labels.convergence_run import expected_costs

        self.console = console
        self.costs = expected_costs(settings, candidates)  # of all calculations, in their order, in any unit
        self.total, self.done = len(self.costs), 0
        self.seconds = self.computed = 0.0  # of what was computed now, and its share of the costs

    def show(self, progress: Progress) -> None:
        """One calculation more."""
        from mmace_flows.execution.progress import duration
        from mmace_flows.labels.convergence import candidate_name
        from mmace_flows.labels.convergence_text import value_text

        self.done += 1
        document = progress.document
        seconds = document.wall_seconds or 0.0
        if progress.computed:
            self.seconds += seconds
            self.computed += self.costs[self.done - 1]
        where = f"{progress.parameter} {value_text(progress.parameter, progress.value)}"
        what = "found in the database" if not progress.computed else f"{seconds:.0f} s"
        if document.status == "failed":
            what = f"not converged: {document.error}"
        kind = "" if hasattr(document, "label_key") else ", spin–orbit"
        left = ""
        if self.computed and self.done < self.total:
            left = f"; about {duration(self.seconds / self.computed * sum(self.costs[self.done :]))} left"
        self.console.print(
            f"{self.done}/{self.total} {where}: {candidate_name(progress.candidate)}{kind}: {what}{left}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
