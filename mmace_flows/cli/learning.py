"""`mmace train` and `mmace evaluate`: from labelled files to a checkpoint, from a checkpoint to a table of errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mmace_flows.cli.learning_output import UNITS, errors_table, nested, output_console, print_json
from mmace_flows.cli.learning_processes import follows, said_once
from mmace_flows.cli.learning_sections import ONLY_FINETUNE
from mmace_flows.cli.learning_settings import (
    check_folder,
    check_model_settings,
    check_output,
    checkpoint_file,
    data_options,
    model_config,
    path_of,
    read_settings,
    training_config,
)
from mmace_flows.cli.options import (
    AsJson,
    BatchSize,
    Data,
    Device,
    EdgesPerBatch,
    Elements,
    Epochs,
    FormatName,
    Keys,
    MaxSeconds,
    OverwriteRun,
    Plots,
    RotateMoments,
    TensorBoard,
    Threads,
    Valid,
    ZeroMoments,
    given,
)

DEFAULT_OUTPUT = "training"

ConfigFile = Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="settings; options win over it")]


def register(app: typer.Typer) -> None:
    """Adds the commands `train` and `evaluate` to ``app``."""
    app.command("train")(said_once(train_command))
    app.command("evaluate")(evaluate_command)


def train_command(
    config_file: ConfigFile = None,
    data: Data = None,
    valid: Valid = None,
    spin_orbit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUNS",
            help="runs of mmace soc, learned together with the energies: store:CAMPAIGN, or JSON; repeatable",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help=f"folder of the run [default: {DEFAULT_OUTPUT}]")] = None,
    model_from: Annotated[Path | None, typer.Option(help="checkpoint to start from (fine-tuning)")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    edges_per_batch: EdgesPerBatch = None,
    learning_rate: Annotated[float | None, typer.Option(help="at the start; 0.0005 is right for fine-tuning")] = None,
    max_seconds: MaxSeconds = None,
    symmetry: Annotated[str | None, typer.Option(help="soc, nonsoc, paper or none")] = None,
    rotate_moments: RotateMoments = None,
    seed: Annotated[int | None, typer.Option(help="of weights, order and split")] = None,
    threads: Threads = None,
    device: Device = None,
    one_body: Annotated[Path | None, typer.Option(help="E0_mag(|m|) from `mmace fit-one-body`, JSON")] = None,
    atomic_energies: Annotated[
        str | None, typer.Option(help="E0: least_squares, isolated_atoms or shift [default: least_squares]")
    ] = None,
    isolated_atoms: Annotated[
        Path | None, typer.Option(help="file with energies of single atoms: E0 is taken from there")
    ] = None,
    committee: Annotated[int | None, typer.Option(metavar="N", help="members: N models with other seeds")] = None,
    bootstrap: Annotated[
        bool | None, typer.Option("--bootstrap/--no-bootstrap", help="every member draws its own sample of the data")
    ] = None,
    plots: Plots = True,
    tensorboard: TensorBoard = None,
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    overwrite: OverwriteRun = False,
    as_json: AsJson = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of the settings file")] = False,
) -> None:
    """Train a potential on labelled structures. The same command again goes on where it was stopped."""
    from rich.console import Console

    from mmace import load
    from mmace.errors import UserError
    from mmace.train.reading import check_elements
    from mmace_flows.cli.learning_directions import DirectionRuns, sources_of, unified_model
    from mmace_flows.cli.learning_run import VALID_FRACTION, TrainingJob, read_sets, run_committee, run_training
    from mmace_flows.learning.anisotropy_training import with_part

    if schema:
        from mmace_flows.cli.learning_schema import schema_text

        typer.echo(schema_text(), nl=False)
        return
    settings = read_settings(config_file, ONLY_FINETUNE, "train")
    where = str(config_file or "options")
    model_from = model_from or path_of(settings, "model_from", config_file)
    chosen = dict(settings.get("training") or {}) | given(
        epochs=epochs,
        batch_size=batch_size,
        edges_per_batch=edges_per_batch,
        learning_rate=learning_rate,
        max_seconds=max_seconds,
        rotate_moments=rotate_moments,
        atomic_energies=atomic_energies,
        seed=seed,
        num_threads=threads,
        device=device,
    )
    curves = one_body or path_of(settings, "one_body", config_file)
    if curves is not None:
        from mmace.one_body_file import load_one_body

        chosen["one_body"] = load_one_body(curves)
    training = training_config(chosen, where)
    members = settings.get("committee", 1) if committee is None else committee
    if members < 1:
        raise UserError(f"train: --committee {members}; give the number of members")
    drawn = settings.get("bootstrap", False) if bootstrap is None else bootstrap
    if drawn and members == 1:
        raise UserError(f"{where}: bootstrap draws a sample for each member of a committee; give --committee N")
    folder = output or path_of(settings, "output", config_file) or Path(DEFAULT_OUTPUT)
    check_output(folder, members)
    console = Console(stderr=True, quiet=follows())
    initial = load(checkpoint_file(model_from)) if model_from is not None else None
    begin = [] if initial is None else [initial] * members
    model_settings = dict(settings.get("model") or {}) | given(symmetry=symmetry)
    sources = sources_of(settings, config_file, spin_orbit)
    if sources and initial is None:
        model_settings = unified_model(model_settings)
    elif sources and initial and initial.config.symmetry == "nonsoc":
        part = model_settings.pop("anisotropy", None) or {}
        # parts of their own: with equal ones the members would agree where they know nothing
        begin = [with_part(initial, {"seed": training.seed + number, **part}) for number in range(members)]
        initial = begin[0]
    if initial is None:
        check_model_settings(model_settings, where)
    reading = data_options(settings, key, format_name, elements, zero_moments)
    sets = read_sets("train", settings, config_file, data, valid, reading, training.seed, console)
    runs = None
    if sources:
        runs = DirectionRuns.read(sources, settings.get("valid_fraction", VALID_FRACTION), training.seed + 1, console)
        sets = runs.join(sets)
    if initial is not None:
        check_elements(sets.training, initial.config.elements)
        potential = model_config({**initial.config.to_dict(), **model_settings}, where)
    else:
        model_settings.setdefault("elements", sets.elements)
        if sets.r_max is not None:
            model_settings.setdefault("r_max", sets.r_max)
        model_settings.setdefault("seed", training.seed)
        potential = model_config(model_settings, where)
    if runs is None:  # moments that are turned at random have no anisotropy to learn
        sets.set_moment_rotation(training, chosen, potential.symmetry, console)
    isolated = isolated_atoms or path_of(settings, "isolated_atoms", config_file)
    if isolated is not None:
        sets.set_isolated_atoms(training, isolated, reading, potential.r_max, console)
    job = TrainingJob(
        training=training,
        sets=sets,
        folder=folder,
        potential=potential,
        initial=begin,
        overwrite=overwrite,
        plots=plots,
        as_json=as_json,
        tensorboard=settings.get("tensorboard", False) if tensorboard is None else tensorboard,
        runs=runs,
    )
    if members > 1:
        run_committee(job, members, drawn, console)
    else:
        run_training(job, console)


def evaluate_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="checkpoint, .safetensors")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="labelled structures: a file, or store:CAMPAIGN/test")],
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    batch_size: Annotated[int, typer.Option(min=1, help="structures at a time")] = 16,
    head: Annotated[str | None, typer.Option(help="level of theory to ask for, whatever the structures name")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="parity plots as PNG into this folder")] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="file of `mmace uncertainty fit` or folder of a committee: are its bars right?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Errors of a model on labelled structures: overall and per magnetic branch."""
    from rich.console import Console

    from mmace import load, model_hash
    from mmace.heads import head_number
    from mmace.train import errors_of, errors_of_heads, moment_rotation_error, predict
    from mmace_flows.cli.data_source import read_source

    if plots is not None:
        check_folder(plots, "--plots")
    potential = load(checkpoint_file(model))
    reading = data_options({}, key, format_name, elements, zero_moments)
    configurations = read_source(data, reading, Console(stderr=True))
    heads = potential.config.heads
    if head is not None:
        head_number(potential.config, head, str(model))
        configurations = [replace(configuration, head=head) for configuration in configurations]
    predictions = predict(potential, configurations, batch_size)
    errors = errors_of(predictions, configurations)
    of_heads = errors_of_heads(predictions, configurations, heads) if len(heads) > 1 else {}
    leftover = moment_rotation_error(potential, configurations, batch_size=batch_size)
    judged: dict[str, Any] = {}
    if uncertainty is not None:
        from mmace.uncertainty.judge import judge

        judged = {"uncertainty": judge(potential, configurations, uncertainty, batch_size)}
    if plots is not None:
        from mmace.plots.training import evaluation_plots

        evaluation_plots(potential, configurations, plots, data.name)
    if as_json:
        print_json(
            {
                "model": str(model),
                "model_hash": model_hash(potential),
                "data": str(data),
                "units": UNITS,
                "errors": nested(errors),
                **({"heads": {name: nested(values) for name, values in of_heads.items()}} if of_heads else {}),
                "moment_rotation_error": leftover,
                **judged,
            }
        )
        return
    console = output_console()
    console.print(errors_table(errors, f"{data.name}, {len(configurations)} structures"))
    for name, values in of_heads.items():
        console.print(errors_table(values, f"{data.name}, head {name}"))
    console.print(
        f"energy change when all moments turn against the lattice: {1000 * leftover:.3g} meV/atom", highlight=False
    )
    for quantity, values in judged.get("uncertainty", {}).items():
        console.print(
            f"uncertainty of {quantity}: {100 * values['coverage_68']:.0f} % of errors within σ (68 %), "
            f"{100 * values['coverage_95']:.0f} % within 2σ (95 %)",
            highlight=False,
        )
