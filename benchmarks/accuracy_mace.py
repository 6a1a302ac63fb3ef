"""Trains plain mace-torch on the structures of one case. Started by `accuracy.py` in mace-torch's environment.

Same structures, loss, weights, optimiser, schedule, moving average and choice of the kept weights as on the other side
(`mmace.train`). Moments do not exist here. Goes on after a kill from the state beside the request.

    python accuracy_mace.py REQUEST.json      # writes predictions.npz beside it; a JSON line per report on stdout
"""

from __future__ import annotations

import copy
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn 0.4.4, which mace-torch pins, ships pickled constants

import ase.io
import numpy as np
import torch
from mace import data, tools
from mace.tools import torch_geometric
from mace_model import scale_shift_mace

del os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"]

REPORT_SECONDS = 20.0
STATE_SECONDS = 60.0


class Structures:
    """Graphs of mace-torch with labels beside them."""

    def __init__(self, file: str, indices: list[int], table: Any, r_max: float, dtype: torch.dtype) -> None:
        frames = ase.io.read(file, index=":")
        self.items, self.labels = [], []
        for index in indices:
            atoms = frames[index]
            forces = atoms.arrays.get("REF_forces")
            stress = atoms.info.get("REF_stress")
            self.labels.append(
                {
                    "energy": torch.tensor([atoms.info["REF_energy"]], dtype=dtype),
                    "forces": None if forces is None else torch.tensor(forces, dtype=dtype),
                    "stress": None if stress is None else torch.tensor(np.reshape(stress, (1, 3, 3)), dtype=dtype),
                }
            )
            atoms.calc = None
            config = data.config_from_atoms(atoms)
            self.items.append(data.AtomicData.from_config(config, z_table=table, cutoff=r_max))

    def batch(self, chosen: list[int]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Inputs of the model and the labels of these structures."""
        joined = torch_geometric.Batch.from_data_list([self.items[index] for index in chosen])
        return joined.to_dict(), [self.labels[index] for index in chosen]

    @property
    def average_neighbors(self) -> float:
        """Mean number of edges per atom."""
        edges = sum(item.edge_index.shape[1] for item in self.items)
        return edges / sum(len(item.node_attrs) for item in self.items)


def build(request: dict[str, Any], average: float) -> torch.nn.Module:
    """Plain MACE with the sizes of the other side."""
    torch.manual_seed(request["seed"])
    return scale_shift_mace(request, request["numbers"], request["atomic_energies"], average, request["scale"])


def loss_of(model: Any, inputs: dict[str, Any], labels: list[dict[str, Any]], weights: dict[str, float], train: bool):
    """As `mmace.train.loss`: energy per atom and stress per structure, forces per atom, means over components."""
    stress = any(label["stress"] is not None for label in labels) and weights["stress"] > 0
    out = model(inputs, training=train, compute_force=weights["forces"] > 0, compute_stress=stress)
    sizes = (inputs["ptr"][1:] - inputs["ptr"][:-1]).tolist()
    count = torch.tensor(sizes, dtype=out["energy"].dtype)
    error = (out["energy"] - torch.cat([label["energy"] for label in labels])) / count
    total = weights["energy"] * error.square().mean()
    if weights["forces"] > 0:
        parts = zip(out["forces"].split(sizes), labels, strict=True)
        squares = [
            (own - label["forces"]).square().mean(1).sum() for own, label in parts if label["forces"] is not None
        ]
        if squares:
            total = total + weights["forces"] * sum(squares) / sum(sizes)
    if stress:
        parts = zip(out["stress"], labels, strict=True)
        squares = [(own - label["stress"][0]).square().mean() for own, label in parts if label["stress"] is not None]
        total = total + weights["stress"] * sum(squares) / len(labels)
    return total


class Training:
    """Steps, moving average, best weights, states."""

    def __init__(self, request: dict[str, Any], folder: Path) -> None:
        self.request, self.folder = request, folder
        dtype = getattr(torch, request["dtype"])
        torch.set_default_dtype(dtype)
        torch.set_num_threads(request["threads"])
        table = tools.AtomicNumberTable(request["numbers"])
        self.train = Structures(request["train_file"], request["train_indices"], table, request["r_max"], dtype)
        self.test = Structures(request["test_file"], request["test_indices"], table, request["r_max"], dtype)
        self.model = build(request, self.train.average_neighbors)
        self.average = copy.deepcopy(self.model)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=request["learning_rate"], amsgrad=True)
        size = request["batch_size"]
        self.steps = -(-len(self.train.items) // size)
        self.epochs = request["epochs"] or self._epochs_of(request["minutes"])
        self.done, self.seconds, self.best_loss = 0, 0.0, math.inf
        self.best = copy.deepcopy(self.average.state_dict())
        if (folder / "state.pt").exists():
            self._restore()

    def _epochs_of(self, minutes: float) -> int:
        """Epochs for which the time will be enough, from a few steps, as `accuracy.py` estimates them too."""
        plan = self.folder / "plan.json"
        if plan.exists():
            return int(json.loads(plan.read_text())["epochs"])
        trial, atoms, spent = copy.deepcopy(self.model), 0, 0.0
        for number, chosen in enumerate(self.request["sample"]):
            begin = time.process_time()
            loss_of(trial, *self.train.batch(chosen), self.request["weights"], True).backward()
            if number >= self.request["warm_up"]:
                spent += time.process_time() - begin
                atoms += sum(len(self.train.items[index].node_attrs) for index in chosen)
        per_epoch = spent / atoms * sum(len(item.node_attrs) for item in self.train.items)
        epochs = max(1, round(60 * minutes / per_epoch))
        plan.write_text(json.dumps({"epochs": epochs}))
        return epochs

    def _rate(self) -> float:
        first, lowest = self.request["learning_rate"], self.request["minimum_learning_rate"]
        return lowest + 0.5 * (first - lowest) * (1.0 + math.cos(math.pi * self.done / (self.epochs * self.steps)))

    def run(self) -> None:
        """All that is left of the training."""
        said = written = begin = time.monotonic()
        before = self.seconds
        every = max(1, self.epochs // self.request["validations"])
        while self.done < self.epochs * self.steps:
            epoch, step = divmod(self.done, self.steps)
            order = np.random.default_rng([self.request["seed"], epoch]).permutation(len(self.train.items))
            size = self.request["batch_size"]
            self._step(order[step * size : (step + 1) * size].tolist())
            self.seconds = before + time.monotonic() - begin
            if self.done % (every * self.steps) == 0 or self.done == self.epochs * self.steps:
                self._keep_best()
            if time.monotonic() - said > REPORT_SECONDS:
                said = time.monotonic()
                print(json.dumps({"done": self.done / self.steps / self.epochs, "seconds": self.seconds}), flush=True)
            if time.monotonic() - written > STATE_SECONDS:
                written = time.monotonic()
                self._write()
        self._write()

    def _step(self, chosen: list[int]) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss = loss_of(self.model, *self.train.batch(chosen), self.request["weights"], True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.request["clip"])
        if not math.isfinite(float(loss)):
            raise SystemExit("the loss is not finite")
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self.optimiser.step()
        self.done += 1
        decay = min(self.request["ema_decay"], (1 + self.done) / (10 + self.done))
        with torch.no_grad():
            for mean, parameter in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(parameter, 1.0 - decay)

    def _keep_best(self) -> None:
        monitor = self.request["monitor"]
        size = self.request["batch_size"]
        total = 0.0
        for start in range(0, len(monitor), size):
            chosen = monitor[start : start + size]
            loss = loss_of(self.average, *self.train.batch(chosen), self.request["weights"], False)
            total += float(loss) * len(chosen)
        if total < self.best_loss:
            self.best_loss, self.best = total, copy.deepcopy(self.average.state_dict())

    def _write(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "numbers": [self.done, self.seconds, self.best_loss],
        }
        temporary = self.folder / ".state.part"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "state.pt")

    def _restore(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = state["best"]
        self.done, self.seconds, self.best_loss = int(state["numbers"][0]), *state["numbers"][1:]

    def predict(self) -> None:
        """Predictions of the best weights for the test structures, into predictions.npz."""
        self.average.load_state_dict(self.best)
        energies, forces, stresses = [], [], []
        size = 16
        for start in range(0, len(self.test.items), size):
            chosen = list(range(start, min(start + size, len(self.test.items))))
            out = self.average(self.test.batch(chosen)[0], compute_force=True, compute_stress=True)
            energies.append(out["energy"].detach().double().numpy())
            forces.append(out["forces"].detach().double().numpy())
            stresses.append(out["stress"].detach().double().numpy())
        arrays = {"energy": energies, "forces": forces, "stress": stresses}
        temporary = self.folder / ".predictions.npz"
        joined = {name: np.concatenate(values) for name, values in arrays.items()}
        np.savez(temporary, **joined, seconds=self.seconds, epochs=self.epochs)
        os.replace(temporary, self.folder / "predictions.npz")


def main() -> None:
    """Train and predict."""
    request = json.loads(Path(sys.argv[1]).read_text())
    training = Training(request, Path(sys.argv[1]).resolve().parent)
    training.run()
    training.predict()


if __name__ == "__main__":
    main()
