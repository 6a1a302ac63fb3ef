"""`mmace train-anisotropy`: from force-theorem runs to a model that predicts easy axes and constants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace_flows.cli.options import AsJson, BatchSize, Device, Epochs, MaxSeconds, OverwriteRun, Threads, given

if TYPE_CHECKING:
    from mmace import Potential
    from mmace_flows.schemas.spin_orbit import SpinOrbitDocument

DEFAULT_OUTPUT = "anisotropy"
SCORES = "scores.json"
SETTINGS = ("model", "training", "committee", "output")  # sections of the settings file that mean something here


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("train-anisotropy")(train_command)


def train_command(
    config_file: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="settings: sections model and training")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="RUNS", help="runs of mmace soc: store:CAMPAIGN, or a JSON file; repeatable"),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="RUNS", help="runs to judge by; default: some of the data's crystals are held out"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help=f"folder of the run [default: {DEFAULT_OUTPUT}]")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="model of energies that the anisotropy is added to; default: a model of anisotropy alone"),
    ] = None,
    directions: Annotated[
        int | None, typer.Option(min=2, metavar="K", help="directions per run to train on [default: all]")
    ] = None,
    test_fraction: Annotated[float, typer.Option(min=0.0, max=0.9, help="part of the crystals held out")] = 0.15,
    valid_fraction: Annotated[float, typer.Option(min=0.0, max=0.9, help="part that chooses the best epoch")] = 0.15,
    committee: Annotated[int | None, typer.Option(metavar="N", help="members: N models with other seeds")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Annotated[float | None, typer.Option(help="at the start")] = None,
    max_seconds: MaxSeconds = None,
    seed: Annotated[int, typer.Option(min=0, help="of weights, order and splits")] = 0,
    threads: Threads = None,
    device: Device = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
    overwrite: OverwriteRun = False,
    as_json: AsJson = False,
) -> None:
    """Train on energies of many directions of the moments, as `mmace soc` computes them.

    Only differences between directions of one crystal are learned, each crystal's relative to their size. A crystal,
    its supercells and magnetic orders are on one side of each split. The same command again goes on where it stopped.
    """
    from rich.console import Console

    from mmace import load
    from mmace.checkpoint import write_atomically
    from mmace.errors import UserError
    from mmace_flows.cli.anisotropy_runs import scores_line, usable_runs
    from mmace_flows.cli.learning_output import print_json
    from mmace_flows.cli.learning_run import say
    from mmace_flows.cli.learning_sections import SECTIONS
    from mmace_flows.cli.learning_settings import check_output, checkpoint_file, path_of, read_settings
    from mmace_flows.learning.anisotropy_data import check_no_leak, split_by_crystal
    from mmace_flows.learning.anisotropy_training import (
        anisotropy_potential,
        anisotropy_training,
        elements_of_runs,
        scores_of,
        with_part,
    )

    console = Console(stderr=True)
    settings = read_settings(config_file, [name for name in SECTIONS if name not in SETTINGS], "train-anisotropy")
    if not data:
        raise UserError("train-anisotropy: no data; give --data store:CAMPAIGN or --data FILE.json of mmace soc --json")
    members = (settings.get("committee") or 1) if committee is None else committee
    if members < 1:
        raise UserError(f"train-anisotropy: --committee {members}; give the number of members")
    folder = output or path_of(settings, "output", config_file) or Path(DEFAULT_OUTPUT)
    check_output(folder, members)
    exchange = load(checkpoint_file(model)) if model is not None else None
    options = given(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, max_seconds=max_seconds,
        num_threads=threads, device=device,
    )  # fmt: skip
    chosen = {**(settings.get("training") or {}), "seed": seed, **options}
    where = str(config_file or "options")
    training = anisotropy_training(chosen, exchange is not None, f"{where}: training")
    own = {**(settings.get("model") or {})}
    anisotropy_potential(["Fe"], own, f"{where}: model")  # refused before the data are read

    runs = usable_runs(data, data_dir, console)
    if test:
        held = usable_runs(test, data_dir, console)
        check_no_leak(runs, held)
    else:
        runs, held = split_by_crystal(runs, test_fraction, seed)
    fitted, validation = split_by_crystal(runs, valid_fraction, seed + 1)
    say(
        console,
        f"{len(fitted)} runs to train on, {len(validation)} to choose the best epoch, {len(held)} held out; no crystal "
        f"stands on two sides; folder {folder}",
    )
    potential, initial = None, []
    if exchange is not None:
        initial = [with_part(exchange, {"seed": seed + number, **own}) for number in range(members)]
    else:
        potential = anisotropy_potential(elements_of_runs([*runs, *held]), {"seed": seed, **own}, f"{where}: model")
    models = _train(potential, training, fitted, validation, folder, initial, members, directions, overwrite, console)
    judged = {
        name: scores_of(models, part)
        for name, part in (("trained on", fitted), ("validation", validation), ("held out", held))
        if part
    }
    summary = {
        "folder": str(folder),
        "members": members,
        "runs": {"trained on": len(fitted), "validation": len(validation), "held out": len(held)},
        "scores": {name: one.model_dump() for name, one in judged.items()},
    }
    import json

    write_atomically(folder / SCORES, (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode())
    if as_json:
        print_json(summary)
        return
    for name, one in judged.items():
        typer.echo(scores_line(name, one))
    made = folder if members > 1 else folder / "model.safetensors"
    typer.echo(f"model: {made}; ΔE_A of every run: {folder / SCORES}")


def _train(
    potential: Any,
    training: Any,
    fitted: list[SpinOrbitDocument],
    validation: list[SpinOrbitDocument],
    folder: Path,
    initial: list[Potential],
    members: int,
    directions: int | None,
    overwrite: bool,
    console: Any,
) -> list[Any]:
    """The trained model, or those of a committee."""
    from mmace.train import train
    from mmace.train.committee import train_committee
    from mmace_flows.cli.learning_output import with_progress
    from mmace_flows.cli.learning_run import say
    from mmace_flows.learning.anisotropy_data import configuration_of, with_directions

    configurations = [configuration_of(one) for one in fitted]
    if directions is not None:
        configurations = [with_directions(one, directions, training.seed) for one in configurations]
    chooses = [configuration_of(one) for one in validation]
    if members == 1:
        first = initial[0] if initial else None
        result = with_progress(
            lambda progress: train(
                potential, training, configurations, chooses, folder, first, progress, overwrite=overwrite
            ),
            training,
            console,
        )
        if result.was_finished:
            say(console, f"this training is finished already ({result.reason}); more: --epochs or --max-seconds")
        return [result.model]

    def one(number: int, run: Any) -> Any:
        say(console, f"member-{number}, {number + 1} of {members}")
        return with_progress(run, training, console)

    return train_committee(
        potential, training, configurations, chooses, folder, members, initial_model=initial or None,
        overwrite=overwrite, runner=one,
    ).models  # fmt: skip
