"""Which of many proposed structures to label: those that the model, or the committee, is least sure of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmace_flows.schemas.structure import Candidate

if TYPE_CHECKING:
    from mmace import Potential
    from mmace.uncertainty import Uncertainty


def uncertainty_for(model: Potential, members: Sequence[Potential], labels: Sequence[Any]) -> Uncertainty:
    """Of the committee, where there is one; else of the single ``model``, from the labels it was trained on.

    Parameters: ``members`` all potentials of the iteration; ``labels`` the training `LabelDocument`s.
    """
    if len(members) > 1:
        from mmace.committee import Committee
        from mmace.uncertainty import CommitteeUncertainty

        return CommitteeUncertainty(Committee(members))
    from mmace.uncertainty import fit_last_layer
    from mmace_flows.learning.dataset import label_configuration

    return fit_last_layer(model, [label_configuration(label) for label in labels])[0]


def most_uncertain(candidates: Sequence[Candidate], uncertainty: Uncertainty, count: int) -> list[Candidate]:
    """``count`` of the candidates, the least certain first, each with its uncertainty among its details (eV/atom)."""
    from mmace.uncertainty import select_most_uncertain
    from mmace.uncertainty.selection import scores

    frames = [candidate.structure.to_atoms() for candidate in candidates]
    chosen = select_most_uncertain(frames, uncertainty, count)
    values = scores(frames, uncertainty)
    return [
        candidates[index].model_copy(
            update={"details": {**candidates[index].details, "energy_uncertainty_per_atom": float(values[index])}}
        )
        for index in chosen
    ]
