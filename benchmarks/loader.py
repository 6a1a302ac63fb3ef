"""Share of the time of a training that is spent in the model, on one core, from memory and from shards.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/loader.py [--json FILE]

Inside the model: forward, backward, optimiser. Outside: reading, joining, rotating. Only the share is printed: it is
what the loader is judged by, and it hardly depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmace import Potential, PotentialConfig
from mmace.train import Configuration, TrainingConfig
from mmace.train.batches import Batch, prepare, sizes_of, training_batches
from mmace.train.loss import batch_loss
from mmace.train.sampling import epoch_batches
from mmace.train.shard_writer import write_shards

SIZES = {"small": {"num_layers": 1, "hidden": "64x0e"}, "tiny": {"num_layers": 1, "hidden": "16x0e", "l_pos": 2}}
ATOMS = (1, 2, 4)  # of the cells, a third each
R_MAX = 5.0


def cells(count: int, seed: int = 0) -> list[Configuration]:
    """Small rattled cells of iron with random moments and labels of the right shapes: the worst case for a loader."""
    generator = np.random.default_rng(seed)
    made = []
    for index in range(count):
        atoms = ATOMS[index % len(ATOMS)]
        cell = np.diag([2.3 * atoms, 2.3, 2.3]) + generator.normal(scale=0.05, size=(3, 3))
        positions = np.linspace(0, 1, atoms, endpoint=False)[:, None] * cell[0] + generator.normal(
            scale=0.05, size=(atoms, 3)
        )
        made.append(
            Configuration(
                np.full(atoms, 26),
                positions,
                cell,
                True,
                generator.normal(size=(atoms, 3)),
                energy=-8.0 * atoms + generator.normal(scale=0.01),
                forces=generator.normal(scale=0.1, size=(atoms, 3)),
                stress=np.diag(generator.normal(scale=0.01, size=3)),
                magnetic_forces=generator.normal(scale=0.1, size=(atoms, 3)),
                name=f"cell {index}",
            )
        )
    return made


def share_in_model(model: Potential, singles: Sequence[Batch], config: TrainingConfig, seconds: float) -> float:
    """Part of the wall time that is spent in forward, backward and optimiser, over at least ``seconds``."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True, fused=True)
    inside = 0.0
    epoch = 0
    began = time.perf_counter()
    while epoch == 0 or time.perf_counter() - began < seconds:
        plan = epoch_batches(sizes_of(singles), config, epoch)
        for batch in training_batches(singles, config, epoch, plan=plan):
            start = time.perf_counter()
            optimiser.zero_grad(set_to_none=True)
            batch_loss(model, batch, config).backward()
            optimiser.step()
            inside += time.perf_counter() - start
        epoch += 1
    return inside / (time.perf_counter() - began)


def measure(count: int, seconds: float) -> list[dict[str, Any]]:
    """The share for every size of model, way of filling batches, and place of the data."""
    torch.set_num_threads(1)
    data, rows = cells(count), []
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(data, Path(folder) / "shards", r_max=R_MAX, processes=1)
        for size, settings in SIZES.items():
            config = PotentialConfig(elements=["Fe"], r_max=R_MAX, m_max={"Fe": 4.0}, **settings)
            model = Potential(config)
            for filled, training in (
                ("structures", TrainingConfig(batch_size=8, rotate_jointly=True, rotate_moments=True)),
                ("edges", TrainingConfig(edges_per_batch=1500, rotate_jointly=True, rotate_moments=True)),
            ):
                for place, source in (("memory", data), ("shards", shards)):
                    singles = prepare(source, config.elements, R_MAX, config.torch_dtype)
                    share_in_model(model, singles[:16], training, 0.0)  # compiles and warms up
                    share = share_in_model(model, singles, training, seconds)
                    rows.append({"model": size, "batches by": filled, "data in": place, "share in model": share})
    return rows


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=int, default=300, help="of 1, 2 and 4 atoms")
    parser.add_argument("--seconds", type=float, default=10.0, help="per case")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    rows = measure(arguments.structures, arguments.seconds)
    print(f"{'model':8} {'batches by':12} {'data in':8} share of time in the model")
    for row in rows:
        print(f"{row['model']:8} {row['batches by']:12} {row['data in']:8} {100 * row['share in model']:.1f} %")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
