"""Training: from labelled configurations to a checkpoint, in steps that survive a kill."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from mmace.config import PotentialConfig
from mmace.errors import UserError
from mmace.potential import Potential
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.distributed import join_processes
from mmace.train.files import DISK_FULL, locked
from mmace.train.gathered import Joined, has_directions, has_energies
from mmace.train.heads import by_head, with_heads_of_data
from mmace.train.initialise import with_moment_range
from mmace.train.reading import check_elements, check_moments
from mmace.train.run import NOTHING_WRITTEN, ProgressCallback, Run, TrainingResult
from mmace.train.shards import check_cutoff
from mmace.train.state import STATE, claim_folder, run_settings
from mmace.train.tensorboard import TensorBoardLog, both, require_tensorboard

logger = logging.getLogger("mmace")


def train(
    potential_config: PotentialConfig | None,
    training_config: TrainingConfig,
    train_configurations: Sequence[Configuration],
    valid_configurations: Sequence[Configuration],
    output_dir: str | Path,
    initial_model: Potential | None = None,
    progress: ProgressCallback | None = None,
    *,
    overwrite: bool = False,
    tensorboard: bool = False,
) -> TrainingResult:
    """Trains a potential, or goes on where ``output_dir`` has the state of the same training.

    Without ``initial_model`` a new model is made: m_max (where not given), E0, energy scale and average number of
    neighbours come from the training data. With it, training starts from its weights and keeps its E0 (unless
    ``atomic_energies`` says otherwise), scale and m_max; ``potential_config`` may then be None. Without validation
    configurations the training configurations take their place.

    ``output_dir`` gets settings.json, metrics.jsonl (a line per epoch), state.pt and model.safetensors (the best so
    far). ``progress`` is called with the same numbers after each epoch. Stopped at any moment, by kill -9 too, and
    started again with the same arguments, it ends with the weights of an unbroken run. Ctrl-C and SIGTERM wait for the
    end of the step, and the state is written before they take effect: KeyboardInterrupt then says where it stopped.
    ``tensorboard`` writes the same numbers into the folder tensorboard there.

    Of the processes that torchrun has started, all call this with the same arguments and get the same result; the
    first one writes and calls ``progress``. The data may be shards (`mmace.train.shards.open_shards`).

    Raises `UserError` for unknown elements, no energies, a folder that holds another run (unless ``overwrite``) or is
    in use, a full disk, a loss that is not finite.
    """
    config = training_config
    folder = Path(output_dir)
    processes = join_processes(config.device)
    if not valid_configurations:
        logger.warning("no validation configurations: the training configurations take their place")
        valid_configurations = train_configurations
    with processes.together():
        potential_config = _checked(
            potential_config, config, train_configurations, valid_configurations, initial_model, tensorboard
        )
        settings = run_settings(potential_config, config, train_configurations, valid_configurations, initial_model)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(config.num_threads or threads)
        with contextlib.ExitStack() as held:
            with processes.together():
                if processes.leads:  # the one process that writes
                    held.enter_context(locked(folder))
                    claim_folder(folder, settings, overwrite)
            data = (train_configurations, valid_configurations)
            run = Run(potential_config, config, *data, folder, initial_model, processes)
            if not tensorboard or not processes.leads:
                return run.finish(progress)
            with contextlib.closing(TensorBoardLog(folder, run.state.history)) as log:
                return run.finish(both(log, progress))
    except KeyboardInterrupt as stop:
        if stop.args:
            raise
        there = "stopped; the same command goes on from the last written state"
        raise KeyboardInterrupt(there if (folder / STATE).exists() else NOTHING_WRITTEN) from None
    except UserError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FULL:
            raise UserError(
                f"{error}; free some space and start the same training again: it goes on from there"
            ) from error
        raise
    finally:
        torch.set_num_threads(threads)


def _checked(
    potential_config: PotentialConfig | None,
    config: TrainingConfig,
    train_configurations: Sequence[Configuration],
    valid_configurations: Sequence[Configuration],
    initial_model: Potential | None,
    tensorboard: bool,
) -> PotentialConfig:
    """The potential's settings, completed from the data. Raises `UserError` for what cannot be trained."""
    everything = Joined(train_configurations, valid_configurations)
    potential_config = _potential_config(potential_config, initial_model, train_configurations, everything)
    for part in everything.parts:
        check_elements(part, potential_config.elements)
        check_cutoff(part, potential_config.r_max)
        by_head(part, potential_config.heads)  # refuses unknown heads
    m_max = {element: potential_config.m_max_of(element) for element in potential_config.elements}
    check_moments(everything, m_max)
    turned = has_directions(train_configurations)
    if not (turned or has_energies(train_configurations)):
        raise UserError("training: no configuration has an energy; label at least one")
    if turned and potential_config.anisotropy is None and potential_config.symmetry not in ("soc", "paper"):
        raise UserError(
            f"training: the data have energies of directions, which mean nothing to symmetry = "
            f"{potential_config.symmetry}; give soc, or an anisotropy part"
        )
    late = [stage.start for stage in config.stages if stage.start >= config.epochs]
    if late:
        logger.warning("stages: the one after %d epochs never begins: the training has %d", late[0], config.epochs)
    if tensorboard:
        require_tensorboard()
    if config.atomic_energies == "shift" and initial_model is None:
        raise UserError("training: atomic_energies is 'shift', which needs a model to start from; give least_squares")
    return potential_config


def _potential_config(
    config: PotentialConfig | None,
    initial_model: Potential | None,
    configurations: Sequence[Configuration],
    everything: Sequence[Configuration],
) -> PotentialConfig:
    if initial_model is None:
        if config is None:
            raise UserError("training: neither a potential's settings nor a model to start from; give one of them")
        return with_moment_range(with_heads_of_data(config, everything), configurations)
    if config is not None:
        given, there = config.to_dict(), initial_model.config.to_dict()
        for name in sorted(given.keys() - {"m_max", "seed"}):
            if given[name] != there.get(name):
                raise UserError(
                    f"training: the model to start from has {name} = {there.get(name)!r}, the settings ask for "
                    f"{given[name]!r}; leave the setting out or start a new model"
                )
    return initial_model.config
