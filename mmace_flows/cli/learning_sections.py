"""Sections of the settings file of `mmace train` and `mmace finetune`, as JSON schema of each."""

from __future__ import annotations

from typing import Any

_PATH = {"type": "string"}


def _section(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, **schema}


# model and training are filled in from the dataclasses, see `mmace_flows.cli.learning_schema`.
SECTIONS: dict[str, dict[str, Any]] = {
    "data": _section("Labelled structures: a file, or store:CAMPAIGN[/train]. Relative to this file.", **_PATH),
    "valid": _section("Validation structures; without them a part of the data is put aside.", **_PATH),
    "spin_orbit": _section(
        "Runs of mmace soc, whose directions are learned together with the energies (train only): store:CAMPAIGN, a "
        "JSON file, or a list of them.",
        anyOf=[_PATH, {"type": "array", "items": _PATH}],
    ),
    "output": _section("Folder of the run.", **_PATH),
    "model_from": _section("Checkpoint to start from (train only; finetune takes it as argument).", **_PATH),
    "valid_fraction": _section(
        "Part of the data that is put aside without valid.", type="number", exclusiveMinimum=0, exclusiveMaximum=1
    ),
    "keys": _section(
        "Other keys of the data file: field, key.", type="object", additionalProperties={"type": "string"}
    ),
    "format": _section("Format of the data; by default it is recognised.", type="string"),
    "elements": _section(
        "Elements of type 0, 1, … where the file only numbers its types.",
        anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    ),
    "zero_moments": _section("Take structures without moments as non-magnetic.", type="boolean"),
    "one_body": _section("E0_mag(|m|): the file of mmace fit-one-body.", **_PATH),
    "isolated_atoms": _section("E0: energies of single atoms, a file in any format of the data.", **_PATH),
    "committee": _section(
        "Members of a committee, each in a folder member-N of output (train only).", type="integer", minimum=1
    ),
    "bootstrap": _section("Every member draws its own sample of the data, with replacement.", type="boolean"),
    "tensorboard": _section("Write training curves for TensorBoard.", type="boolean"),
    "replay": _section("Structures the model has learned before, not to be forgotten (finetune only).", **_PATH),
    "replay_weight": _section("Weight of each of them.", type="number", exclusiveMinimum=0),
    "head": _section("Level of theory of structures that name none (finetune only).", type="string"),
    "model": _section("The potential.", type="object"),
    "training": _section("The training.", type="object"),
}
ONLY_TRAIN = ("model_from", "committee", "bootstrap", "model", "spin_orbit")
ONLY_FINETUNE = ("replay", "replay_weight", "head")
