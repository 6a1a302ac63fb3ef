"""`mmace train` and `mmace evaluate`: from labelled files to a checkpoint, from a checkpoint to a table of errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace_flows.cli.learning_output import UNITS, errors_table, nested, output_console, print_json, with_progress
from mmace_flows.cli.learning_settings import (
    check_fraction,
    checkpoint_file,
    data_options,
    model_config,
    path_of,
    read_settings,
    training_config,
)

if TYPE_CHECKING:  # torch and rich take seconds to import; `mmace --help` must not wait for them
    from mmace.train import Configuration

DEFAULT_OUTPUT = "training"
VALID_FRACTION = 0.1

ConfigFile = Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="settings; options win over it")]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="FIELD=KEY", help="other key, e.g. magmoms=magmoms")]
FormatName = Annotated[
    str | None, typer.Option("--format", help="extxyz, mlip_cfg, deepmd_spin or matpes_json [default: recognised]")
]
Elements = Annotated[
    str | None, typer.Option(metavar="Fe,Al", help="elements of type 0, 1, … where the file only numbers its types")
]
ZeroMoments = Annotated[bool, typer.Option("--zero-moments", help="take structures without moments as non-magnetic")]


def register(app: typer.Typer) -> None:
    """Adds the commands `train` and `evaluate` to ``app``."""
    app.command("train")(train_command)
    app.command("evaluate")(evaluate_command)


def train_command(
    config_file: ConfigFile = None,
    data: Annotated[Path | None, typer.Option(help="labelled structures: a file, or store:CAMPAIGN[/train]")] = None,
    valid: Annotated[Path | None, typer.Option(help="validation structures; default: a tenth of the data")] = None,
    output: Annotated[Path | None, typer.Option(help=f"folder of the run [default: {DEFAULT_OUTPUT}]")] = None,
    model_from: Annotated[Path | None, typer.Option(help="checkpoint to start from (fine-tuning)")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the data")] = None,
    batch_size: Annotated[int | None, typer.Option(help="structures per step")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="at the start; 0.0005 is right for fine-tuning")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="stop after this time")] = None,
    symmetry: Annotated[str | None, typer.Option(help="soc, nonsoc, paper or none")] = None,
    rotate_moments: Annotated[
        bool | None,
        typer.Option(
            "--rotate-moments/--no-rotate-moments",
            help="turn all moments of a structure at random: data without spin–orbit coupling, soc model "
            "[default: if all moments are collinear]",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="of weights, order and split")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
    one_body: Annotated[Path | None, typer.Option(help="E0_mag(|m|) from `mmace fit-one-body`, JSON")] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="parity and learning curve as PNG")] = True,
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another run in the folder")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="result as JSON")] = False,
) -> None:
    """Train a potential on labelled structures. The same command again goes on where it was stopped."""
    from rich.console import Console

    from mmace import load
    from mmace.data.check import check_configurations
    from mmace.errors import UserError
    from mmace.train import evaluate_configurations, train
    from mmace.train.reading import check_elements
    from mmace_flows.cli.data_source import read_source

    settings = read_settings(config_file)
    where = str(config_file or "options")
    data = data or path_of(settings, "data", config_file)
    if data is None:
        raise UserError("train: no data; give --data FILE.extxyz")
    valid = valid or path_of(settings, "valid", config_file)
    folder = output or path_of(settings, "output", config_file) or Path(DEFAULT_OUTPUT)
    model_from = model_from or path_of(settings, "model_from", config_file)
    reading = data_options(settings, key, format_name, elements, zero_moments)
    fraction = settings.get("valid_fraction", VALID_FRACTION)
    check_fraction(fraction, where)

    given = dict(settings.get("training") or {})
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_seconds": max_seconds,
        "rotate_moments": rotate_moments,
        "seed": seed,
        "num_threads": threads,
    }
    given |= {name: value for name, value in options.items() if value is not None}
    curves = one_body or path_of(settings, "one_body", config_file)
    if curves is not None:
        from mmace.one_body_file import load_one_body

        given["one_body"] = load_one_body(curves)
    training = training_config(given, where)
    console = Console(stderr=True)
    initial = load(checkpoint_file(model_from)) if model_from is not None else None
    configurations = read_source(data, reading, console)
    if valid is not None:
        train_set, valid_set = configurations, read_source(valid, reading, console)
    else:
        train_set, valid_set = _split(configurations, fraction, training.seed)
    for line in check_configurations([*train_set, *valid_set]).short_lines():
        console.print(line, highlight=False, soft_wrap=True)
    model_settings = dict(settings.get("model") or {})
    if symmetry is not None:
        model_settings["symmetry"] = symmetry
    if initial is not None:
        check_elements(configurations, initial.config.elements)
        potential = model_config({**initial.config.to_dict(), **model_settings}, where)
    else:
        model_settings.setdefault("elements", _elements([*train_set, *valid_set]))
        model_settings.setdefault("seed", training.seed)
        potential = model_config(model_settings, where)
    collinear = all(configuration.branch != "non-collinear" for configuration in configurations)
    if "rotate_moments" not in given and potential.symmetry in ("soc", "paper") and collinear:
        training.rotate_moments = True
        said = "all moments are collinear: they are turned at random while training (--no-rotate-moments: not)"
        console.print(said, highlight=False, soft_wrap=True)
    console.print(
        f"{len(train_set)} structures to train on, {len(valid_set)} to validate; "
        f"elements {', '.join(potential.elements)}; folder {folder}",
        highlight=False,
        soft_wrap=True,
    )
    arguments = (potential, training, train_set, valid_set, folder, initial)
    result = with_progress(lambda progress: train(*arguments, progress, overwrite=overwrite), training, console)
    if plots and not result.was_finished:
        from mmace.plots.training import training_plots

        training_plots(result.model, train_set, valid_set, result.history, folder)
    errors = {"validation": evaluate_configurations(result.model, valid_set)}
    if as_json:
        from mmace import model_hash

        print_json(
            {
                "checkpoint": str(result.checkpoint),
                "model_hash": model_hash(result.model),
                "epochs": len(result.history),
                "best_epoch": result.best_epoch,
                "seconds": result.seconds,
                "reason": result.reason,
                "units": UNITS,
                "errors": {name: nested(branches) for name, branches in errors.items()},
            }
        )
        return
    if result.was_finished:
        console.print(f"this training is finished already ({result.reason}); more: --epochs or --max-seconds")
    out = output_console()
    out.print(errors_table(errors["validation"], f"validation, best epoch {result.best_epoch} ({result.reason})"))
    out.print(f"model: {result.checkpoint}", highlight=False, soft_wrap=True)


def evaluate_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="checkpoint, .safetensors")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="labelled structures: a file, or store:CAMPAIGN/test")],
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    batch_size: Annotated[int, typer.Option(min=1, help="structures at a time")] = 16,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="parity plots as PNG into this folder")] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="file of `mmace uncertainty fit` or folder of a committee: are its bars right?")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Errors of a model on labelled structures: overall and per magnetic branch."""
    from rich.console import Console

    from mmace import load, model_hash
    from mmace.train import evaluate_configurations, moment_rotation_error
    from mmace_flows.cli.data_source import read_source

    potential = load(checkpoint_file(model))
    reading = data_options({}, key, format_name, elements, zero_moments)
    configurations = read_source(data, reading, Console(stderr=True))
    errors = evaluate_configurations(potential, configurations, batch_size)
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
                "moment_rotation_error": leftover,
                **judged,
            }
        )
        return
    console = output_console()
    console.print(errors_table(errors, f"{data.name}, {len(configurations)} structures"))
    console.print(
        f"energy change when all moments turn against the lattice: {1000 * leftover:.3g} meV/atom", highlight=False
    )
    for quantity, values in judged.get("uncertainty", {}).items():
        console.print(
            f"uncertainty of {quantity}: {100 * values['coverage_68']:.0f} % of errors within σ (68 %), "
            f"{100 * values['coverage_95']:.0f} % within 2σ (95 %)",
            highlight=False,
        )


def _elements(configurations: list[Configuration]) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in sorted({int(z) for c in configurations for z in c.numbers})]


def _split(
    configurations: list[Configuration], fraction: float, seed: int
) -> tuple[list[Configuration], list[Configuration]]:
    """Training and validation part; at least one each, the order within a part as in the file."""
    import numpy as np

    from mmace.errors import UserError

    if len(configurations) < 2:
        raise UserError("train: one configuration cannot be split into training and validation; give --valid FILE")
    count = min(max(1, round(fraction * len(configurations))), len(configurations) - 1)
    chosen = set(np.random.default_rng([seed, 2]).permutation(len(configurations))[:count].tolist())
    train_set = [c for index, c in enumerate(configurations) if index not in chosen]
    return train_set, [c for index, c in enumerate(configurations) if index in chosen]
