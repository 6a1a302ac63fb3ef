"""What a job needs to run: cores, memory, a GPU, time; and what a preset may change of it."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from mmace_flows.schemas.document import Document

RESUMED_SECONDS = 600.0  # a job that resumes is worth starting for as little as this, seconds of wall time


class Needs(Document):
    """Needs of one job. `mmace_flows.execution.policy` sets them, workers take what they can serve."""

    category: str = Field(default="cpu", description="kind of worker that takes the job: cpu or gpu")
    cores: int = Field(default=1, ge=1, description="processor cores")
    memory_gb: float = Field(default=2.0, gt=0.0, description="memory, GB")
    gpus: int = Field(default=0, ge=0, description="GPUs")
    seconds: float = Field(default=600.0, gt=0.0, description="expected wall time on these cores, s")
    resumes: bool = Field(default=False, description="a job that is cut off goes on where it was")

    @property
    def least_seconds(self) -> float:
        """Wall time that must be left for the job to be started, s."""
        return min(self.seconds, RESUMED_SECONDS) if self.resumes else self.seconds

    def changed(self, change: NeedsChange) -> Self:
        """A copy with what the preset says in place of the policy's values."""
        return self.model_copy(update=change.model_dump(exclude_none=True))


class NeedsChange(Document):
    """What a preset changes of the needs of one stage; None leaves the policy's value."""

    category: str | None = Field(default=None, min_length=1, description="kind of worker that takes the job")
    cores: int | None = Field(default=None, ge=1, description="processor cores")
    memory_gb: float | None = Field(default=None, gt=0.0, description="memory, GB")
    gpus: int | None = Field(default=None, ge=0, description="GPUs")
    seconds: float | None = Field(default=None, gt=0.0, description="expected wall time on these cores, s")
    resumes: bool | None = Field(default=None, description="a job that is cut off goes on where it was")
