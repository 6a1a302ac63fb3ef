"""Cost of turning all moments rigidly, in single energies: 2000 rotations of a ten-atom cell.

    python benchmarks/scan.py [--rotations 2000] [--threads 1] [--json PATH]

A single energy is one evaluation of the energy alone, without derivatives. Ratios of one run, calls in turn.
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

from mmace import Potential, PotentialConfig, build_graph
from mmace.spins.scan import rotation_energies

CONFIGS = {
    "small": {"num_layers": 1, "hidden": "64x0e", "r_max": 5.0, "l_mag": 1},
    "Fe": {"num_layers": 1, "hidden": "64x0e", "r_max": 4.5, "l_mag": 3},
    "foundation": {"num_layers": 2, "hidden": "128x0e+128x1o", "r_max": 6.0, "l_mag": 1},
}


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    """Print, and write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotations", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
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
        f"{'config':11} {'moments':13} {'dtype':8} {'single ms':>9} {'scan ms':>9} {'scan in single energies':>24}",
        flush=True,
    )
    for name, settings in CONFIGS.items():
        for state, dtype in itertools.product(states, ("float32", "float64")):
            atoms.set_initial_magnetic_moments(states[state])
            config = PotentialConfig(elements=["Fe"], dtype=dtype, **settings)
            model, graph = Potential(config), build_graph(atoms, ["Fe"], config.r_max, dtype=config.torch_dtype)

            def single(model: Potential = model, graph: object = graph) -> None:
                model(graph, forces=False, stress=False, magnetic_forces=False)

            single()
            pairs = [
                (statistics.median(seconds(single) for _ in range(20)),
                 seconds(lambda model=model: rotation_energies(model, atoms, rotations)))
                for _ in range(3)
            ]  # fmt: skip
            one, scan = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            rows.append({"config": name, "moments": state, "dtype": dtype, "single": one, "scan": scan, "ratio": ratio})
            print(f"{name:11} {state:13} {dtype:8} {1e3 * one:9.2f} {1e3 * scan:9.1f} {ratio:24.1f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rotations": arguments.rotations, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
