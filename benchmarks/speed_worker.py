"""One side of the speed comparison: builds models and times single calls on request.

Started by `speed.py`, once in the project's environment and once in that of mace-torch. Reads one JSON request a line
and answers with one JSON line, so that the two sides can be timed in turn.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn 0.4.4, which mace-torch pins, ships pickled constants

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

SIZES: dict[str, dict[str, Any]] = {
    "small": {"num_layers": 1, "hidden": "64x0e", "r_max": 5.0, "l_mag": 1},
    "foundation": {"num_layers": 2, "hidden": "128x0e+128x1o", "r_max": 6.0, "l_mag": 1},
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def iron(n_atoms: int, seed: int = 0) -> Atoms:
    """A rattled bcc supercell of about n_atoms with random moments of 2.2 μB; exactly n_atoms where 2n³ can be."""
    repeat = round((n_atoms / 2) ** (1 / 3))
    atoms = bulk("Fe", cubic=True).repeat((2, 1, 1) if n_atoms == 4 else repeat)
    atoms.arrays.pop("initial_magmoms", None)
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    moments = rng.normal(size=(len(atoms), 3))
    atoms.set_initial_magnetic_moments(2.2 * moments / np.linalg.norm(moments, axis=1)[:, None])
    return atoms


def structures(task: str, n_atoms: int) -> list[Atoms]:
    """What one call works on."""
    return [iron(4, seed) for seed in range(8)] if task == "train" else [iron(n_atoms)]


def mmace_call(case: dict[str, Any], device: str) -> Callable[[], None]:
    """The project's own potential."""
    from mmace import Potential, PotentialConfig, build_graph

    config = PotentialConfig(
        elements=["Fe"], symmetry=case["symmetry"], dtype=case["dtype"], m_max={"Fe": 4.0}, **SIZES[case["config"]]
    )
    model = Potential(config).to(device)
    graph = build_graph(structures(case["task"], case["n_atoms"]), ["Fe"], config.r_max, dtype=config.torch_dtype)
    graph = graph.to(device=device)
    magnetic = case["symmetry"] != "none"
    if case["task"] == "evaluate":
        return lambda: model(graph, magnetic_forces=magnetic)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, amsgrad=True, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        out = model(graph, magnetic_forces=magnetic, create_graph=True)
        names = ["energy", "forces", "stress"] + (["magnetic_forces"] if magnetic else [])
        sum((out[name] ** 2).sum() for name in names).backward()
        optimizer.step()

    return step


def mace_call(case: dict[str, Any], device: str) -> Callable[[], None]:
    """Plain mace-torch at equal sizes: energy, forces, stress."""
    from mace import data, tools
    from mace.tools import torch_geometric
    from mace_model import scale_shift_mace

    size = SIZES[case["config"]]
    dtype = DTYPES[case["dtype"]]
    torch.set_default_dtype(dtype)
    model = scale_shift_mace(size, [26], [0.0], 60.0, 1.0).to(device)
    table = tools.AtomicNumberTable([26])
    items = []
    for atoms in structures(case["task"], case["n_atoms"]):
        atoms.arrays.pop("initial_magmoms", None)
        config = data.config_from_atoms(atoms)
        items.append(data.AtomicData.from_config(config, z_table=table, cutoff=size["r_max"]))
    loader = torch_geometric.dataloader.DataLoader(items, batch_size=len(items), shuffle=False)
    batch = next(iter(loader)).to(device).to_dict()
    if case["task"] == "evaluate":
        return lambda: model(dict(batch), compute_force=True, compute_stress=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, amsgrad=True, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        out = model(dict(batch), training=True, compute_force=True, compute_stress=True)
        sum((out[name] ** 2).sum() for name in ("energy", "forces", "stress")).backward()
        optimizer.step()

    return step


def main() -> None:
    """Answer requests until the input ends."""
    side, device, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    call: Callable[[], None] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "case" in request:
            call = (mmace_call if side == "mmace" else mace_call)(request["case"], device)
            call()
            call()
            answer = {"ready": True}
        else:
            assert call is not None
            begin = time.perf_counter()
            for _ in range(request["calls"]):
                call()
            if device != "cpu":
                torch.cuda.synchronize()
            answer = {"seconds": (time.perf_counter() - begin) / request["calls"]}
        answer["memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        if device != "cpu":
            answer["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        print("answer " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
