"""Crystals per hour and core that the model stage of a screening predicts: moments, energies of directions, constants.

    python benchmarks/prediction.py [--crystals 200] [--members 2] [--epochs 20] [--json FILE]

Crystals of iron and nickel of two to ten atoms, random in occupation, strain, positions and ordering, as a search makes
them. ``fixed`` takes the moments as given to models of anisotropy alone; ``relaxed`` relaxes them with a potential
trained here on workflows/data/feni.extxyz, whose part for anisotropy is as it was initialised: that costs as much.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk, make_supercell

from mmace import Potential, PotentialConfig
from mmace.train import TrainingConfig, train
from mmace.train.reading import read_configurations
from mmace_flows.learning.anisotropy_training import anisotropy_potential, with_part
from mmace_flows.properties.anisotropy_prediction import PredictionSettings, predict_anisotropy
from mmace_flows.schemas.structure import MagneticStructure

DATA = Path(__file__).parents[1] / "workflows" / "data" / "feni.extxyz"
MAGNITUDES = {"Fe": 2.5, "Ni": 0.6}  # μB


def crystals(count: int, seed: int = 0) -> list[MagneticStructure]:
    """Random occupations, strains, positions and orderings of cells of two to ten atoms."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        lattice, constant = (("bcc", 2.87), ("fcc", 3.57))[number % 2]
        matrix = np.eye(3, dtype=int)
        matrix[generator.integers(3)] *= int(generator.integers(2, 11))
        atoms = make_supercell(bulk("Fe", lattice, a=constant), matrix)
        atoms.arrays.pop("initial_magmoms", None)  # scalars, where ASE gives them
        atoms.symbols = generator.choice(["Fe", "Ni"], len(atoms))
        strain = np.eye(3) + generator.uniform(-0.04, 0.04, (3, 3))
        atoms.set_cell(atoms.cell @ (strain + strain.T) / 2, scale_atoms=True)
        atoms.rattle(0.03, rng=generator)
        signs = np.ones(len(atoms)) if number % 4 < 2 else generator.choice([-1.0, 1.0], len(atoms))
        moments = signs * [MAGNITUDES[symbol] for symbol in atoms.symbols]
        atoms.set_initial_magnetic_moments(np.outer(moments, [0.0, 0.0, 1.0]))
        made.append(MagneticStructure.from_atoms(atoms))
    return made


def exchange_potential(epochs: int) -> Potential:
    """A potential of energies of FeNi, trained for a few epochs: enough for moments to have a minimum."""
    data = read_configurations(DATA)
    config = PotentialConfig(elements=["Fe", "Ni"], symmetry="nonsoc", seed=0)
    settings = TrainingConfig.from_dict({"epochs": epochs, "num_threads": 1, "seed": 0}, "training")
    with tempfile.TemporaryDirectory() as folder:
        return train(config, settings, data, [], folder).model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=200)
    parser.add_argument("--members", type=int, default=2, help="of the committee")
    parser.add_argument("--epochs", type=int, default=20, help="of the potential that relaxes moments")
    parser.add_argument("--json", type=Path, help="rows as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    structures = crystals(given.crystals)
    exchange = exchange_potential(given.epochs)
    seeds = range(given.members)
    alone = [Potential(anisotropy_potential(["Fe", "Ni"], {"seed": seed})) for seed in seeds]
    whole = [with_part(exchange, {"seed": seed}) for seed in seeds]
    atoms = np.mean([len(one.symbols) for one in structures])
    print(f"{len(structures)} crystals of {atoms:.1f} atoms on average, committee of {given.members}, one thread\n")
    print("| moments | crystals per hour | ms per crystal | converged |\n|---|---:|---:|---:|")
    rows = []
    for moments, models in (("fixed", alone), ("relaxed", whole)):
        settings = PredictionSettings.model_validate({"moments": moments})
        predict_anisotropy(models, structures[:4], settings)  # what is compiled once is not counted
        begin, used = time.perf_counter(), time.process_time()
        found = predict_anisotropy(models, structures, settings)
        seconds, used = time.perf_counter() - begin, time.process_time() - used
        rows.append(
            {
                "moments": moments,
                "crystals": len(structures),
                "mean_atoms": float(atoms),
                "members": given.members,
                "seconds": seconds,
                "processor_seconds": used,
                "crystals_per_hour": 3600.0 * len(structures) / seconds,
                "converged": sum(one.converged for one in found),
            }
        )
        row = rows[-1]
        print(
            f"| {moments} | {row['crystals_per_hour']:,.0f} | {1000 * seconds / len(structures):.0f} "
            f"| {row['converged']} of {len(structures)} |",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
