"""Whatever a user gives as an uncertainty, made into one that fits a potential."""

from __future__ import annotations

from pathlib import Path

from mmace.committee import Committee
from mmace.errors import UserError
from mmace.potential import Potential
from mmace.uncertainty.committee import CommitteeUncertainty
from mmace.uncertainty.estimate import Uncertainty
from mmace.uncertainty.files import load_uncertainty


def resolve(given: Uncertainty | Committee | str | Path, model: Potential) -> Uncertainty:
    """``given``: an uncertainty, a committee, the file of `mmace uncertainty fit`, or the folder of a committee.

    Raises UserError for files of another model, folders without members, and other elements or another cutoff than
    those of ``model``.
    """
    if isinstance(given, str | Path):
        path = Path(given)
        given = Committee.load(path) if path.is_dir() else load_uncertainty(path, model)
    if isinstance(given, Committee):
        given = CommitteeUncertainty(given)
    own, its = model.config, given.config
    if (own.elements, own.r_max, own.dtype) != (its.elements, its.r_max, its.dtype):
        raise UserError(
            f"uncertainty: made for other elements, cutoff or precision ({', '.join(its.elements)}, {its.r_max} Å, "
            f"{its.dtype}) than the model's ({', '.join(own.elements)}, {own.r_max} Å, {own.dtype})"
        )
    return given
