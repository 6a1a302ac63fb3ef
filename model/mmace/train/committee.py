"""Training of a committee: the same settings and data, other seeds, and if asked for other samples of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmace.checkpoint import model_hash, write_atomically
from mmace.config import PotentialConfig
from mmace.errors import UserError
from mmace.potential import Potential
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.distributed import launched_rank
from mmace.train.evaluate import Prediction, errors_of, predict
from mmace.train.gathered import Joined, has_energies, picked
from mmace.train.heads import with_heads_of_data
from mmace.train.initialise import with_moment_range
from mmace.train.loop import train
from mmace.train.run import ProgressCallback, TrainingResult

SUMMARY = "committee.json"
BOOTSTRAP_STREAM = 3  # of random numbers; order and rotations have others

Runner = Callable[[int, Callable[[ProgressCallback | None], TrainingResult]], TrainingResult]


@dataclass
class CommitteeResult:
    """A trained committee."""

    members: list[TrainingResult]
    folder: Path
    summary: dict[str, Any]  # as in committee.json

    @property
    def models(self) -> list[Potential]:
        """For `mmace.committee.Committee`."""
        return [member.model for member in self.members]


def train_committee(
    potential_config: PotentialConfig | None,
    training_config: TrainingConfig,
    train_configurations: Sequence[Configuration],
    valid_configurations: Sequence[Configuration],
    output_dir: str | Path,
    members: int,
    *,
    bootstrap: bool = False,
    initial_model: Potential | Sequence[Potential] | None = None,
    overwrite: bool = False,
    tensorboard: bool = False,
    runner: Runner | None = None,
) -> CommitteeResult:
    """Trains ``members`` potentials in ``output_dir``/member-0, member-1, …, each as `train` does, one after the other.

    Member n has the seeds (of weights, order and rotations) of the settings plus n. ``bootstrap``: each trains on as
    many configurations as there are, drawn with replacement. ``initial_model``: one for all, or one for each, as where
    they have new parts. Started again, finished members are left as they are, the
    one that was stopped goes on, and more members may be asked for. ``runner(n, run)`` is called for each member and
    calls ``run(progress)``. ``committee.json`` then has the members' validation errors, those of their mean, and the
    spread. Raises `UserError` as `train` does, and for fewer than two members.
    """
    if members < 2:
        raise UserError(f"committee: {members} member asked for; a committee has at least two")
    folder = Path(output_dir)
    if initial_model is None and potential_config is not None:
        # decided by all of the data, so that the members fit together whatever is drawn for them
        everything = Joined(train_configurations, valid_configurations)
        potential_config = with_moment_range(with_heads_of_data(potential_config, everything), train_configurations)
    results = []
    for number in range(members):
        training = replace(training_config, seed=training_config.seed + number)
        potential = potential_config and reseeded(potential_config, number)
        sample = bootstrap_sample(train_configurations, training.seed) if bootstrap else train_configurations
        member_folder = folder / f"member-{number}"
        initial = initial_model[number] if isinstance(initial_model, Sequence) else initial_model

        def run(
            progress: ProgressCallback | None,
            potential: PotentialConfig | None = potential,
            training: TrainingConfig = training,
            sample: Sequence[Configuration] = sample,
            member_folder: Path = member_folder,
            initial: Potential | None = initial,
        ) -> TrainingResult:
            return train(
                potential,
                training,
                sample,
                valid_configurations,
                member_folder,
                initial,
                progress,
                overwrite=overwrite,
                tensorboard=tensorboard,
            )

        results.append(runner(number, run) if runner is not None else run(None))
    summary = _summary(results, valid_configurations or train_configurations, bootstrap)
    if launched_rank() == 0:
        write_atomically(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    return CommitteeResult(results, folder, summary)


def reseeded(config: PotentialConfig, number: int) -> PotentialConfig:
    """``config`` with ``number`` added to its seeds."""
    part = config.anisotropy and reseeded(config.anisotropy, number)
    return replace(config, seed=config.seed + number, anisotropy=part)


def bootstrap_sample(configurations: Sequence[Configuration], seed: int) -> Sequence[Configuration]:
    """As many configurations as there are, drawn with replacement. Raises `UserError` if none of them has an energy."""
    count = len(configurations)
    chosen = np.random.default_rng([seed, BOOTSTRAP_STREAM]).integers(count, size=count)
    drawn = picked(configurations, chosen)
    if not has_energies(drawn):
        raise UserError("committee: the drawn sample has no energies; label more configurations or leave bootstrap out")
    return drawn


def _summary(results: list[TrainingResult], configurations: Sequence[Configuration], bootstrap: bool) -> dict[str, Any]:
    """What committee.json has. Errors in eV/atom, eV/Å, eV/Å³, eV/μB; spread: RMS over the data, in the same units."""
    answers = [predict(result.model, configurations) for result in results]
    mean = [_mean(of_one) for of_one in zip(*answers, strict=True)]
    energies = np.array([[p.energy / len(c) for p, c in zip(a, configurations, strict=True)] for a in answers])
    forces, magnetic = (
        np.array([np.concatenate([getattr(p, name) for p in answer]) for answer in answers])
        for name in ("forces", "magnetic_forces")
    )
    return {
        "bootstrap": bootstrap,
        "members": [
            {
                "folder": result.checkpoint.parent.name,
                "model_hash": model_hash(result.model),
                "best_epoch": result.best_epoch,
                "epochs": result.history[-1]["epoch"] if result.history else 0,
                "reason": result.reason,
                "seconds": result.seconds,
                "errors": errors_of(answer, configurations)["all"],
            }
            for result, answer in zip(results, answers, strict=True)
        ],
        "mean": errors_of(mean, configurations)["all"],
        "spread": {
            name: float(np.sqrt(np.mean(np.var(values, axis=0, ddof=1))))
            for name, values in (("energy_per_atom", energies), ("forces", forces), ("magnetic_forces", magnetic))
        },
    }


def _mean(predictions: Sequence[Prediction]) -> Prediction:
    stresses = [p.stress for p in predictions if p.stress is not None]
    turned = [p.anisotropy for p in predictions if p.anisotropy is not None]
    return Prediction(
        float(np.mean([p.energy for p in predictions])),
        np.mean([p.forces for p in predictions], axis=0),
        np.mean(stresses, axis=0) if stresses else None,
        np.mean([p.magnetic_forces for p in predictions], axis=0),
        np.mean(turned, axis=0) if turned else None,
    )
