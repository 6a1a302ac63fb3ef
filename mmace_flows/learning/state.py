"""The `LoopState` of one iteration: made from a trained model, written to the store, read back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mmace_flows.learning.dataset import DataSet, label_configuration, read_labels
from mmace_flows.learning.evaluation import branch_errors, parity_data
from mmace_flows.learning.stop_rule import brief_reason
from mmace_flows.schemas.loop import BranchErrors, LoopState

if TYPE_CHECKING:
    from mmace import Potential
    from mmace.train import Configuration
    from mmace_flows.execution.stores import Stores
    from mmace_flows.learning.loop import ActiveLearningMaker

PARITY_CONFIGURATIONS = 300  # training configurations in the parity data; more make the document large, not clearer


def build_state(
    maker: ActiveLearningMaker,
    campaign: str,
    dataset: DataSet,
    models: list[dict[str, Any]],
    bain: dict[str, Any],
    previous: dict[str, Any] | None,
    stores: Stores,
) -> LoopState:
    """Evaluate the models of one iteration and decide.

    Parameters: ``models`` `TrainedModel`s, the first one is the iteration's model, all are its committee; ``bain`` the
    first one's `BainPath`; ``previous`` the `LoopState` before, whose model is tried on the labels it has not seen.
    """
    from mmace.train import moment_rotation_error

    committee = [_model(stores, one["model_hash"]) for one in models]
    model = committee[0]
    train = _configurations(stores, dataset.training_keys, maker)
    test = _configurations(stores, dataset.test_keys, maker)
    path = _configurations(stores, [key for key in dataset.bain_keys if key not in dataset.set_aside], maker)
    test_errors = branch_errors(model, test)
    fresh_errors: dict[str, BranchErrors] = {}
    if previous:
        fresh = _configurations(stores, dataset.fresh_keys, maker)
        fresh_errors = branch_errors(_model(stores, previous["model_hash"]), fresh)
    decision, reason = maker.stop_rule.decide(dataset.iteration, test_errors, fresh_errors)
    shown = train[:: max(1, len(train) // PARITY_CONFIGURATIONS)]
    return LoopState(
        campaign=campaign,
        iteration=dataset.iteration,
        training_keys=dataset.training_keys,
        test_keys=dataset.test_keys,
        bain_keys=dataset.bain_keys,
        failed_keys=sorted(dataset.set_aside),
        dataset_hash=dataset.dataset_hash,
        model_hash=models[0]["model_hash"],
        test_errors=test_errors,
        train_errors=branch_errors(model, train),
        bain_errors=branch_errors(model, path),
        symmetry_error=moment_rotation_error(model, [*train, *test]),
        decision=decision,
        reason=reason,
        details={
            "dataset": dataset.model_dump(),
            "set_aside": dataset.set_aside,
            "bain": bain,
            "parity": {
                "train": parity_data(model, shown, relax=False).model_dump(),
                "test": parity_data(model, test).model_dump(),
                "bain": parity_data(model, path).model_dump(),
            },
            "fresh_errors": {branch: errors.model_dump() for branch, errors in fresh_errors.items()},
            "committee": [one["model_hash"] for one in models],
            "committee_spread": committee_spread(committee, test),
            "histories": [one["history"] for one in models],
            "sampling": previous["details"].get("sampling", {}) if previous else {},
            "core_seconds": {"train": sum(one["core_seconds"] for one in models)},
            "versions": library_versions(),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def save_state(state: LoopState, stores: Stores) -> None:
    """Write ``state`` under campaign/iteration, and one line for people."""
    stores.loop_states.update([{**state.model_dump(), "loop_id": f"{state.campaign}/{state.iteration}"}], key="loop_id")
    errors = state.test_errors.get("all")
    numbers = ""
    if errors and errors.energy_rmse is not None and errors.forces_rmse is not None:
        numbers = f"test {1000 * errors.energy_rmse:.1f} meV/atom, {1000 * errors.forces_rmse:.0f} meV/Å; "
    verdict = "go on" if state.decision == "continue" else "stop"
    stores.event(
        state.campaign,
        "evaluate",
        f"iteration {state.iteration}: {numbers}{verdict}: {brief_reason(state.reason)}",
        ends_job=f"evaluate: iteration {state.iteration}",
        reason=state.reason,
        test_errors={branch: error.model_dump() for branch, error in state.test_errors.items()},
    )


def read_states(store: Any, campaign: str) -> list[LoopState]:
    """All iterations of ``campaign`` in a maggma store, by iteration."""
    fields = list(LoopState.model_fields)
    documents = list(store.query({"campaign": campaign}))
    states = [LoopState(**{key: document[key] for key in fields if key in document}) for document in documents]
    return sorted(states, key=lambda state: state.iteration)


def committee_spread(committee: list[Potential], configurations: list[Configuration]) -> float | None:
    """Mean over ``configurations`` of the standard deviation of the members' energies, eV per atom; None for one."""
    from mmace_flows.properties.energies import model_energies

    if len(committee) < 2 or not configurations:
        return None
    atoms = [configuration.to_atoms() for configuration in configurations]
    return float(np.mean(np.std([model_energies(member, atoms) for member in committee], axis=0)))


def library_versions() -> dict[str, str]:
    """Versions of what computes, as installed where this runs."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("mmace-flows", "torch", "e3nn", "ase", "gpaw", "jobflow", "fireworks", "maggma"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _model(stores: Stores, key: str) -> Potential:
    from mmace import from_bytes

    return from_bytes(stores.load_model(key), f"model {key}")[0].eval()


def _configurations(stores: Stores, keys: list[str], maker: ActiveLearningMaker) -> list[Configuration]:
    stationary = maker.train_maker.stationary_moments
    return [label_configuration(label, stationary) for label in read_labels(stores.labels, keys)]
