"""From labels in the store to a data set: what is trained on, what is held out, what is set aside and why.

Three rules stand here and nowhere else:

- The test set is drawn once, from the first iteration's labels, spread over the magnetic branches, and then frozen.
- Labels of the Bain path are never trained on, neither the very label nor another label of the same atoms.
- Labels that failed or have absurd forces are set aside, with a reason that the report shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.structure import MagneticStructure

if TYPE_CHECKING:
    from mmace.train import Configuration


class BainLeakError(RuntimeError):
    """A Bain-path label was about to be trained on; the comparison with DFT would be worthless."""


class DataSetSettings(Document):
    """How labels become a data set."""

    test_fraction: float = Field(default=0.2, ge=0.0, lt=1.0, description="share of each branch held out for the test")
    max_force: float = Field(
        default=20.0, gt=0.0, description="labels with a larger force component are set aside, eV/Å"
    )
    max_energy: float | None = Field(
        default=None, description="labels this far above the lowest one are set aside, eV per atom; none: no limit"
    )
    seed: int = Field(default=0, description="seed of the draw of the test set")


class DataSet(Document):
    """The label keys that one iteration trains on, and those it must not train on."""

    iteration: int = Field(description="1 for the first trained model")
    training_keys: list[str] = Field(description="label keys trained on")
    test_keys: list[str] = Field(description="label keys held out")
    bain_keys: list[str] = Field(description="label keys of the Bain path")
    fresh_keys: list[str] = Field(description="training labels that the model before had not seen")
    set_aside: dict[str, str] = Field(description="label key → why it is not trained on")
    dataset_hash: str = Field(description="hash of the training and test keys")
    branches: dict[str, int] = Field(description="training configurations per magnetic branch")


def geometry_hash(structure: MagneticStructure) -> str:
    """Hash of the atoms and the cell alone: labels of the same atoms with other moments share it."""
    return structure.model_copy(update={"magmoms": [[0.0, 0.0, 0.0]] * len(structure.symbols)}).hash()


def label_branch(label: LabelDocument) -> str:
    """Magnetic branch of the converged moments: NM, FM, AFM or non-collinear."""
    from mmace.train import magnetic_branch

    return str(magnetic_branch(np.asarray(label.magmoms, dtype=float).reshape(-1, 3)))


def label_configuration(label: LabelDocument, stationary_moments: bool = False) -> Configuration:
    """The training configuration of a converged label: free energy (it belongs to the forces) and DFT's moments.

    Parameters: ``stationary_moments`` puts zero magnetic forces where the label has none.
    Raises ValueError for a label without energy or moments.
    """
    from mmace.train import Configuration

    energy = label.free_energy if label.free_energy is not None else label.energy
    if energy is None or label.magmoms is None:
        raise ValueError(f"label {label.label_key} has no energy or no moments")
    atoms = label.structure.to_atoms()
    stress = _optional(label.stress)
    magnetic_forces = _optional(label.magnetic_forces)
    if magnetic_forces is None and stationary_moments:
        magnetic_forces = np.zeros((len(atoms), 3))
    return Configuration(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=np.asarray(atoms.cell),
        pbc=np.asarray(atoms.pbc),
        magmoms=np.asarray(label.magmoms, dtype=float).reshape(-1, 3),
        energy=float(energy),
        forces=_optional(label.forces),
        stress=None if stress is None else 0.5 * (stress + stress.T),  # plane-wave stress is symmetric up to noise
        magnetic_forces=magnetic_forces,
        name=label.label_key,
    )


def _optional(values: Any) -> np.ndarray | None:
    return None if values is None else np.asarray(values, dtype=float)


def read_labels(store: Any, keys: Iterable[str]) -> list[LabelDocument]:
    """Label documents of ``keys`` from a maggma store, in the order of ``keys``.

    Raises UserError if one is missing.
    """
    wanted = list(dict.fromkeys(keys))
    stored = store.query({"label_key": {"$in": wanted}})
    found = {document["label_key"]: LabelDocument.from_store(document) for document in stored}
    missing = [key for key in wanted if key not in found]
    if missing:
        raise UserError(
            f"label store: {len(missing)} of {len(wanted)} labels are missing (first: {missing[0]}); "
            "run `mmace resume` to compute them"
        )
    return [found[key] for key in wanted]


def reason_to_set_aside(label: LabelDocument, settings: DataSetSettings) -> str | None:
    """Why a label cannot be trained on by itself, in words; None if it can."""
    if label.status != "converged":
        return f"DFT failed: {label.error or 'no reason given'}"
    energy = label.free_energy if label.free_energy is not None else label.energy
    if energy is None or label.forces is None or label.magmoms is None:
        return "energy, forces or moments are missing"
    numbers = [np.asarray([energy]), np.asarray(label.forces), np.asarray(label.magmoms)]
    if label.stress is not None:
        numbers.append(np.asarray(label.stress))
    if not all(np.isfinite(array).all() for array in numbers):
        return "energy, forces, stress or moments are not finite"
    largest = float(np.abs(np.asarray(label.forces)).max())
    if largest > settings.max_force:
        return f"force of {largest:.1f} eV/Å is over the limit of {settings.max_force:g} eV/Å"
    return None


def check_no_bain(training: Sequence[LabelDocument], bain: Sequence[LabelDocument]) -> None:
    """Raise BainLeakError if a Bain-path label, or other atoms equal to one, stands among the training labels."""
    bain_keys = {label.label_key for label in bain}
    bain_geometries = {geometry_hash(label.structure) for label in bain}
    for label in training:
        if label.label_key in bain_keys or label.candidate.group == "bain":
            raise BainLeakError(f"label {label.label_key} belongs to the Bain path and must not be trained on")
        if geometry_hash(label.structure) in bain_geometries:
            raise BainLeakError(
                f"label {label.label_key} has the atoms of a Bain-path point and must not be trained on"
            )


def build_dataset(
    labels: Sequence[LabelDocument],
    bain: Sequence[LabelDocument],
    settings: DataSetSettings,
    previous: DataSet | None = None,
) -> DataSet:
    """Sort ``labels`` into training, test and set aside.

    Parameters: ``labels`` every label asked for so far except the Bain path's; ``bain`` the Bain path's labels;
    ``previous`` the data set of the iteration before, whose test set is kept as it is.
    Raises UserError if nothing is left to train on.
    """
    bain_keys = {label.label_key for label in bain}
    bain_geometries = {geometry_hash(label.structure) for label in bain}
    set_aside: dict[str, str] = {}
    usable: list[LabelDocument] = []
    for label in _unique(labels):
        reason = reason_to_set_aside(label, settings)
        if reason is None and (label.label_key in bain_keys or geometry_hash(label.structure) in bain_geometries):
            reason = "its atoms are those of a Bain-path point, which is kept for the comparison"
        if reason is None:
            usable.append(label)
        else:
            set_aside[label.label_key] = reason
    usable, too_high = _energy_window(usable, settings.max_energy)
    set_aside.update(too_high)
    for label in bain:
        if label.status != "converged":
            set_aside[label.label_key] = reason_to_set_aside(label, settings) or "DFT failed"

    test = _frozen_test(usable, previous) if previous else _draw_test(usable, settings)
    training = [label for label in usable if label.label_key not in test]
    if not training:
        raise UserError(
            f"data set of iteration {previous.iteration + 1 if previous else 1}: no usable training label "
            f"({len(set_aside)} set aside); look at the engine's settings or raise max_force"
        )
    check_no_bain(training, bain)
    training_keys = sorted(label.label_key for label in training)
    seen = set(previous.training_keys) if previous else set()
    branches: dict[str, int] = defaultdict(int)
    for label in training:
        branches[label_branch(label)] += 1
    return DataSet(
        iteration=previous.iteration + 1 if previous else 1,
        training_keys=training_keys,
        test_keys=sorted(test),
        bain_keys=sorted(bain_keys),
        fresh_keys=[key for key in training_keys if key not in seen],
        set_aside=set_aside,
        dataset_hash=content_hash([training_keys, sorted(test)]),
        branches=dict(sorted(branches.items())),
    )


def _unique(labels: Sequence[LabelDocument]) -> list[LabelDocument]:
    return list({label.label_key: label for label in labels}.values())


def _energy_window(labels: list[LabelDocument], max_energy: float | None) -> tuple[list[LabelDocument], dict[str, str]]:
    """Labels within ``max_energy`` eV per atom of the lowest one of their composition, and the reasons for the rest."""
    if max_energy is None:
        return labels, {}
    compositions: dict[str, list[tuple[float, LabelDocument]]] = defaultdict(list)
    for label in labels:
        symbols = label.structure.symbols
        energy = label.free_energy if label.free_energy is not None else label.energy
        compositions["".join(sorted(symbols))].append((float(energy or 0.0) / len(symbols), label))
    kept, reasons = [], {}
    for members in compositions.values():
        lowest = min(energy for energy, _ in members)
        for energy, label in members:
            if energy - lowest <= max_energy:
                kept.append(label)
            else:
                reasons[label.label_key] = (
                    f"{energy - lowest:.2f} eV per atom above the lowest label, over the limit of {max_energy:g}"
                )
    return kept, reasons


def _draw_test(labels: Sequence[LabelDocument], settings: DataSetSettings) -> set[str]:
    """Keys held out: the same share of every branch, whatever order the labels came in.

    Frames of one relaxation are nearly the same structure; one in the test set would only repeat its neighbours
    in the training set, so they always train.
    """
    branches: dict[str, list[str]] = defaultdict(list)
    test = {label.label_key for label in labels if label.candidate.group == "test"}
    for label in labels:
        if label.candidate.operation != "relax" and label.candidate.group != "test":
            branches[label_branch(label)].append(label.label_key)
    for keys in branches.values():
        keys.sort(key=lambda key: content_hash([settings.seed, key]))
        count = round(settings.test_fraction * len(keys))
        if settings.test_fraction > 0.0 and len(keys) >= 3:
            count = max(count, 1)
        test.update(keys[: min(count, len(keys) - 1)])
    return test


def _frozen_test(labels: Sequence[LabelDocument], previous: DataSet) -> set[str]:
    """The test keys of the first iteration; a key that is set aside by now is dropped."""
    usable = {label.label_key for label in labels}
    return {key for key in previous.test_keys if key in usable}
