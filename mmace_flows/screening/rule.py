"""What a screening campaign computes next, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.screening import Quantity, Ranked

Decision = tuple[Literal["continue", "stop"], str]


class ScreeningRule(Document):
    """What is ranked, how many DFT runs a round may have, and when the ranking counts as stable."""

    quantity: Quantity = Field(default="k1", description="what is ranked, largest first")
    top: int = Field(default=10, ge=1, description="rows of the table that have to be stable")
    initial: int = Field(default=12, ge=2, description="orderings that DFT computes before the first model")
    held_out: int = Field(default=4, ge=0, description="crystals that DFT computes and no model is trained on")
    best: int = Field(default=4, ge=0, description="orderings per round for DFT: those ranked first")
    uncertain: int = Field(
        default=2, ge=0, description="orderings per round for DFT: those with the largest spread, of new crystals first"
    )
    stable: float = Field(default=0.9, ge=0.0, le=1.0, description="share of the top that must stay for the end")
    confirmed: bool = Field(default=True, description="the end needs DFT for every row of the top that it can compute")
    min_rounds: int = Field(default=2, ge=1, description="rounds made whatever the ranking")
    max_rounds: int = Field(default=4, ge=1, description="rounds at most")
    max_runs: int = Field(default=200, ge=2, description="DFT runs at most: the budget")
    seed: int = Field(default=0, ge=0, description="of the choice of the first and of the held-out crystals")

    @model_validator(mode="after")
    def _something_to_train_on(self) -> ScreeningRule:
        if self.max_runs < self.held_out + 2:
            raise ValueError(
                f"max_runs {self.max_runs} leaves fewer than two runs to train on beside {self.held_out} held-out "
                f"crystals; give max_runs {self.held_out + 2} at least, or a smaller held_out"
            )
        return self

    def decide(self, number: int, overlap: float | None, runs: int, left: int, guesses: int = 0) -> Decision:
        """Go on or stop after round ``number``.

        Parameters: ``overlap`` share of the top that stayed; ``runs`` DFT runs so far; ``left`` prospects that DFT has
        not computed; ``guesses`` rows of the top that only the models vouch for, though DFT could.
        """
        stayed = "" if overlap is None else f"{100 * overlap:.0f} % of the top {self.top} stayed"
        if guesses:
            stayed += f"{', ' if stayed else ''}{guesses} of them not computed by DFT"
        if left == 0:
            return "stop", "DFT has computed every ordering"
        if runs >= self.max_runs:
            return "stop", f"the budget of {self.max_runs} DFT runs is spent"
        if self.best + self.uncertain == 0:
            return "stop", "no DFT runs per round are asked for"
        if number < self.min_rounds:
            return "continue", f"round {number} of at least {self.min_rounds}"
        if overlap is not None and overlap >= self.stable and not (self.confirmed and guesses):
            return "stop", f"{stayed}: the ranking is stable"
        if number >= self.max_rounds:
            return "stop", f"last of {self.max_rounds} rounds{stayed and '; '}{stayed}"
        return "continue", stayed or "nothing to compare with yet"

    def choose(self, ranking: Sequence[Ranked], runs: int) -> list[str]:
        """Prospect ids for DFT, within the budget: the best that it has not computed, then the most uncertain ones.

        Of the latter, crystals of which DFT has computed nothing go first: a model that never saw one may be wrong
        about it, and sure all the same.
        """
        allowed = max(0, min(self.best + self.uncertain, self.max_runs - runs))
        rows = [row for row in ranking if row.computed is None and not row.held_out and row.predicted is not None]
        best = sorted(rows, key=lambda row: -(row.predicted or 0.0))[: min(self.best, allowed)]
        taken = {row.prospect_id for row in best}
        seen = {row.crystal for row in ranking if row.computed is not None or row.prospect_id in taken}
        chosen = [row.prospect_id for row in best]
        rest = sorted((row for row in rows if row.prospect_id not in taken), key=lambda row: -(row.spread or 0.0))
        while rest and len(chosen) < allowed:
            row = next((row for row in rest if row.crystal not in seen), rest[0])
            rest.remove(row)
            seen.add(row.crystal)
            chosen.append(row.prospect_id)
        return chosen


def split_crystals(crystals: Sequence[str], rule: ScreeningRule) -> tuple[list[str], list[str]]:
    """Crystals (each once) that are held out, and the others in the order in which DFT takes them first.

    By a hash with the seed: the order of the list decides nothing.
    """
    ordered = sorted(dict.fromkeys(crystals), key=lambda crystal: content_hash(["screening", rule.seed, crystal]))
    held = min(rule.held_out, max(0, len(ordered) - 2))
    return ordered[:held], ordered[held:]
