"""Anisotropy of one crystal from part of its directions: error on those never trained on, and K1 against DFT.

python benchmarks/anisotropy_unseen.py workflows/data/l10_spin_orbit.jsonl --directions 6 --seeds 3
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np

from mmace.anisotropy import direction_energies
from mmace.train import train
from mmace_flows.learning.anisotropy_data import configuration_of, read_documents, with_directions
from mmace_flows.learning.anisotropy_training import anisotropy_potential, anisotropy_training, elements_of_runs
from mmace_flows.properties.anisotropy_values import values, values_from_document
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument


def unseen(document: SpinOrbitDocument, count: int, seed: int, epochs: int) -> tuple[int, float, float, float]:
    """Directions never trained on, mean |error| there over mean |E_A|, K1 of the model and of DFT in MJ/m³."""
    full = configuration_of(document)
    part = with_directions(full, count, seed)
    assert full.directions is not None and full.anisotropy is not None and part.directions is not None
    settings = anisotropy_training({"epochs": epochs, "num_threads": 1, "seed": seed})
    potential = anisotropy_potential(elements_of_runs([document]), {"seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        model = train(potential, settings, [part], [], folder).model
    known = {tuple(np.round(vector, 6)) for vector in part.directions}
    new = np.array([tuple(np.round(vector, 6)) not in known for vector in full.directions])
    predicted = direction_energies(model, full.to_atoms(), full.directions)
    # only differences mean anything: the mean over trained directions is the common zero
    error = predicted - predicted[~new].mean() - (full.anisotropy - full.anisotropy[~new].mean())
    size = np.abs(full.anisotropy - full.anisotropy.mean()).mean()
    vectors = np.array(document.directions)
    energies = direction_energies(model, full.to_atoms(), vectors)
    told = {"source": "model", "method": {}, "created": document.created}
    by_model = values(document.structure, np.array(document.lengths), vectors, energies, **told)
    by_dft = values_from_document(document)
    assert by_dft is not None
    return int(new.sum()), float(np.abs(error[new]).mean() / size), by_model.k1, by_dft.k1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", help="runs of mmace soc: store:CAMPAIGN or a JSON file")
    parser.add_argument("--directions", type=int, default=6, help="trained on, of each run")
    parser.add_argument("--seeds", type=int, default=3, help="choices of directions and of weights")
    parser.add_argument("--epochs", type=int, default=150)
    given = parser.parse_args()
    print("| crystal | seed | unseen | error | K1, MJ/m³ | DFT |\n|---|---:|---:|---:|---:|---:|")
    for document in read_documents(given.runs):
        for seed in range(given.seeds):
            count, error, model, dft = unseen(document, given.directions, seed, given.epochs)
            name = "".join(document.structure.symbols)
            print(f"| {name} | {seed} | {count} | {100 * error:.1f} % | {model:.2f} | {dft:.2f} |", flush=True)


if __name__ == "__main__":
    main()
