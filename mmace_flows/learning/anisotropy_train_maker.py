"""Training on anisotropy as jobs: from keys of force-theorem runs to a committee stored by hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jobflow import Job, Maker, job

from mmace_flows.labels.spin_orbit_runs import read_runs
from mmace_flows.learning.anisotropy_data import configuration_of, split_by_crystal, usable
from mmace_flows.learning.anisotropy_training import (
    anisotropy_potential,
    anisotropy_training,
    elements_of_runs,
    scores_of,
    with_part,
)
from mmace_flows.learning.train_maker import TrainedModel, at_intervals, thinned
from mmace_flows.schemas.document import content_hash


@dataclass
class AnisotropyTrainMaker(Maker):
    """Job: train one committee member on the energies of directions.

    ``potential`` and ``training`` are settings that differ from `anisotropy_training`'s defaults. ``exchange``: hash of
    a stored model of energies that the anisotropy is added to; the model then knows both. ``validation_fraction`` of
    the crystals, another part for every member, chooses the best epoch.
    """

    name: str = "train anisotropy"
    stage: str = "train"
    potential: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    exchange: str | None = None
    committee: int = 3
    validation_fraction: float = 0.15

    def make_committee(self, campaign: str, keys: Any, number: int = 1) -> list[Job]:
        """One job per member. ``keys`` of the runs to train on, or a reference to them; ``number`` of the round."""
        made = []
        for member in range(self.committee):
            one: Job = self.make(campaign, keys, number, member)
            one.name = f"{self.stage}: round {number}, member {member}"
            made.append(one)
        return made

    @job
    def make(self, campaign: str, keys: Sequence[str], number: int = 1, member: int = 0) -> dict[str, Any]:
        """`TrainedModel` as a plain dictionary, with ``scores`` on the validation crystals. Raises UserError where no
        run can be trained on."""
        from mmace import from_bytes, model_hash, to_bytes
        from mmace.errors import UserError
        from mmace.train import train
        from mmace_flows.execution.stores import open_stores

        stores = open_stores()
        runs = usable(read_runs(stores.spin_orbit, keys))
        if not runs:
            raise UserError(f"{campaign}: no force-theorem run to train on; the ground states did not converge")
        seed = int(self.training.get("seed", 0)) + member
        training, validation = split_by_crystal(runs, self.validation_fraction, seed)
        config = anisotropy_training({**self.training, "seed": seed}, unified=self.exchange is not None)
        potential = anisotropy_potential(elements_of_runs(runs), {**self.potential, "seed": seed})
        initial = None
        if self.exchange is not None:
            exchange = from_bytes(stores.load_model(self.exchange), f"model {self.exchange}")[0]
            initial = with_part(exchange, {**self.potential, "seed": seed})
        own = [sorted(keys), potential.to_dict(), config.to_dict(), self.exchange, self.validation_fraction]
        folder = stores.scratch(campaign, f"anisotropy-{number}-{member}-{content_hash(own)}")
        title = f"{self.stage}: round {number}, member {member}"

        def progress(event: dict[str, Any]) -> None:
            error = event.get("anisotropy_rmse")
            said = "" if error is None else f", {1e6 * error:.3g} µeV/atom"
            line = f"round {number}, member {member}: epoch {event['epoch']} of {event['epochs']}{said}"
            stores.event(campaign, self.stage, line, epoch_numbers={**event, "member": member})

        result = train(
            potential if initial is None else None,
            config,
            [configuration_of(one) for one in training],
            [configuration_of(one) for one in validation],
            folder,
            initial,
            at_intervals(progress),
        )
        scores = scores_of(result.model, validation or training)
        metadata: dict[str, Any] = {
            "campaign": campaign,
            "round": number,
            "member": member,
            "runs": [one.spin_orbit_key for one in training],
            "exchange": self.exchange,
            "training": config.to_dict(),
            "best_epoch": result.best_epoch,
        }
        metadata["model_hash"] = stores.save_model(
            to_bytes(result.model, metadata), {**metadata, "model_hash": model_hash(result.model)}
        )
        part = "validation" if validation else "error on them"
        line = f"round {number}, member {member}: {len(training)} runs, {part} {100 * scores.relative_error:.0f} %"
        stores.event(campaign, self.stage, line, ends_job=title, model_hash=metadata["model_hash"])
        trained = TrainedModel(
            model_hash=metadata["model_hash"],
            parent=self.exchange,
            member=member,
            history=thinned(result.history),
            best_epoch=result.best_epoch,
            reason=result.reason,
            core_seconds=result.seconds * (config.num_threads or 1),
        )
        return {**trained.model_dump(), "scores": scores.model_dump()}
