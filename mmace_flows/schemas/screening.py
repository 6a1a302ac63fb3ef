"""A screening campaign: what is looked at, and where it stands after each round."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.structure import Candidate

PROSPECT_SCHEMA_VERSION = 1
Quantity = Literal["strength_mev_per_atom", "k1", "hardness"]


class Prospect(Document):
    """One crystal with one magnetic ordering that a campaign looks at."""

    schema_version: int = PROSPECT_SCHEMA_VERSION
    prospect_id: str = Field(description="hash of campaign and structure with moments")
    campaign: str
    candidate: Candidate
    crystal: str = Field(description="what all orderings and cells of one crystal share")
    formula: str
    held_out: bool = Field(default=False, description="its crystal is computed by DFT and never trained on")
    number: int = Field(description="place in the campaign's list, from 0")


class Ranked(Document):
    """One row of a round's ranking."""

    prospect_id: str
    formula: str
    ordering: str
    crystal: str
    held_out: bool = False
    predicted: float | None = Field(default=None, description="the ranked quantity, by the model")
    spread: float | None = Field(default=None, description="of K1 over the committee, MJ/m³")
    computed: float | None = Field(default=None, description="the ranked quantity, by DFT")
    became: str | None = Field(
        default=None, description="the ordering in which DFT ended, where it left this one: that row has its value"
    )

    @property
    def best(self) -> float | None:
        """DFT's value where there is one, else the model's; None for an ordering that DFT did not keep."""
        if self.became is not None:
            return None
        return self.computed if self.computed is not None else self.predicted


class ScreeningState(Document):
    """One round: models trained, everything predicted, ranked, and what is done next."""

    screening_id: str = Field(description="campaign/round")
    campaign: str
    round: int = Field(description="1 for the first models")
    quantity: Quantity = Field(description="what is ranked, largest first")
    prospects: int = Field(description="orderings looked at")
    crystals: int
    ranking: list[Ranked] = Field(description="the first rows, and all that DFT has computed, best first")
    top: list[str] = Field(description="prospect ids of the first N")
    models: list[str] = Field(description="hashes of the committee")
    runs: dict[str, str] = Field(description="DFT runs so far, failed ones too: prospect id → spin_orbit_key")
    training_keys: list[str] = Field(description="those that models were trained on")
    failed: dict[str, str] = Field(default={}, description="prospect id → why DFT gave nothing")
    held_out: dict[str, float | None] = Field(
        description="spearman, recall, relative_error of predictions against DFT, crystals never trained on; and count"
    )
    overlap: float | None = Field(default=None, description="share of the first N that were there a round before")
    dft_core_seconds: float = Field(description="spent on DFT runs of this campaign so far")
    prediction_seconds: float = Field(description="spent by the models in this round")
    decision: Literal["continue", "stop"]
    reason: str
    chosen: list[str] = Field(default=[], description="prospect ids that DFT computes next")
    created: str = Field(description="ISO 8601 time, UTC")

    @property
    def spin_orbit_keys(self) -> list[str]:
        """Keys of the DFT runs so far, each once."""
        return list(dict.fromkeys(self.runs.values()))


def prospect_id(campaign: str, structure_hash: str) -> str:
    """The key of a prospect."""
    return content_hash(["prospect", campaign, structure_hash])
