"""Learning curve of the anisotropy: error and ranking of held-out crystals against directions per crystal.

    python benchmarks/anisotropy_curve.py store:mca-parents --directions 3 6 13 --seeds 2
    python benchmarks/anisotropy_curve.py --synthetic 40

Without runs of `mmace soc` a potential with random weights is the truth for random crystals of two to four atoms.
Crystals are split once per seed; every point of a curve trains on the same crystals. Results go to a JSON file, and
points that stand there are not computed again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from mmace import Potential
from mmace.anisotropy import direction_energies
from mmace.checkpoint import write_atomically
from mmace.train import train
from mmace_flows.learning.anisotropy_data import configuration_of, read_documents, split_by_crystal, usable
from mmace_flows.learning.anisotropy_data import with_directions as some_directions
from mmace_flows.learning.anisotropy_training import (
    anisotropy_potential,
    anisotropy_training,
    elements_of_runs,
    scores_of,
)
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import directions

ELEMENTS = ("Mn", "Fe", "Co", "Pt")
MOMENTS = {"Mn": 2.5, "Fe": 2.3, "Co": 1.6, "Pt": 0.3}
VOLUME = 12.0  # Å³ per atom


def synthetic(count: int, seed: int = 0) -> list[SpinOrbitDocument]:
    """Runs of random crystals, their energies from a potential with random weights: E_A of some 100 µeV per atom."""
    generator = np.random.default_rng(seed)
    truth = Potential(anisotropy_potential(ELEMENTS, {"hidden": "8x0e", "seed": 1000 + seed}))
    vectors, made = directions("lebedev:26"), []
    while len(made) < count:
        size = 2 + len(made) % 3
        symbols = generator.choice(ELEMENTS, size)
        cell = np.eye(3) + 0.25 * generator.normal(size=(3, 3))
        cell *= (VOLUME * size / abs(np.linalg.det(cell))) ** (1 / 3)
        atoms = Atoms(symbols, cell=cell, scaled_positions=generator.random((size, 3)), pbc=True)
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(size, 1)]
        if distances.min() < 2.1 or min(np.linalg.norm(row) for row in cell) < 2.1:
            continue
        lengths = np.array([MOMENTS[symbol] for symbol in symbols]) * generator.uniform(0.8, 1.2, size)
        atoms.set_initial_magnetic_moments(np.outer(lengths, [0, 0, 1]))
        structure = MagneticStructure.from_atoms(atoms)
        made.append((structure, lengths, direction_energies(truth, atoms, vectors)))
    scale = 1e-4 / np.median([np.std(energies) / len(lengths) for _, lengths, energies in made])
    return [
        SpinOrbitDocument(
            spin_orbit_key=structure.hash(), status="converged", structure=structure, parent=structure.hash(),
            directions=vectors.tolist(), energies=(scale * energies).tolist(), lengths=lengths.tolist(),
            engine="random potential", engine_version="1", settings={}, created="", code_version="",
        )
        for structure, lengths, energies in made
    ]  # fmt: skip


def point(
    fitted: list[SpinOrbitDocument], held: list[SpinOrbitDocument], count: int, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One training and what it is worth on the held-out crystals."""
    own = json.loads(options.model)
    training = anisotropy_training({"seed": seed, "epochs": options.epochs, "num_threads": 1})
    potential = anisotropy_potential(elements_of_runs([*fitted, *held]), {"seed": seed, **own})
    configurations = [some_directions(configuration_of(one), count, seed) for one in fitted]
    with tempfile.TemporaryDirectory() as folder:
        # the last epoch counts: no crystal is spent on choosing one
        result = train(potential, training, configurations, configurations, folder)
    found = scores_of(result.model, held)
    trained = scores_of(result.model, fitted)
    kept = found.model_dump(exclude={"strengths"})
    return {
        "directions": count,
        "seed": seed,
        "trained_error": trained.relative_error,
        **kept,
        "seconds": result.seconds,
    }


def main() -> None:
    """Parse, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="runs of mmace soc: store:CAMPAIGN or JSON files")
    parser.add_argument("--synthetic", type=int, metavar="N", help="N random crystals instead")
    parser.add_argument("--directions", type=int, nargs="+", default=[3, 6, 13], metavar="K")
    parser.add_argument("--seeds", type=int, default=1, help="splits and models")
    parser.add_argument("--held-out", type=float, default=0.2, help="part of the crystals")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--model", default="{}", help="settings that differ, JSON")
    parser.add_argument("--output", type=Path, default=Path("anisotropy-curve.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.synthetic:
        runs = synthetic(options.synthetic)
    elif options.runs:
        runs = usable([one for source in options.runs for one in read_documents(source)])
    else:
        parser.error("give runs, or --synthetic N")
    asked = {"runs": sorted(one.spin_orbit_key for one in runs), "epochs": options.epochs, "model": options.model,
             "held_out": options.held_out}  # fmt: skip
    rows: list[dict[str, Any]] = []
    if options.output.exists():
        before = json.loads(options.output.read_text())
        rows = before["rows"] if before["asked"] == asked else []
    for seed in range(options.seeds):
        fitted, held = split_by_crystal(runs, options.held_out, seed)
        for count in options.directions:
            row = next((one for one in rows if (one["directions"], one["seed"]) == (count, seed)), None)
            if row is None:
                row = point(fitted, held, count, seed, options)
                rows.append(row)
                write_atomically(options.output, json.dumps({"asked": asked, "rows": rows}, indent=2).encode())
            rank = "–" if row["spearman"] is None else f"{row['spearman']:.2f}"
            errors = [f"{100 * row[name]:.1f} %" for name in ("trained_error", "relative_error")]
            print(
                f"seed {seed}, {count} directions: {len(fitted)} runs trained on {errors[0]}, {row['runs']} held out "
                f"{errors[1]}, Spearman {rank}, {row['seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
