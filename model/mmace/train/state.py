"""The state of a training run on disk: everything that a continuation needs to give the same weights."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmace.checkpoint import model_hash, write_atomically
from mmace.config import PotentialConfig
from mmace.errors import UserError
from mmace.potential import Potential
from mmace.train.config import TrainingConfig
from mmace.train.configuration import Configuration
from mmace.train.optimise import Progress

STATE = "state.pt"
SETTINGS = "settings.json"
METRICS = "metrics.jsonl"
MODEL = "model.safetensors"
STAGE_MODELS = "model-stage-*.safetensors"  # the best of each stage but the last, counted from 1
FILES = (STATE, SETTINGS, METRICS, MODEL)

VERSION = 1


@dataclass
class TrainingState:
    """Where a run stands. Random numbers need no state: they follow from seed, epoch and step."""

    epoch: int = 0  # epochs that are done
    step: int = 0  # steps of the next epoch that are done
    seconds: float = 0.0  # spent so far, over all continuations
    steps_done: int | None = 0  # optimiser steps of all epochs; None: in a state written before they were counted
    loss_sum: float = 0.0  # Σ of the losses of the steps of the unfinished epoch
    progress: Progress = field(default_factory=Progress)
    history: list[dict[str, Any]] = field(default_factory=list)  # one line per epoch
    finished: str | None = None  # why the run is over
    tensors: dict[str, Any] = field(default_factory=dict)  # model, average, optimiser, best

    def numbers(self) -> dict[str, Any]:
        """All but the tensors, as plain values."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "steps_done": self.steps_done,
            "loss_sum": self.loss_sum,
            "progress": self.progress.to_dict(),
            "history": self.history,
            "finished": self.finished,
        }


def save_state(state: TrainingState, folder: Path) -> None:
    """Writes the state whole or not at all. Raises `UserError` if the disk is full; the state before is then intact."""
    buffer = io.BytesIO()
    torch.save({"version": VERSION, "numbers": json.dumps(state.numbers()), "tensors": state.tensors}, buffer)
    write_atomically(folder / STATE, buffer.getvalue())


def read_state(folder: Path) -> bytes | None:
    """The state's file, or None where none has been written. Raises `UserError` if it cannot be read."""
    path = folder / STATE
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a readable folder") from error


def state_from(written: bytes, path: Path) -> TrainingState:
    """The state from the bytes of its file ``path``. Raises `UserError` for a damaged file."""
    try:
        data = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
        if data["version"] != VERSION:
            raise UserError(
                f"{path}: written by another version of mmace; train into another folder or replace it (--overwrite)"
            )
        numbers = {"steps_done": None, **json.loads(data["numbers"])}
        progress = Progress(**numbers.pop("progress"))
        return TrainingState(**numbers, progress=progress, tensors=data["tensors"])
    except UserError:
        raise
    except Exception as error:  # a damaged archive shows itself in many kinds of exceptions
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}); train into another folder or replace it (--overwrite)"
        ) from error


def load_state(folder: Path) -> TrainingState | None:
    """The state in ``folder``, or None where none has been written. Raises `UserError` for a damaged file."""
    written = read_state(folder)
    return None if written is None else state_from(written, folder / STATE)


def data_hash(configurations: Iterable[Configuration]) -> str:
    """Hash of structures, moments, labels and weights, in their order; names do not count. Shards know their own."""
    known = getattr(configurations, "content_hash", None)
    if known is not None:
        return str(known)
    digest = hashlib.sha256()
    for configuration in configurations:
        for name in ("numbers", "positions", "cell", "pbc", "magmoms", "energy", "forces", "stress", "magnetic_forces"):
            value = getattr(configuration, name)
            digest.update(name.encode() if value is None else np.ascontiguousarray(value).tobytes())
        if configuration.directions is not None and configuration.anisotropy is not None:
            digest.update(b"directions" + configuration.directions.tobytes() + configuration.anisotropy.tobytes())
        digest.update(np.float64(configuration.weight).tobytes())
        if configuration.head is not None:
            digest.update(b"head" + configuration.head.encode())
    return digest.hexdigest()[:32]


def run_settings(
    potential: PotentialConfig,
    training: TrainingConfig,
    train_configurations: Iterable[Configuration],
    valid_configurations: Iterable[Configuration],
    initial_model: Potential | None,
) -> dict[str, Any]:
    """What makes a run this run and no other; a continuation must agree in all of it."""
    return {
        "version": VERSION,
        "potential": potential.to_dict(),
        "training": training.identity(),
        "training data": data_hash(train_configurations),
        "validation data": data_hash(valid_configurations),
        "initial model": model_hash(initial_model) if initial_model is not None else None,
    }


def claim_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Makes ``folder`` the home of the run with ``settings``; to be called with the folder locked.

    A run that failed before it wrote a state or a model has nothing to lose: its folder is taken over.
    Raises `UserError`, naming the difference, if another run lives there and ``overwrite`` is False.
    """
    for leftover in (path for name in FILES for path in folder.glob(f".{name}.*")):
        leftover.unlink(missing_ok=True)  # of a writer that was killed
    settings = _plain(settings)  # tuples become lists, as they come back from the file
    there = [name for name in FILES if (folder / name).exists()]
    stages = [path.name for path in folder.glob(STAGE_MODELS)]
    failed = STATE not in there and MODEL not in there and _is_settings(folder / SETTINGS)
    if overwrite or failed:
        for name in (*there, *stages):
            (folder / name).unlink()
    elif there:
        _agree(folder, settings, there)
        return
    write_atomically(folder / SETTINGS, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings))


def _is_settings(path: Path) -> bool:
    """Is this file one that a training wrote? Others of the same name are not ours to replace."""
    try:
        return "training data" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _agree(folder: Path, settings: dict[str, Any], there: list[str]) -> None:
    mend = "choose another output folder, or replace the run there (--overwrite)"
    try:
        old = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder}: holds {there[0]} of an unknown run; {mend}") from None
    # settings that did not exist when the run began had the values they now have by default
    old["training"] = {**_plain(TrainingConfig().to_dict()), **old.get("training", {})}
    old["training"] = {name: value for name, value in old["training"].items() if name in settings["training"]}
    differences = _differences(old, settings)
    if differences:
        raise UserError(f"{folder}: holds a run with other {', '.join(differences)}; {mend}")


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names: list[str] = []
    for key in new:
        before, now = old.get(key), new[key]
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
            names.extend(
                f"{key} setting {name} ({_brief(before.get(name))} there, {_brief(now.get(name))} now)"
                for name in changed
            )
        else:
            names.append(key)
    return names


def _brief(value: Any) -> str:
    """A setting in a message: curves and the like are hundreds of numbers."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
