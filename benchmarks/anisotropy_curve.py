"""Learning curves of the anisotropy: error and ranking of crystals that were not trained on.

    python benchmarks/anisotropy_curve.py workflows/data/random_spin_orbit.jsonl --crystals 6 12 --directions 13
    python benchmarks/anisotropy_curve.py store:mca-parents --directions 3 6 13 --seeds 2
    python benchmarks/anisotropy_curve.py --synthetic 40

Cross-validation: every crystal is held out once, by a model that saw none of its runs, and all of them are ranked
together. Curves go over directions per crystal, and over crystals: the first ones of those that are not held out, in an
order drawn by the seed. Without runs of `mmace soc` a potential with random weights is the truth for random crystals of
two to four atoms. Results go to a JSON file, and trainings that stand there are not computed again.
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
from mmace_flows.learning.anisotropy_data import configuration_of, crystal_groups, read_documents, usable
from mmace_flows.learning.anisotropy_data import with_directions as some_directions
from mmace_flows.learning.anisotropy_training import (
    anisotropy_potential,
    anisotropy_training,
    elements_of_runs,
    scores_of,
)
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.screening.scores import recall, spearman
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


def folds(
    runs: list[SpinOrbitDocument], count: int, seed: int
) -> list[tuple[list[list[SpinOrbitDocument]], list[SpinOrbitDocument]]]:
    """(crystals to train on, each with its runs and in the order in which they are added; runs held out), ``count``
    times: every crystal is held out once."""
    groups: dict[int, list[SpinOrbitDocument]] = {}
    for one, group in zip(runs, crystal_groups([one.structure for one in runs]), strict=True):
        groups.setdefault(group, []).append(one)
    order = np.random.default_rng([seed, 4]).permutation(len(groups))
    parts = [order[start::count] for start in range(count)]
    return [
        ([groups[group] for group in order if group not in part], [one for group in part for one in groups[group]])
        for part in parts
    ]


def training(
    fitted: list[SpinOrbitDocument],
    held: list[SpinOrbitDocument],
    directions_of_each: int,
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One training and what it is worth on the held-out crystals."""
    own = json.loads(options.model)
    settings = anisotropy_training({"seed": seed, "epochs": options.epochs, "num_threads": 1})
    potential = anisotropy_potential(elements_of_runs([*fitted, *held]), {"seed": seed, **own})
    configurations = [some_directions(configuration_of(one), directions_of_each, seed) for one in fitted]
    with tempfile.TemporaryDirectory() as folder:
        # the last epoch counts: no crystal is spent on choosing one
        result = train(potential, settings, configurations, configurations, folder)
    return {
        "trained_on": len(fitted),
        "trained_error": scores_of(result.model, fitted).relative_error,
        **scores_of(result.model, held).model_dump(),
        "seconds": result.seconds,
    }


def pooled(rows: list[dict[str, Any]]) -> str:
    """What the trainings of one point say together."""
    counts = [row["runs"] for row in rows]
    computed, found = ([row[place] for one in rows for row in one["strengths"]] for place in (1, 2))
    rank, best = spearman(found, computed), recall(found, computed)
    return (
        f"{np.mean([row['trained_on'] for row in rows]):.0f} runs trained on "
        f"{100 * np.mean([row['trained_error'] for row in rows]):.0f} %, {sum(counts)} held out "
        f"{100 * np.average([row['relative_error'] for row in rows], weights=counts):.0f} %, "
        f"Spearman {'–' if rank is None else f'{rank:.2f}'}, "
        f"best fifth found {'–' if best is None else f'{best:.2f}'}, {sum(row['seconds'] for row in rows):.0f} s"
    )


def main() -> None:
    """Parse, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="runs of mmace soc: store:CAMPAIGN or JSON files")
    parser.add_argument("--synthetic", type=int, metavar="N", help="N random crystals instead")
    parser.add_argument("--directions", type=int, nargs="+", default=[3, 6, 13], metavar="K")
    parser.add_argument("--crystals", type=int, nargs="+", default=[], metavar="N", help="besides all of them")
    parser.add_argument("--folds", type=int, default=5, help="parts that are held out in turn")
    parser.add_argument("--seeds", type=int, default=1, help="splits and models")
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
             "folds": options.folds}  # fmt: skip
    rows: dict[str, dict[str, Any]] = {}
    if options.output.exists():
        before = json.loads(options.output.read_text())
        rows = before["rows"] if before["asked"] == asked else {}
    for seed in range(options.seeds):
        split = folds(runs, options.folds, seed)
        all_crystals = max(len(crystals) for crystals, _ in split)
        points = [(all_crystals, count) for count in options.directions]
        points += [(number, max(options.directions)) for number in options.crystals if number < all_crystals]
        for number, count in points:
            names = [f"seed {seed}, {number} crystals, {count} directions, fold {fold}" for fold in range(len(split))]
            for name, (crystals, held) in zip(names, split, strict=True):
                if name not in rows:
                    fitted = [one for crystal in crystals[:number] for one in crystal]
                    rows[name] = training(fitted, held, count, seed, options)
                    write_atomically(options.output, json.dumps({"asked": asked, "rows": rows}, indent=2).encode())
            print(f"{names[0].rpartition(',')[0]}: {pooled([rows[name] for name in names])}", flush=True)


if __name__ == "__main__":
    main()
