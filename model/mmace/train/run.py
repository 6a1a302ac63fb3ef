"""One training at work: steps, validation, states on disk."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmace.checkpoint import model_hash, save, write_atomically
from mmace.config import PotentialConfig
from mmace.errors import UserError
from mmace.potential import Potential
from mmace.train.atomic_energies import set_atomic_energies
from mmace.train.batches import Batch, prepare, sizes_of, training_batches
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.distributed import Processes
from mmace.train.files import append_line
from mmace.train.gathered import has_directions
from mmace.train.initialise import initialise, initialise_anisotropy, warn_of_rounding
from mmace.train.interrupt import DeferredSignals
from mmace.train.loss import batch_loss
from mmace.train.one_body import without_one_body
from mmace.train.optimise import MovingAverage
from mmace.train.prefetch import prefetched
from mmace.train.sampling import epoch_batches
from mmace.train.stages import stage_at, stage_weights
from mmace.train.state import METRICS, MODEL, STATE, TrainingState, read_state, save_state, state_from
from mmace.train.trainable import Trainable
from mmace.train.validation import ValidationBatches, validation_errors

ProgressCallback = Callable[[dict[str, Any]], None]

NOTHING_WRITTEN = "stopped before the first step; nothing written yet"


@dataclass
class TrainingResult:
    """A finished training."""

    model: Potential  # the averaged weights of the best epoch
    checkpoint: Path
    history: list[dict[str, Any]]  # per epoch: loss, validation loss, errors, learning rate, seconds
    best_epoch: int
    seconds: float  # over all continuations
    reason: str  # why it ended
    continued: bool  # from a state that was there
    was_finished: bool  # nothing was left to do


class Run:
    """One training at work: model, average, optimiser, state."""

    def __init__(
        self,
        potential_config: PotentialConfig,
        config: TrainingConfig,
        train_configurations: Sequence[Configuration],
        valid_configurations: Sequence[Configuration],
        folder: Path,
        initial_model: Potential | None,
        processes: Processes | None = None,
    ) -> None:
        self.config, self.folder = config, folder
        self.processes = processes or Processes(0, 1, torch.device("cpu"))
        with self.processes.together():  # what one of them cannot read, none goes on with
            self._prepare(potential_config, train_configurations, valid_configurations)
            self.model = self._start_model(potential_config, train_configurations, initial_model)
        self.processes.share_weights(self.model)
        self.model.to(self.processes.device)
        self.trainable = Trainable(self.model, self._trainable(train_configurations), config.rank, config.seed)
        self.average = MovingAverage(self.trainable, config.ema_decay)
        self.optimiser = self._new_optimiser()
        with self.processes.together():
            written = read_state(folder) if self.processes.leads else None
        written = self.processes.share_bytes(written)
        with self.processes.together():
            state = None if written is None else state_from(written, folder / STATE)
        self.continued = state is not None
        self.state = state or TrainingState()
        self.best: dict[str, torch.Tensor] = _copy(self.average.model)
        self.best_is_new = False
        self.loss = 0.0  # mean over the steps of the last whole epoch
        if state is not None:
            self._restore(state.tensors)
        self._plan_epoch()
        if state is not None and state.steps_done is None:  # written before it was counted
            state.steps_done = state.epoch * self.steps + state.step
        self.started = time.monotonic() - self.state.seconds
        self.written = time.monotonic()

    def _trainable(self, configurations: Sequence[Configuration]) -> str:
        """What is trained: an anisotropy part only where there is anisotropy to learn, or energies would spoil it."""
        chosen = self.config.trainable
        silent = self.model.anisotropy is not None and not has_directions(configurations)
        return "exchange" if chosen == "all" and silent else chosen

    def _prepare(
        self, potential: PotentialConfig, training: Sequence[Configuration], validation: Sequence[Configuration]
    ) -> None:
        """Graphs and labels, at once or, from shards, when they are needed."""
        settings = (potential.elements, potential.r_max, potential.torch_dtype, potential.heads)
        self.singles = prepare(training, *settings)
        self.sizes = sizes_of(self.singles)
        self.valid = ValidationBatches(prepare(validation, *settings), self.config, self.processes)

    def _start_model(
        self, potential: PotentialConfig, configurations: Sequence[Configuration], initial_model: Potential | None
    ) -> Potential:
        """A new model with what it takes from its data, or a copy of ``initial_model``."""
        config = self.config
        if initial_model is None:
            model = Potential(potential)
            initialise(model, configurations, self.singles, config)
            return model
        model = copy.deepcopy(initial_model).cpu()
        if model.anisotropy is not None and not float(model.anisotropy.energy_scale):  # new: never trained
            initialise_anisotropy(model.anisotropy, self.singles)
        if config.atomic_energies is not None:
            shift = config.atomic_energies == "shift"  # of whole energies
            left = configurations if shift else without_one_body(model, configurations)
            set_atomic_energies(model, config.atomic_energies, left)
        warn_of_rounding(model, configurations)
        return model

    def finish(self, progress: ProgressCallback | None) -> TrainingResult:
        """Runs what is left of the training and writes the checkpoint."""
        state, config = self.state, self.config
        self._rewrite_log()
        was_finished = state.finished is not None and self._over() is not None
        if not was_finished:
            state.finished = None
            with DeferredSignals() as signals:
                self._write_and_stop_if(signals)
                while (reason := self._over()) is None:
                    self._epoch(progress, signals)
                    self._write_and_stop_if(signals)
            state.finished = reason
            last = state.history[-1]["epoch"] if state.history else None
            if last is None or (last != state.epoch and state.step == 0):  # the time was over before its validation
                self._validate(progress, self._learning_rate())
            self._write()
        return TrainingResult(
            model=self._save_best(),
            checkpoint=self.folder / MODEL,
            history=state.history,
            best_epoch=state.progress.best_epoch,
            seconds=state.seconds,
            reason=state.finished or _epochs_done(config.epochs),
            continued=self.continued,
            was_finished=was_finished,
        )

    def _over(self) -> str | None:
        """Why the run is over, or None."""
        state, config = self.state, self.config
        if state.epoch >= config.epochs:
            return _epochs_done(config.epochs)
        better = max(state.progress.best_epoch, state.progress.stage_start)
        if config.patience and state.epoch - better >= config.patience and state.step == 0 and self._in_last_stage():
            return f"no better validation loss for {_epochs(config.patience)}"
        if self._out_of_time():
            return f"{config.max_seconds:.0f} s are over"
        return None

    def _out_of_time(self) -> bool:
        if self.config.max_seconds is None:
            return False
        seconds = self.state.seconds if self.state.finished else time.monotonic() - self.started
        return self.processes.any(seconds >= self.config.max_seconds)

    def _in_last_stage(self) -> bool:
        reached = stage_at(self.config, self.config.epochs - 1)  # a stage after the last epoch never begins
        return self.state.progress.stage >= reached

    def _enter_stage(self) -> None:
        """Begins the stage that the next epoch belongs to, if it has not begun: the best so far is kept in a file."""
        number = stage_at(self.config, self.state.epoch)
        if number == self.state.progress.stage:
            return
        self._save_best(f"model-stage-{number}.safetensors")
        self.state.progress.enter(number, self.state.epoch, self.config)
        self.optimiser = self._new_optimiser()  # what the old one remembers are gradients of another loss

    def _new_optimiser(self) -> torch.optim.Adam:
        config = self.config
        return torch.optim.Adam(
            self.trainable.parameters(), lr=config.learning_rate, amsgrad=config.amsgrad, fused=True
        )

    def _plan_epoch(self) -> None:
        """Decides the batches of the next epoch; with batches filled by edges their number is an epoch's own."""
        self.plan = epoch_batches(self.sizes, self.config, self.state.epoch)
        self.steps = len(self.plan)

    def _weights(self) -> dict[str, float]:
        return stage_weights(self.config, self.state.progress.stage)

    def _learning_rate(self) -> float:
        done = self.state.epoch + self.state.step / self.steps
        return self.state.progress.learning_rate(self.config, done)

    def _epoch(self, progress: ProgressCallback | None, signals: DeferredSignals) -> None:
        """The rest of one epoch and its validation, unless the time is over or a signal comes before."""
        state, config = self.state, self.config
        self._enter_stage()
        rate = self._learning_rate()
        for batch in self._batches():
            rate = self._learning_rate()
            state.loss_sum += self._step(batch.to(self.processes.device), rate)
            state.step += 1
            if state.step < self.steps:
                if time.monotonic() - self.written > config.checkpoint_seconds:
                    self._write()
                if self._out_of_time() or self.processes.any(signals.pending):
                    return
        self.loss, state.loss_sum = state.loss_sum / self.steps, 0.0
        state.epoch, state.step = state.epoch + 1, 0
        self._plan_epoch()
        if state.epoch % config.validate_every == 0 or state.epoch >= config.epochs:
            self._validate(progress, rate)
        due = state.epoch == 1 or state.epoch % config.checkpoint_every == 0
        if due or time.monotonic() - self.written > config.checkpoint_seconds:
            self._write()

    def _batches(self) -> Iterator[Batch]:
        """This process's share of the rest of the epoch."""
        state, processes = self.state, self.processes
        batches = training_batches(
            self.singles,
            self.config,
            state.epoch,
            state.step,
            plan=self.plan,
            rank=processes.rank,
            processes=processes.count,
        )
        return batches if processes.device.type == "cpu" else prefetched(batches)

    def _write_and_stop_if(self, signals: DeferredSignals) -> None:
        """Writes the state if a signal has come, then lets the signal end the run."""
        if not self.processes.any(signals.pending):
            return
        epoch, step = self.state.epoch, self.state.step
        message = NOTHING_WRITTEN
        if epoch or step:
            self._write()
            within = f" and {step} of {self.steps} steps of the next" if step else ""
            message = f"stopped after epoch {epoch}{within}; the same command goes on from there"
        self.processes.wait()  # the first process that ends takes the others with it: not before all is written
        if signals.pending:
            signals.deliver(message)
        elif self.processes.count > 1:  # the signal has come to another process
            raise KeyboardInterrupt(message)

    def _step(self, batch: Batch, rate: float) -> float:
        """One optimiser step. Returns the loss; raises `UserError` if it is not finite."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = batch_loss(self.model, batch, self.config, self._weights())
        loss.backward()
        self.trainable.pull_gradients()
        value = self.processes.sum_gradients(self.trainable.parameters(), loss)
        norm = torch.nn.utils.clip_grad_norm_(self.trainable.parameters(), self.config.clip or float("inf"))
        if not torch.isfinite(norm) or value != value:
            raise UserError(
                f"training: the loss is not finite in epoch {self.state.epoch + 1}; lower learning_rate "
                f"({self.config.learning_rate}) or clip, or remove configurations with extreme labels"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.trainable.push_weights()
        self.state.steps_done = (self.state.steps_done or 0) + 1
        self.average.update(self.trainable, self.state.steps_done)
        return value

    def _validate(self, progress: ProgressCallback | None, rate: float) -> None:
        """Errors of the averaged weights on the validation data; keeps them if they are the best."""
        state = self.state
        loss, sums = validation_errors(self.average.model, self.valid, self.config, self._weights(), self.processes)
        state.seconds = time.monotonic() - self.started
        improved = state.progress.update(loss, state.epoch, self.config)
        if improved or not state.history:
            self.best, self.best_is_new = _copy(self.average.model), True
        event = {
            "epoch": state.epoch,
            "epochs": self.config.epochs,
            "loss": self.loss,
            "valid_loss": loss,
            **{key: value for key, value in sums.result().items() if key != "count"},
            "learning_rate": rate,
            "best_epoch": state.progress.best_epoch,
            "seconds": round(state.seconds, 3),
        }
        if self.config.stages:
            event["stage"] = state.progress.stage + 1
        state.history.append(event)
        if not self.processes.leads:
            return
        append_line(self.folder / METRICS, json.dumps(event))
        if progress is not None:
            progress(event)

    def _write(self) -> None:
        """State, then the best model so far; one process writes for all."""
        if not self.processes.leads:
            self.written = time.monotonic()
            return
        self.state.seconds = time.monotonic() - self.started
        self.state.tensors = {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "factors": self.trainable.tensors(),
            "average factors": self.average.trainable.tensors(),
            "best": self.best,
        }
        save_state(self.state, self.folder)
        if self.best_is_new:
            self._save_best()
        self.written = time.monotonic()

    def _restore(self, tensors: dict[str, Any]) -> None:
        self.model.load_state_dict(tensors["model"])
        self.average.model.load_state_dict(tensors["average"])
        self.optimiser.load_state_dict(tensors["optimiser"])
        self.trainable.restore(tensors.get("factors", {}))
        self.average.trainable.restore(tensors.get("average factors", {}))
        self.best = tensors["best"]
        self.state.tensors = {}

    def _rewrite_log(self) -> None:
        """The log ends where the state ends: lines of epochs that a kill undid are removed."""
        if not self.processes.leads:
            return
        lines = "".join(json.dumps(event) + "\n" for event in self.state.history)
        write_atomically(self.folder / METRICS, lines.encode())

    def _save_best(self, name: str = MODEL) -> Potential:
        """Writes and returns the averaged weights of the best epoch so far."""
        model = copy.deepcopy(self.average.model).cpu()
        model.load_state_dict(self.best)
        model.eval()
        best = self.state.progress.best_epoch
        errors = next((event for event in self.state.history if event["epoch"] == best), {})
        metadata = {
            "training": self.config.to_dict(),
            "best_epoch": best,
            "epochs": self.state.epoch,
            "validation": {name: value for name, value in errors.items() if name != "seconds"},  # same run, same file
            "model_hash": model_hash(model),
        }
        if self.processes.leads:
            save(model, self.folder / name, metadata)
        self.best_is_new = False
        return model


def _epochs(number: int) -> str:
    return f"{number} epoch" if number == 1 else f"{number} epochs"


def _epochs_done(number: int) -> str:
    return f"{_epochs(number)} done"


def _copy(model: Potential) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
