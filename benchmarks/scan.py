"""Cost of turning all moments rigidly, in single energies: 2000 rotations of a ten-atom cell.

    python benchmarks/scan.py [--rotations 2000] [--threads 1] [--json PATH] [--model trained.safetensors]

A single energy is one evaluation of the energy alone, without derivatives. Ratios of one run, calls in turn, of
processor time, which other work on the machine disturbs less than the clock on the wall. The error is the largest
difference from single evaluations, at twenty of the rotations, in parts of the energies' spread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk
from scipy.spatial.transform import Rotation

from mmace import Potential, PotentialConfig, build_graph, load
from mmace.graph import Graph
from mmace.spins.scan import rotation_energies

CONFIGS = {
    "small": {"num_layers": 1, "hidden": "64x0e", "r_max": 5.0, "l_mag": 1},
    "small, l_mag 3": {"num_layers": 1, "hidden": "64x0e", "r_max": 5.0, "l_mag": 3},
    "foundation": {"num_layers": 2, "hidden": "128x0e+128x1o", "r_max": 6.0, "l_mag": 1},
    "foundation, l_mag 3": {"num_layers": 2, "hidden": "128x0e+128x1o", "r_max": 6.0, "l_mag": 3},
}


def seconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def main() -> None:
    """Print, and write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotations", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", type=Path, help="a trained potential of Fe instead of random weights")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of measurements per case")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    atoms = bulk("Fe", cubic=True).repeat((5, 1, 1))
    atoms.rattle(0.05, seed=0)
    atoms.arrays.pop("initial_magmoms", None)
    vectors = np.random.default_rng(0).normal(size=(len(atoms), 3))
    states = {
        "collinear": np.tile([0.0, 0.0, 2.2], (len(atoms), 1)),
        "non-collinear": 2.2 * vectors / np.linalg.norm(vectors, axis=1)[:, None],
    }
    rotations = Rotation.random(arguments.rotations, random_state=0).as_matrix()
    rows = []
    print(
        f"{'config':19} {'moments':13} {'dtype':8} {'single ms':>9} {'scan ms':>9} {'ratio':>7} {'error':>8}",
        flush=True,
    )
    for name in ["trained"] if arguments.model else CONFIGS:
        for state, dtype in itertools.product(states, ("float32", "float64")):
            atoms.set_initial_magnetic_moments(states[state])
            if arguments.model:
                model = load(arguments.model)
                if model.config.dtype != dtype:
                    continue
            else:
                model = Potential(PotentialConfig(elements=["Fe"], dtype=dtype, **CONFIGS[name]))
            config = model.config
            graph = build_graph(atoms, config.elements, config.r_max, dtype=config.torch_dtype)

            def single(model: Potential = model, graph: Graph = graph) -> None:
                model(graph, forces=False, stress=False, magnetic_forces=False)

            def error(model: Potential = model, graph: Graph = graph, state: str = state) -> float:
                energies = rotation_energies(model, atoms, rotations)
                singles = [
                    float(
                        model(
                            graph.with_magmoms(torch.as_tensor(states[state] @ turn.T).to(graph.positions)),
                            forces=False, stress=False, magnetic_forces=False,
                        )["energy"]
                    )
                    for turn in rotations[-20:]
                ]  # fmt: skip
                return float(np.abs(energies[-20:] - singles).max() / np.ptp(energies))

            single()
            worst = error()
            pairs = [
                (statistics.median(seconds(single) for _ in range(20)),
                 seconds(lambda model=model: rotation_energies(model, atoms, rotations)))
                for _ in range(arguments.repeats)
            ]  # fmt: skip
            one, scan = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            row = {"config": name, "moments": state, "dtype": dtype, "single": one, "scan": scan, "ratio": ratio}
            rows.append({**row, "error": worst})
            print(
                f"{name:19} {state:13} {dtype:8} {1e3 * one:9.2f} {1e3 * scan:9.1f} {ratio:7.1f} {worst:8.1e}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps({"rotations": arguments.rotations, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
