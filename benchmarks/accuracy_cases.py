"""One case of the accuracy benchmark: a model, a data set, a number of structures, a seed; trained and judged."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy_data import DATA_SETS, Split, label_spread, magnetic_slope

from mmace import Potential, PotentialConfig, build_graph
from mmace.checkpoint import write_atomically
from mmace.errors import UserError
from mmace.train import Configuration, TrainingConfig, errors_of, predict, train
from mmace.train.atomic_energies import fit_atomic_energies
from mmace.train.evaluate import Prediction

HERE = Path(__file__).resolve().parent
MONITOR = 32  # training structures whose loss picks the weights that are kept: no test structure takes part
VALIDATIONS = 20  # times that this is done
WARM_UP = 4  # TorchScript, in mace-torch, compiles during the first calls
Report = Callable[[float, float, str], None]  # fraction done, seconds so far, what to say


@dataclass(frozen=True)
class Budget:
    """What every model of a comparison gets: passes over the data, optimiser steps, or minutes of one core."""

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None

    def __str__(self) -> str:
        if self.minutes is not None:
            return f"{self.minutes:g} min each"
        return f"{self.steps} steps each" if self.steps is not None else f"{self.epochs} epochs each"

    def epochs_for(self, structures: int, batch_size: int) -> int | None:
        """Epochs, where they follow from the numbers alone."""
        if self.steps is not None:
            return max(1, -(-self.steps // -(-structures // batch_size)))
        return self.epochs


@dataclass(frozen=True)
class Settings:
    """What all cases of a run share."""

    budget: Budget
    hidden: str = "64x0e"
    num_layers: int = 1
    r_max: float | None = None  # Å; None: of the data set
    l_mag: int = 3
    l_mag_nonsoc: int = 1
    dtype: str = "float32"
    batch_size: int = 8
    learning_rate: float = 0.005
    threads: int = 1
    rotate: bool = True  # turn all moments at random for soc and paper: the data are without spin–orbit coupling
    magnetic_scale: float | None = None  # of magnetic-force labels; None: of the data set
    magnetic_forces: bool = True  # train on them


@dataclass(frozen=True)
class Case:
    """What makes a case this case."""

    data: str
    model: str  # soc, nonsoc, paper, none, mace, labels
    count: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.data}-{self.model}-n{self.count}-s{self.seed}"


def run_case(
    case: Case, split: Split, settings: Settings, folder: Path, mace: Path | None, report: Report
) -> dict[str, Any]:
    """Trains (or goes on, or reads what is finished) and returns the result. Raises UserError for a folder with a case
    of other settings."""
    own = json.loads(
        json.dumps({"case": asdict(case), "settings": asdict(settings), "structures": split.train_indices})
    )
    done, request = folder / "result.json", folder / "case.json"
    if request.exists() and json.loads(request.read_text()) != own:
        raise UserError(f"{folder}: holds this case with other settings; choose another --output")
    if done.exists():
        return json.loads(done.read_text())
    write_atomically(request, json.dumps(own).encode())
    seconds, epochs = 0.0, None
    if case.model == "labels":
        predictions = label_spread(split.train, split.test)
    elif case.model == "mace":
        assert mace is not None
        predictions, seconds, epochs = _mace(case, split, settings, folder, mace, report)
    else:
        predictions, seconds, epochs = _ours(case, split, settings, folder, report)
    result = {
        **asdict(case),
        "budget": str(settings.budget),
        "epochs": epochs,
        "seconds": seconds,
        "settings": asdict(settings),
        "errors": errors_of(predictions, split.test),
        "magnetic_slope": magnetic_slope(predictions, split.test)
        if case.model not in ("none", "mace", "labels")
        else None,
    }
    write_atomically(done, (json.dumps(result, indent=1) + "\n").encode())
    return result


def _potential(case: Case, settings: Settings) -> PotentialConfig:
    data = DATA_SETS[case.data]
    return PotentialConfig(
        elements=list(data.elements),
        symmetry=case.model,
        r_max=settings.r_max or data.r_max,
        num_layers=settings.num_layers,
        hidden=settings.hidden,
        l_pos=3,
        l_mag=settings.l_mag_nonsoc if case.model == "nonsoc" else settings.l_mag,
        m_max=data.m_max,
        seed=case.seed,
        dtype=settings.dtype,
    )


def _training(case: Case, split: Split, settings: Settings, epochs: int) -> TrainingConfig:
    weights = {} if settings.magnetic_forces else {"magnetic_forces": 0.0}
    return TrainingConfig(
        epochs=epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule="cosine",
        weights=weights,
        rotate_moments=settings.rotate and case.model in ("soc", "paper"),
        validate_every=max(1, epochs // VALIDATIONS),
        num_threads=settings.threads,
        seed=case.seed,
        device="cpu",
    )


def monitor_of(count: int) -> list[int]:
    """Training structures, evenly taken, whose loss picks the weights that are kept."""
    return sorted(set(np.linspace(0, count - 1, min(count, MONITOR)).round().astype(int).tolist()))


def sample_of(case: Case, split: Split, batch_size: int) -> list[list[int]]:
    """Batches that epochs are timed with; the first WARM_UP are not counted."""
    order = np.random.default_rng([case.seed, 7]).permutation(len(split.train))[: 6 * batch_size].tolist()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[0]] * WARM_UP + batches


def _ours(case: Case, split: Split, settings: Settings, folder: Path, report: Report) -> tuple[list[Any], float, int]:
    torch.set_num_threads(settings.threads)
    config = _potential(case, settings)
    epochs = settings.budget.epochs_for(len(split.train), settings.batch_size)
    plan = folder / "plan.json"
    if epochs is None:
        assert settings.budget.minutes is not None
        if not plan.exists():
            per_epoch = _seconds_per_epoch(config, sample_of(case, split, settings.batch_size), split.train)
            wanted = max(1, round(60 * settings.budget.minutes / per_epoch))
            write_atomically(plan, json.dumps({"epochs": wanted}).encode())
        epochs = int(json.loads(plan.read_text())["epochs"])

    def progress(event: dict[str, Any]) -> None:
        parts = [f"E {1000 * event['energy_rmse']:.3g} meV/atom"]
        parts += [f"F {1000 * event['forces_rmse']:.3g} meV/Å"] if event["forces_rmse"] is not None else []
        report(event["epoch"] / event["epochs"], event["seconds"], f"epoch {event['epoch']}, " + ", ".join(parts))

    monitor = [split.train[index] for index in monitor_of(len(split.train))]
    training = _training(case, split, settings, epochs)
    result = train(config, training, split.train, monitor, folder / "training", progress=progress)
    return predict(result.model, split.test), result.seconds, epochs


def _seconds_per_epoch(
    config: PotentialConfig, batches: list[list[int]], configurations: list[Configuration]
) -> float:  # fmt: skip
    """CPU seconds that one pass over all configurations takes, from a few steps."""
    model = Potential(config)
    spent, atoms = 0.0, 0
    for number, chosen in enumerate(batches):
        structures = [configurations[index].to_atoms() for index in chosen]
        graph = build_graph(structures, config.elements, config.r_max, dtype=config.torch_dtype)
        begin = time.process_time()
        has_labels = any(configuration.magnetic_forces is not None for configuration in configurations)
        magnetic = config.rules.magnetic and has_labels
        stress = any(configuration.stress is not None for configuration in configurations)
        out = model(graph, stress=stress, magnetic_forces=magnetic, create_graph=True)
        names = ["energy", "forces", *(["stress"] if stress else []), *(["magnetic_forces"] if magnetic else [])]
        torch.stack([out[name].square().sum() for name in names]).sum().backward()
        if number >= WARM_UP:
            spent += time.process_time() - begin
            atoms += len(graph.positions)
    return spent / atoms * sum(len(configuration) for configuration in configurations)


def _mace(
    case: Case, split: Split, settings: Settings, folder: Path, python: Path, report: Report
) -> tuple[list[Any], float, int]:
    """The same with mace-torch, in its own environment."""
    from ase.data import atomic_numbers

    data = DATA_SETS[case.data]
    energies = fit_atomic_energies(split.train)
    forces = [configuration.forces for configuration in split.train if configuration.forces is not None]
    training = _training(case, split, settings, 1)
    request = {
        "train_file": str(split.train_file),
        "test_file": str(split.test_file),
        "train_indices": split.train_indices,
        "test_indices": split.test_indices,
        "numbers": sorted(atomic_numbers[element] for element in data.elements),
        "atomic_energies": [energies[e] for e in sorted(data.elements, key=lambda e: atomic_numbers[e])],
        "scale": float(np.sqrt(np.mean(np.square(np.concatenate(forces))))),
        "r_max": settings.r_max or data.r_max,
        "hidden": settings.hidden,
        "num_layers": settings.num_layers,
        "dtype": settings.dtype,
        "threads": settings.threads,
        "seed": case.seed,
        "epochs": settings.budget.epochs_for(len(split.train), settings.batch_size),
        "minutes": settings.budget.minutes,
        "warm_up": WARM_UP,
        "sample": sample_of(case, split, settings.batch_size),
        "monitor": monitor_of(len(split.train)),
        "validations": VALIDATIONS,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "minimum_learning_rate": training.minimum_learning_rate,
        "ema_decay": training.ema_decay,
        "clip": training.clip,
        "weights": training.weights,
    }
    path = folder / "request.json"
    write_atomically(path, json.dumps(request).encode())
    worker = subprocess.Popen(
        [str(python), "-W", "ignore", str(HERE / "accuracy_mace.py"), str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith("{"):
                event = json.loads(line)
                report(event["done"], event["seconds"], f"{100 * event['done']:.0f} %")
        if worker.wait() != 0:
            raise RuntimeError("mace-torch ended early; its message stands above")
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    with np.load(folder / "predictions.npz", allow_pickle=False) as found:
        sizes = np.cumsum([len(configuration) for configuration in split.test])[:-1]
        parts = zip(found["energy"], np.split(found["forces"], sizes), found["stress"], strict=True)
        predictions = [Prediction(float(e), f, s, np.zeros_like(f)) for e, f, s in parts]
        return predictions, float(found["seconds"]), int(found["epochs"])
