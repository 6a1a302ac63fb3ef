"""One training from the command line: its data, its run with progress, its results as tables or JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.cli.learning_output import (
    UNITS,
    committee_table,
    errors_table,
    nested,
    output_console,
    print_json,
    with_progress,
)
from mmace_flows.cli.learning_processes import follows
from mmace_flows.cli.learning_settings import check_fraction, path_of

if TYPE_CHECKING:  # torch and rich take seconds to import; `mmace --help` must not wait for them
    from mmace import Potential, PotentialConfig
    from mmace.data import ReadOptions
    from mmace.train import Configuration, TrainingConfig, TrainingResult
    from mmace_flows.cli.learning_directions import DirectionRuns
    from mmace_flows.learning.anisotropy_training import AnisotropyScores

VALID_FRACTION = 0.1


@dataclass
class DataSets:
    """Configurations to train on and to validate."""

    training: Sequence[Configuration]
    validation: Sequence[Configuration]

    @property
    def elements(self) -> list[str]:
        """Chemical symbols by atomic number."""
        from mmace.train.gathered import Joined, elements_of

        return elements_of(Joined(self.training, self.validation))

    @property
    def r_max(self) -> float | None:
        """Cutoff radius of the neighbour lists where the training data are shards, Å."""
        return getattr(self.training, "r_max", None)

    def set_moment_rotation(self, training: TrainingConfig, given: dict[str, Any], symmetry: str, console: Any) -> None:
        """Collinear data and a model with spin–orbit coupling: moments turned at random, unless somebody decided."""
        from mmace.train.gathered import Joined, is_collinear

        collinear = is_collinear(Joined(self.training, self.validation))
        if "rotate_moments" not in given and symmetry in ("soc", "paper") and collinear:
            training.rotate_moments = True
            say(
                console,
                "all moments are collinear: they are turned at random while training (--no-rotate-moments: not)",
            )

    def set_isolated_atoms(
        self, training: TrainingConfig, file: Path, reading: ReadOptions, r_max: float, console: Any
    ) -> None:
        """E0 from the single atoms of ``file``, of each head that it names. Raises `UserError` if there are none."""
        from mmace.train.atomic_energies import isolated_atom_energies
        from mmace_flows.cli.data_source import read_source

        if training.atomic_energies not in (None, "isolated_atoms"):
            raise UserError(f"{file}: isolated atoms are given, and atomic_energies too; give one of them")
        atoms = read_source(file, reading, console)
        heads = {c.head for c in atoms}
        found = {head: isolated_atom_energies([c for c in atoms if c.head == head], r_max) for head in heads}
        if not any(found.values()):
            raise UserError(
                f"{file}: no configuration of one atom without neighbours, with an energy; add one per element"
            )
        training.atomic_energies = (
            found[None] if heads == {None} else {head or "default": energies for head, energies in found.items()}
        )


@dataclass
class TrainingJob:
    """What a command has made of settings and options."""

    training: TrainingConfig
    sets: DataSets
    folder: Path
    potential: PotentialConfig | None = None
    initial: Sequence[Potential] = ()  # what each member begins from, or none
    overwrite: bool = False
    plots: bool = True
    as_json: bool = False
    tensorboard: bool = False
    runs: DirectionRuns | None = None  # the runs among the sets


def say(console: Any, line: str) -> None:
    """One line that is neither coloured nor folded."""
    console.print(line, highlight=False, soft_wrap=True)


def read_sets(
    command: str,
    settings: dict[str, Any],
    config_file: Path | None,
    data: Path | None,
    valid: Path | None,
    reading: ReadOptions,
    seed: int,
    console: Any,
) -> DataSets:
    """Reads training and validation data, or splits the data, and says what is in them. Raises `UserError`."""
    from mmace_flows.cli.data_source import read_source

    where = str(config_file or "options")
    data = data or path_of(settings, "data", config_file)
    if data is None:
        raise UserError(f"{command}: no data; give --data FILE.extxyz")
    valid = valid or path_of(settings, "valid", config_file)
    fraction = settings.get("valid_fraction", VALID_FRACTION)
    check_fraction(fraction, where)
    configurations = read_source(data, reading, console)
    if valid is not None:
        sets = DataSets(configurations, read_source(valid, reading, console))
    else:
        sets = _split(configurations, fraction, seed, command)
    for line in _description(sets):
        say(console, line)
    return sets


def run_training(
    job: TrainingJob, console: Any, run: Callable[[Any], TrainingResult] | None = None, more: str = ""
) -> None:
    """Trains with a progress bar and shows the errors; ``run(progress)`` where it is not `mmace.train.train`."""
    from mmace import model_hash
    from mmace.train import errors_of, errors_of_heads, predict, train

    _announce(job, console, more)
    sets = job.sets

    def plain(progress: Any) -> TrainingResult:
        begin = job.initial[0] if job.initial else None
        arguments = (job.potential, job.training, sets.training, sets.validation, job.folder, begin)
        return train(*arguments, progress, overwrite=job.overwrite, tensorboard=job.tensorboard)

    result = with_progress(run or plain, job.training, console)
    if follows():
        return
    if job.plots and not result.was_finished:
        _plots(result, sets)
    predictions = predict(result.model, sets.validation)
    errors = {"validation": errors_of(predictions, sets.validation)}
    heads = result.model.config.heads
    of_heads = errors_of_heads(predictions, sets.validation, heads) if len(heads) > 1 else {}
    scores = job.runs.scores([result.model]) if job.runs is not None else {}
    if job.as_json:
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
                **({"heads": {head: nested(branches) for head, branches in of_heads.items()}} if of_heads else {}),
                **_nested_scores(scores),
            }
        )
        return
    if result.was_finished:
        console.print(f"this training is finished already ({result.reason}); more: --epochs or --max-seconds")
    out = output_console()
    out.print(errors_table(errors["validation"], f"validation, best epoch {result.best_epoch} ({result.reason})"))
    for head, branches in of_heads.items():
        out.print(errors_table(branches, f"validation, head {head}"))
    _say_scores(out, scores)
    say(out, f"model: {result.checkpoint}")


def run_committee(job: TrainingJob, members: int, bootstrap: bool, console: Any) -> None:
    """Trains a committee, one progress bar after the other, and shows the errors of members and mean."""
    from mmace.train.committee import SUMMARY, train_committee

    _announce(job, console, f", {members} members")

    def one(number: int, run: Callable[[Any], TrainingResult]) -> TrainingResult:
        say(console, f"member-{number}, {number + 1} of {members}")
        result = with_progress(run, job.training, console)
        if job.plots and not result.was_finished and not follows():
            _plots(result, job.sets)
        return result

    committee = train_committee(
        job.potential,
        job.training,
        job.sets.training,
        job.sets.validation,
        job.folder,
        members,
        bootstrap=bootstrap,
        initial_model=job.initial or None,
        overwrite=job.overwrite,
        tensorboard=job.tensorboard,
        runner=one,
    )
    if follows():
        return
    scores = job.runs.scores(committee.models) if job.runs is not None else {}
    if job.as_json:
        print_json({"folder": str(job.folder), "units": UNITS, **committee.summary, **_nested_scores(scores)})
        return
    out = output_console()
    out.print(committee_table(committee.summary))
    _say_scores(out, scores)
    say(out, f"committee: {job.folder}, summary {job.folder / SUMMARY}")


def _nested_scores(scores: dict[str, AnisotropyScores]) -> dict[str, Any]:
    return {"anisotropy": {name: one.model_dump() for name, one in scores.items()}} if scores else {}


def _say_scores(out: Any, scores: dict[str, AnisotropyScores]) -> None:
    from mmace_flows.cli.anisotropy_runs import scores_line

    for name, one in scores.items():
        say(out, scores_line(f"anisotropy, {name}", one))


def _announce(job: TrainingJob, console: Any, more: str) -> None:
    config = job.potential or (job.initial[0].config if job.initial else None)
    elements = config.elements if config is not None else job.sets.elements
    say(
        console,
        f"{len(job.sets.training)} structures to train on, {len(job.sets.validation)} to validate{more}; "
        f"elements {', '.join(elements)}; folder {job.folder}",
    )


def _plots(result: TrainingResult, sets: DataSets) -> None:
    from mmace.plots.training import training_plots

    training_plots(result.model, sets.training, sets.validation, result.history, result.checkpoint.parent)


def _description(sets: DataSets) -> list[str]:
    """What is in the data, a few lines. Raises `UserError` for problems; shards were checked when they were made."""
    from mmace.data.check import check_configurations
    from mmace.train.shards import ShardedConfigurations

    lines: list[str] = []
    read: list[Configuration] = []
    for part in (sets.training, sets.validation):
        if isinstance(part, ShardedConfigurations):
            branches = ", ".join(f"{name} {count}" for name, count in part.branches.items() if count)
            lines.append(f"{len(part)} configurations, {part.atoms.sum()} atoms in shards; {branches}")
        else:
            read.extend(part)
    return lines + (check_configurations(read).short_lines() if read else [])


def _split(configurations: Sequence[Configuration], fraction: float, seed: int, command: str) -> DataSets:
    """Training and validation part; at least one each, the order within a part as in the file."""
    import numpy as np

    from mmace.train.gathered import picked

    if len(configurations) < 2:
        raise UserError(f"{command}: one configuration cannot be split into training and validation; give --valid FILE")
    count = min(max(1, round(fraction * len(configurations))), len(configurations) - 1)
    chosen = set(np.random.default_rng([seed, 2]).permutation(len(configurations))[:count].tolist())
    return DataSets(
        picked(configurations, [index for index in range(len(configurations)) if index not in chosen]),
        picked(configurations, sorted(chosen)),
    )
