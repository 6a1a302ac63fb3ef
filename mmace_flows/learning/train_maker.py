"""Training as a job: from label keys to a model stored by its hash, resumable on the machine it began on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from jobflow import Maker, job
from pydantic import Field

from mmace_flows.learning.dataset import DataSet, check_no_bain, label_configuration, read_labels
from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.label import LabelDocument

if TYPE_CHECKING:
    from mmace import Potential
    from mmace.train import Configuration, TrainingConfig

HISTORY_ROWS = 400  # epochs kept in documents; longer histories are thinned


class TrainedModel(Document):
    """What a training job leaves behind."""

    model_hash: str = Field(description="under which the weights stand in GridFS")
    parent: str | None = Field(description="model that training started from")
    member: int = Field(description="number in the committee, from 0")
    history: list[dict[str, Any]] = Field(description="per epoch: loss, validation errors, learning rate, seconds")
    best_epoch: int
    reason: str = Field(description="why training ended")
    core_seconds: float = Field(description="over all continuations")


@dataclass
class TrainMaker(Maker):
    """Job: train one committee member on a data set.

    ``potential`` and ``training`` are settings of `mmace.PotentialConfig` and `mmace.train.TrainingConfig` that differ
    from their defaults; ``fine_tuning`` replaces training settings where training starts from the model before.
    ``stationary_moments``: train on zero magnetic forces at DFT's moments where the engine gives none, because an
    unconstrained self-consistent state is a stationary point of the energy as a function of the moments.

    ``foundation`` is the hash of a stored model that the first iteration starts from. Where training starts from a
    model, ``replay_weight`` is the weight of labels that are not new in the iteration (None: as much as new ones), and
    ``head`` the level of theory of the labels, added to a model that lacks it. ``bootstrap``: every member draws its
    own sample of the labels, with replacement.
    """

    name: str = "train"
    potential: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    fine_tuning: dict[str, Any] = field(default_factory=dict)
    start: Literal["previous", "scratch"] = "previous"
    committee: int = 1
    validation_fraction: float = 0.0
    stationary_moments: bool = True
    foundation: str | None = None
    replay_weight: float | None = None
    head: str | None = None
    bootstrap: bool = False

    def make_committee(self, campaign: str, dataset: Any, parents: Sequence[str]) -> list[Any]:
        """One job per member. ``parents`` are the models of the iteration before, in the same order; empty: none."""
        jobs = []
        for member in range(self.committee):
            parent = parents[member] if self.start == "previous" and member < len(parents) else self.foundation
            jobs.append(self.make(campaign, dataset, member, parent))
        return jobs

    @job
    def make(
        self, campaign: str, dataset: dict[str, Any], member: int = 0, parent: str | None = None
    ) -> dict[str, Any]:
        """`TrainedModel` as a plain dictionary.

        Parameters: ``dataset`` a `DataSet`; ``member`` number in the committee, its own seed; ``parent`` hash of the
        model to start from. Raises BainLeakError if a Bain-path label stands in the data set.
        """
        from mmace import PotentialConfig, from_bytes, model_hash, to_bytes
        from mmace.train import TrainingConfig, train
        from mmace.train.finetune import finetune
        from mmace_flows.execution.stores import open_stores

        data = DataSet(**dataset)
        stores = open_stores()
        labels = read_labels(stores.labels, data.training_keys)
        check_no_bain(labels, read_labels(stores.labels, data.bain_keys))
        initial: Potential | None = from_bytes(stores.load_model(parent), f"model {parent}")[0] if parent else None
        potential = PotentialConfig.from_dict(_seeded(self.potential, member))
        settings = {**self.training, **(self.fine_tuning if parent else {})}
        config = TrainingConfig.from_dict(_seeded(settings, member))
        training, replay, validation = self._configurations(labels, data, config, fine_tuning=parent is not None)
        # the folder is the same after a kill, so that training goes on where it was
        own = [self.validation_fraction, self.replay_weight, self.head, self.bootstrap]
        key = content_hash([data.dataset_hash, potential.to_dict(), config.to_dict(), parent, own])
        folder = stores.scratch(campaign, f"train-{data.iteration}-{member}-{key}")

        def progress(event: dict[str, Any]) -> None:
            message = f"iteration {data.iteration}: epoch {event['epoch']}, {errors_line(event)}"
            stores.event(campaign, "train", message, epoch_numbers={**event, "member": member})

        if initial is None:
            result = train(potential, config, training, validation, folder, progress=at_intervals(progress))
        else:
            weight = 1.0 if self.replay_weight is None else self.replay_weight
            options: dict[str, Any] = {"replay": replay, "replay_weight": weight, "head": self.head}
            result = finetune(initial, config, training, validation, folder, at_intervals(progress), **options)
        metadata: dict[str, Any] = {
            "campaign": campaign,
            "iteration": data.iteration,
            "member": member,
            "dataset_hash": data.dataset_hash,
            "parent": parent,
            "training": config.to_dict(),
            "best_epoch": result.best_epoch,
        }
        metadata["model_hash"] = stores.save_model(
            to_bytes(result.model, metadata), {**metadata, "model_hash": model_hash(result.model)}
        )
        return TrainedModel(
            model_hash=metadata["model_hash"],
            parent=parent,
            member=member,
            history=thinned(result.history),
            best_epoch=result.best_epoch,
            reason=result.reason,
            core_seconds=result.seconds * (config.num_threads or 1),
        ).model_dump()

    def _configurations(
        self, labels: list[LabelDocument], data: DataSet, config: TrainingConfig, fine_tuning: bool
    ) -> tuple[list[Configuration], list[Configuration], list[Configuration]]:
        """To train on, to train on with the weight of old ones, and to validate."""
        from mmace.train.committee import bootstrap_sample

        training, validation = (
            [replace(label_configuration(label, self.stationary_moments), head=self.head) for label in part]
            for part in self._split(labels)
        )
        if self.bootstrap:
            training = list(bootstrap_sample(training, config.seed))
        fresh = set(data.fresh_keys)
        if not fine_tuning or self.replay_weight is None or not any(one.name in fresh for one in training):
            return training, [], validation
        new = [configuration for configuration in training if configuration.name in fresh]
        return new, [configuration for configuration in training if configuration.name not in fresh], validation

    def _split(self, labels: list[LabelDocument]) -> tuple[list[LabelDocument], list[LabelDocument]]:
        """Training and validation labels. Validation picks the best epoch, so it is never the test set."""
        count = round(self.validation_fraction * len(labels))
        order = sorted(labels, key=lambda label: content_hash(["validation", label.label_key]))
        held = {label.label_key for label in order[:count]}
        training = [label for label in labels if label.label_key not in held]
        return training, [label for label in labels if label.label_key in held]


def errors_line(event: dict[str, Any]) -> str:
    """Errors of one epoch for people: meV/atom, meV/Å."""
    parts = [f"loss {event['loss']:.3g}"]
    for key, unit in (("energy_rmse", "meV/atom"), ("forces_rmse", "meV/Å"), ("magnetic_forces_rmse", "meV/μB")):
        if event.get(key) is not None:
            parts.append(f"{1000 * event[key]:.1f} {unit}")
    return ", ".join(parts)


def thinned(history: Sequence[dict[str, Any]], rows: int = HISTORY_ROWS) -> list[dict[str, Any]]:
    """At most about ``rows`` epochs, evenly spaced, the last one kept."""
    step = max(1, -(-len(history) // rows))
    kept = list(history[::step])
    if history and kept[-1] is not history[-1]:
        kept.append(history[-1])
    return kept


def _seeded(settings: dict[str, Any], member: int) -> dict[str, Any]:
    return {**settings, "seed": int(settings.get("seed", 0)) + member}


def at_intervals(progress: Any, seconds: float = 2.0) -> Any:
    """``progress`` called at most every ``seconds``: epochs of small data sets are faster than anybody reads."""
    import time

    last = [0.0]

    def throttled(event: dict[str, Any]) -> None:
        if time.monotonic() - last[0] >= seconds:
            last[0] = time.monotonic()
            progress(event)

    return throttled
