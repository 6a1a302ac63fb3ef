"""What the active-learning loop knows after each iteration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmace_flows.schemas.document import Document


class BranchErrors(Document):
    """Errors of one magnetic branch (or of all configurations)."""

    count: int = Field(description="number of configurations")
    energy_mae: float | None = Field(default=None, description="eV per atom")
    energy_rmse: float | None = Field(default=None, description="eV per atom")
    forces_mae: float | None = Field(default=None, description="eV/Å")
    forces_rmse: float | None = Field(default=None, description="eV/Å")
    stress_mae: float | None = Field(default=None, description="eV/Å³")
    stress_rmse: float | None = Field(default=None, description="eV/Å³")
    magnetic_forces_mae: float | None = Field(default=None, description="eV/μB")
    magnetic_forces_rmse: float | None = Field(default=None, description="eV/μB")


class LoopState(Document):
    """One iteration of active learning."""

    campaign: str
    iteration: int = Field(description="1 for the first trained model")
    training_keys: list[str] = Field(description="label keys trained on")
    test_keys: list[str] = Field(description="label keys held out; never trained on")
    bain_keys: list[str] = Field(description="label keys of the Bain path; never trained on")
    failed_keys: list[str] = Field(default_factory=list, description="labels set aside")
    dataset_hash: str
    model_hash: str
    test_errors: dict[str, BranchErrors] = Field(description="per branch NM/FM/AFM/non-collinear, and 'all'")
    train_errors: dict[str, BranchErrors]
    bain_errors: dict[str, BranchErrors]
    symmetry_error: float | None = Field(default=None, description="leftover moment-rotation error, eV per atom")
    decision: Literal["continue", "stop"]
    reason: str
    details: dict[str, Any] = Field(default_factory=dict, description="Bain curves, training history, costs")
    created: str
