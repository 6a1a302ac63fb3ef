"""`mmace label`: DFT labels of structures, through the same store and engines as the campaigns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace_flows.cli.options import AsJson, Overwrite
from mmace_flows.cli.starts import RetryFailed, State
from mmace_flows.cli.structures_options import FormatName, Inputs

if TYPE_CHECKING:
    from mmace_flows.schemas.label import LabelDocument

KEEPS = ("all", "lowest")


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("label")(label_command)


def label_command(
    inputs: Inputs,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.extxyz", help="labelled structures, keys REF_…; .gz works")
    ],
    engine: Annotated[str, typer.Option(help="gpaw, espresso or vasp")] = "gpaw",
    preset: Annotated[str, typer.Option(help="named settings of the engine: small or paper")] = "small",
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="settings that differ from the preset")
    ] = None,
    state: State = None,
    keep: Annotated[
        str, typer.Option(help="all, or lowest: of each geometry only the state of lowest energy is written to OUT")
    ] = "all",
    campaign: Annotated[str, typer.Option(help="name under which `store:NAME` finds the labels")] = "label",
    retry_failed: RetryFailed = False,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
    as_json: AsJson = False,
) -> None:
    """Label structures by DFT: energy, forces, stress and moments of each, as training data.

    Labels are kept in the database, found there by content, and never computed twice: the same command goes on after a
    break. Energies written are free energies, which belong to the forces. Exit code 1 if some did not converge.
    """
    from rich.console import Console

    from mmace.errors import UserError, unknown_key_message
    from mmace_flows.cli.engine_settings import engine_settings
    from mmace_flows.cli.signals import termination_interrupts
    from mmace_flows.cli.starts import starts
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores
    from mmace_flows.labels.batch import EngineSet, label_all
    from mmace_flows.labels.branches import lowest_of_each

    if keep not in KEEPS:
        raise UserError(unknown_key_message(keep, KEEPS, "--keep").replace("setting", "choice"))
    _check_output(output, overwrite)
    engines = EngineSet(engine, engine_settings(engine, preset, settings))
    named = starts(inputs, format_name, state)
    engines.check(named)
    stores = open_stores(load_settings(data_dir=data_dir))
    candidates = [candidate for _, candidate in named]
    console = Console(stderr=True)
    tally = _Tally(console, len(candidates))
    try:
        with termination_interrupts(), tally.showing():
            documents = label_all(
                candidates,
                engines,
                stores.labels,
                stores.scratch(campaign, engine),
                campaign,
                retry_failed,
                tally.show,
            )
    except KeyboardInterrupt:
        done = f"{tally.done} of {len(candidates)} labels are in the database"
        console.print(f"stopped: {done}; the same command goes on from there", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    good = [document for document in documents if document.status == "converged"]
    if keep == "lowest":
        good = lowest_of_each(good)
    if good:
        _write(output, good, overwrite)
    failed = [
        {"structure": where, "label_key": document.label_key, "error": document.error}
        for (where, _), document in zip(named, documents, strict=True)
        if document.status != "converged"
    ]
    _tell(output if good else None, documents, failed, tally, as_json, console, [one.label_key for one in good])
    if failed:
        raise typer.Exit(1)


def _check_output(output: Path, overwrite: bool) -> None:
    from mmace.data.writing import check_target, target_format
    from mmace.errors import UserError

    target_format(output)
    check_target(output, overwrite)
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; make it first")


def _write(output: Path, documents: list[LabelDocument], overwrite: bool) -> None:
    """The whole file or nothing."""
    from mmace.data import open_writer
    from mmace_flows.learning.dataset import label_configuration

    with open_writer(output, overwrite=overwrite) as writer:
        for document in documents:
            configuration = label_configuration(document)
            candidate = document.candidate
            info = {
                "label_key": document.label_key,
                "engine": f"{document.engine} {document.engine_version}",
                "magnetic_state_asked": document.magnetic_state_asked,
                "magnetic_state": document.magnetic_state_reached,
                "operation": candidate.operation,
                "group": candidate.group,
                "parent": candidate.parent,
                "file": candidate.details.get("file"),
                "configuration": candidate.details.get("configuration"),
            }
            configuration.info = {key: value for key, value in info.items() if value is not None}
            writer.add(configuration)


def _tell(
    output: Path | None,
    documents: list[LabelDocument],
    failed: list[dict[str, Any]],
    tally: _Tally,
    as_json: bool,
    console: Any,
    written: list[str],
) -> None:
    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.labels.labelling import label_summary

    if as_json:
        print_json(
            {
                "file": None if output is None else str(output),
                "count": len(documents),
                "computed": tally.computed,
                "found": tally.done - tally.computed,
                "failed": failed,
                "written": written,
                "labels": [
                    label_summary(document, fresh) for document, fresh in zip(documents, tally.fresh, strict=True)
                ],
            }
        )
        return
    for one in failed:
        console.print(f"not labelled: {one['structure']}: {one['error']}", highlight=False, soft_wrap=True)
    changed = sum(1 for document in documents if document.ordering_changed)
    also = f"; {changed} reached another magnetic state than asked for" if changed else ""
    kept = "" if len(written) == len(documents) - len(failed) else f"the {len(written)} of lowest energy "
    where = f"{kept}written to {output}" if output is not None else "nothing written"
    typer.echo(
        f"{len(documents) - len(failed)} of {len(documents)} labelled ({tally.computed} computed, "
        f"{tally.done - tally.computed} found in the database{also}); {where}"
    )


class _Tally:
    """How many labels are there, with the time left by those computed now."""

    def __init__(self, console: Any, total: int) -> None:
        self.console, self.total = console, total
        self.fresh: list[bool] = []  # of each label so far, whether it was computed now
        self.seconds = 0.0
        self._bar: Any = None

    @property
    def done(self) -> int:
        """Labels that are there."""
        return len(self.fresh)

    @property
    def computed(self) -> int:
        """Labels computed now."""
        return sum(self.fresh)

    def showing(self) -> Any:
        """A context in which `show` draws a bar on a terminal."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("labels"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
        )
        bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._bar = (bar, bar.add_task("", total=self.total))
        return bar

    def show(self, position: int, document: LabelDocument, computed: bool) -> None:
        """One label more."""
        from mmace_flows.execution.progress import duration
        from mmace_flows.labels.labelling import summary_line

        self.fresh.append(computed)
        if computed:
            self.seconds += document.wall_seconds or 0.0
        left = ""
        if self.computed and self.done < self.total:  # what was found says nothing about the time left
            left = f", about {duration(self.seconds / self.computed * (self.total - self.done))} left"
        line = f"{self.done}/{self.total} {summary_line(document, computed)}"
        bar, task = self._bar
        bar.update(task, completed=self.done, description=left.removeprefix(", "))
        self.console.print(line + ("" if self.console.is_terminal else left), highlight=False, soft_wrap=True)
