"""What a campaign is, and what it is expected to cost."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mmace_flows.schemas.document import Document


class StageEstimate(Document):
    """Jobs of one stage. The stage's name is the part of the job names before the colon."""

    stage: str
    jobs: int
    core_seconds_per_job: float


class CostEstimate(Document):
    """What a campaign is expected to cost before it starts."""

    stages: list[StageEstimate]

    @property
    def core_seconds(self) -> float:
        """Sum over all stages, core-seconds."""
        return sum(stage.jobs * stage.core_seconds_per_job for stage in self.stages)


class Campaign(Document):
    """One run of a recipe: which recipe, which settings, where its workflow stands."""

    campaign: str = Field(description="name, unique in the database")
    recipe: str = Field(description="path of the recipe as given")
    preset: str
    settings: dict[str, Any] = Field(description="complete settings of the recipe")
    settings_hash: str
    code_version: str
    created: str = Field(description="ISO 8601 time, UTC")
    finished: str | None = None
    estimate: CostEstimate | None = None
    firework_ids: list[int] = Field(default_factory=list, description="root fireworks of the workflow")
    details: dict[str, Any] = Field(default_factory=dict)
