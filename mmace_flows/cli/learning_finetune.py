"""`mmace finetune`: a trained potential goes on learning from other data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace.errors import UserError, unknown_key_message
from mmace_flows.cli.learning_processes import follows, said_once
from mmace_flows.cli.learning_sections import ONLY_TRAIN
from mmace_flows.cli.learning_settings import (
    check_output,
    checkpoint_file,
    data_options,
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

if TYPE_CHECKING:
    from mmace.train import TrainingResult

DEFAULT_OUTPUT = "finetuned"
FROZEN = {"none": "all", "all-but-last": "last"}  # what --freeze means as --train


def register(app: typer.Typer) -> None:
    """Adds the command `finetune` to ``app``."""
    app.command("finetune")(said_once(finetune_command))


def finetune_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="checkpoint to start from, .safetensors")],
    data: Data = None,
    valid: Valid = None,
    output: Annotated[Path | None, typer.Option(help=f"folder of the run [default: {DEFAULT_OUTPUT}]")] = None,
    config: Annotated[Path | None, typer.Option(help="settings, YAML as for train; options win over it")] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="all|last|low-rank",
            help="weights that move: all; last: readouts and the last layer's product weights; low-rank: all matrices "
            "inside the layers, by matrices of a low rank, and the readouts [default: all]",
        ),
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="none|all-but-last", help="the same from the other side: what stays")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="of the changes with --train low-rank [default: 4]")] = None,
    replay: Annotated[Path | None, typer.Option(help="structures learned before, so that they are kept")] = None,
    replay_weight: Annotated[float | None, typer.Option(help="weight of each of them [default: 0.1]")] = None,
    head: Annotated[
        str | None, typer.Option(help="level of theory of structures that name none; a new one is added to the model")
    ] = None,
    atomic_energies: Annotated[
        str | None,
        typer.Option(help="E0: shift, least_squares or isolated_atoms [default: as in the model]"),
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    edges_per_batch: EdgesPerBatch = None,
    learning_rate: Annotated[float | None, typer.Option(help="at the start [default: 0.0005]")] = None,
    max_seconds: MaxSeconds = None,
    rotate_moments: RotateMoments = None,
    seed: Annotated[int | None, typer.Option(help="of order, split and low-rank matrices")] = None,
    threads: Threads = None,
    device: Device = None,
    plots: Plots = True,
    tensorboard: TensorBoard = None,
    key: Keys = None,
    format_name: FormatName = None,
    elements: Elements = None,
    zero_moments: ZeroMoments = False,
    overwrite: OverwriteRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a model further on other structures: small learning rate, all weights or few. Resumes as train does."""
    from rich.console import Console

    from mmace import load
    from mmace.train.finetune import REPLAY_WEIGHT, finetune
    from mmace_flows.cli.data_source import read_source
    from mmace_flows.cli.learning_run import DataSets, TrainingJob, read_sets, run_training

    settings = read_settings(config, ONLY_TRAIN, "finetune")
    if freeze is not None:
        if freeze not in FROZEN:
            raise UserError(unknown_key_message(freeze, FROZEN, "finetune: --freeze"))
        if train not in (None, FROZEN[freeze]):
            raise UserError(f"finetune: --freeze {freeze} and --train {train} contradict each other; give one of them")
        train = FROZEN[freeze]
    chosen = dict(settings.get("training") or {}) | given(
        epochs=epochs,
        batch_size=batch_size,
        edges_per_batch=edges_per_batch,
        learning_rate=learning_rate,
        max_seconds=max_seconds,
        rotate_moments=rotate_moments,
        atomic_energies=atomic_energies,
        trainable=train,
        rank=rank,
        seed=seed,
        num_threads=threads,
        device=device,
    )
    training = training_config(chosen, str(config or "options"), finetune=True)
    head = head or settings.get("head")
    weight = settings.get("replay_weight", REPLAY_WEIGHT) if replay_weight is None else replay_weight
    folder = output or path_of(settings, "output", config) or Path(DEFAULT_OUTPUT)
    check_output(folder, 1)
    console = Console(stderr=True, quiet=follows())
    initial = load(checkpoint_file(model))
    reading = data_options(settings, key, format_name, elements, zero_moments)
    sets = read_sets("finetune", settings, config, data, valid, reading, training.seed, console)
    kept_file = replay or path_of(settings, "replay", config)
    kept = read_source(kept_file, reading, console) if kept_file is not None else []
    DataSets(sets.training, [*sets.validation, *kept]).set_moment_rotation(
        training, chosen, initial.config.symmetry, console
    )
    isolated = path_of(settings, "isolated_atoms", config)
    if isolated is not None:
        sets.set_isolated_atoms(training, isolated, reading, initial.config.r_max, console)
    job = TrainingJob(
        training=training,
        sets=sets,
        folder=folder,
        initial=[initial],
        overwrite=overwrite,
        plots=plots,
        as_json=as_json,
    )
    new = (sets.training, sets.validation)  # heads are given to them below

    def run(progress: Any) -> TrainingResult:
        return finetune(
            initial,
            training,
            *new,
            job.folder,
            progress,
            replay=kept,
            replay_weight=weight,
            head=head,
            overwrite=overwrite,
            tensorboard=settings.get("tensorboard", False) if tensorboard is None else tensorboard,
        )

    if head is not None:  # for tables and plots
        job.sets = DataSets(*([replace(c, head=c.head or head) for c in part] for part in new))
    run_training(job, console, run, f", {len(kept)} of old data" if kept else "")
