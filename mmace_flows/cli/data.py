"""`mmace data`: check, describe, convert, split and shard labelled structures before a training."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace_flows.cli.data_shard import shard_command
from mmace_flows.cli.data_source import iterate_source, read_options, reading_progress
from mmace_flows.cli.learning_output import output_console, print_json
from mmace_flows.cli.learning_settings import parsed_keys
from mmace_flows.cli.options import AsJson, Elements, FormatName, Keys, Overwrite, Sources, ZeroMoments

if TYPE_CHECKING:  # `mmace --help` must not wait for what these import
    from mmace.data import DataReport, ReadOptions

ToFormat = Annotated[
    str | None, typer.Option("--to", metavar="FORMAT", help="extxyz, mlip_cfg or deepmd_spin [default: by the name]")
]


def register(app: typer.Typer) -> None:
    """Adds the group `data` to ``app``."""
    group = typer.Typer(
        help="Check, describe, convert, split and shard labelled structures.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("check")(check_command)
    group.command("stats")(stats_command)
    group.command("convert")(convert_command)
    group.command("split")(split_command)
    group.command("shard")(shard_command)
    app.add_typer(group, name="data")


def check_command(
    sources: Sources,
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    everything: Annotated[bool, typer.Option("--all", help="list every problem, not only the first")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is in the data, and what is wrong with it: exit code 2 if it is not fit to train on."""
    report = _report(sources, read_options(parsed_keys(key), format_name, elements, zero_moments))
    if as_json:
        print_json(report.to_dict())
    elif everything:
        for problem in report.problems:
            typer.echo(problem)
    if report.problems:
        raise _refusal(report, everything)
    if not as_json:
        from mmace_flows.cli.data_output import print_report

        print_report(report, output_console())


def stats_command(
    sources: Sources,
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    bins: Annotated[int, typer.Option(min=1, max=1000, help="bins of the histograms")] = 20,
    as_json: AsJson = False,
) -> None:
    """Describe the data: what `check` prints, and histograms of energy, volume, moments and forces."""
    report = _report(sources, read_options(parsed_keys(key), format_name, elements, zero_moments))
    if not report.statistics.configurations:
        raise _refusal(report)
    histograms = report.statistics.histograms(bins)
    if as_json:
        print_json({**report.to_dict(), "histograms": histograms})
        return
    from mmace_flows.cli.data_output import print_histograms, print_report

    console = output_console()
    print_report(report, console)
    print_histograms(histograms, console)


def convert_command(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="OUT.extxyz, OUT.cfg, or a folder; .gz compresses")],
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    to: ToFormat = None,
    head: Annotated[
        str | None, typer.Option(help="mark all structures as of this level of theory, for models of several")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="leave out wrong structures instead of stopping")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write labelled structures of any format, or of the store, as extended XYZ, MLIP cfg or a DeePMD folder.

    One file is written from all sources, with every digit, and put in its place when it is complete.
    """
    from mmace.data import open_writer

    options = read_options(parsed_keys(key), format_name, elements, zero_moments)
    console = _console()
    left_out: list[str] = []
    written = 0
    on_problem = (lambda problem: left_out.append(str(problem))) if skip_bad else None
    with (
        reading_progress(console, "converting") as progress,
        open_writer(output, to, overwrite=overwrite, elements=options.elements) as writer,
    ):
        for source in sources:
            written += _copy(source, options, progress(source), on_problem, writer, console, head)
        if not written:
            raise _nothing(sources, left_out)
    for problem in left_out:
        console.print(f"left out: {problem}", highlight=False, soft_wrap=True)
    also = f", {len(left_out)} left out" if left_out else ""
    console.print(f"{written} configurations written to {output}{also}", highlight=False, soft_wrap=True)


def split_command(
    sources: Sources,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for train.extxyz, valid.extxyz, …")],
    valid: Annotated[float, typer.Option(help="share of the validation part; 0: none")] = 0.1,
    test: Annotated[float, typer.Option(help="share of the test part; 0: none")] = 0.0,
    part: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SHARE", help="a further part of its own; repeatable")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the draw; kept in the files written")] = 0,
    group_by: Annotated[
        str | None, typer.Option(help="keep together what has the same value of this key, e.g. parent")
    ] = None,
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="extxyz, mlip_cfg or deepmd_spin")] = "extxyz",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Divide data into training, validation and test parts: the same mixture of magnetic classes and elements in each.

    Groups (--group-by) and equal structures are never divided. The same seed gives the same parts.
    """
    from mmace.data import SplitSettings, assign, open_writer
    from mmace.data.split import Member, marked, table
    from mmace.data.writing import check_target
    from mmace.errors import UserError

    settings = SplitSettings(_fractions(valid, test, part), seed, group_by)
    options = read_options(parsed_keys(key), format_name, elements, zero_moments)
    suffix = {"extxyz": ".extxyz", "mlip_cfg": ".cfg", "deepmd_spin": ""}.get(to, "")
    targets = {name: output / f"{name}{suffix}" for name in settings.parts}
    for target in targets.values():
        check_target(target, overwrite)
    console = _console()
    # two passes, so that large sets need not fit into memory: the first decides, the second writes
    with reading_progress(console, "reading") as progress:
        members = [
            Member.of(configuration, settings)
            for source in sources
            for configuration in iterate_source(source, options, progress=progress(source))
        ]
    chosen = assign(members, settings)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(reading_progress(console, "writing"))
        writers = {
            name: stack.enter_context(open_writer(target, to, overwrite=overwrite, elements=options.elements))
            for name, target in targets.items()
        }
        remaining = iter(chosen)
        for source in sources:
            for configuration in iterate_source(source, options, progress=progress(source)):
                name = next(remaining, None)
                if name is None:
                    raise UserError(f"{source}: the file changed while it was read; split it again")
                writers[name].add(marked(configuration, name, settings, source))
        if next(remaining, None) is not None:
            raise UserError(f"{sources[0]}: the file changed while it was read; split it again")
    strata = table(chosen, members)
    if as_json:
        files = {name: {"file": str(target), "count": chosen.count(name)} for name, target in targets.items()}
        print_json({"seed": seed, "group_by": group_by, "parts": files, "strata": strata})
        return
    from mmace_flows.cli.data_output import print_split

    print_split({name: (target, chosen.count(name)) for name, target in targets.items()}, strata, output_console())


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _report(sources: list[Path], options: ReadOptions) -> DataReport:
    from mmace.data import check_files

    with reading_progress(_console(), "checking") as progress:
        return check_files(sources, options, progress, read=iterate_source)


def _refusal(report: DataReport, listed: bool = False) -> Exception:
    from mmace.errors import UserError

    more = len(report.problems) - 1
    also = f" (and {more} more problem{'s' if more > 1 else ''}{'' if listed else '; --all lists them'})"
    return UserError(report.problems[0] + (also if more else ""))


def _nothing(sources: list[Path], left_out: list[str]) -> Exception:
    from mmace.errors import UserError

    first = f"; the first of {len(left_out)} wrong ones: {left_out[0]}" if left_out else ""
    return UserError(f"{', '.join(map(str, sources))}: nothing to write{first}")


def _copy(
    source: Path, options: ReadOptions, progress: Any, on_problem: Any, writer: Any, console: Any, head: str | None
) -> int:
    """Writes every configuration of ``source``; says what was seen in passing. Returns how many."""
    from mmace.data import Notes

    notes = Notes()
    for configuration in iterate_source(source, options, notes=notes, progress=progress, on_problem=on_problem):
        configuration.head = head or configuration.head
        writer.add(configuration)
    for line in notes.lines(source):
        console.print(f"warning: {line}", highlight=False, soft_wrap=True)
    return notes.read


def _fractions(valid: float, test: float, parts: list[str] | None) -> dict[str, float]:
    from mmace.errors import UserError

    fractions = {name: share for name, share in (("valid", valid), ("test", test)) if share != 0}
    for pair in parts or []:
        name, _, text = pair.partition("=")
        try:
            fractions[name] = float(text)
        except ValueError:
            raise UserError(f"--part {pair}: write it as NAME=SHARE, for example calibration=0.05") from None
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"--part {pair}: a name has letters, digits, - and _ only")
    if not fractions:
        raise UserError("split: no part is asked for; give --valid, --test or --part")
    return fractions
