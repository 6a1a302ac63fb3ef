"""When the loop ends: a decision with its reason in words."""

from __future__ import annotations

from math import inf, isnan
from typing import Literal

from pydantic import Field

from mmace_flows.schemas.document import Document
from mmace_flows.schemas.loop import BranchErrors

BRIEF_MISSES = 2  # named in the short form of a reason

Decision = tuple[Literal["continue", "stop"], str]


class StopRule(Document):
    """Tolerances on the test errors, and how many iterations at least and at most."""

    energy_rmse: float = Field(default=0.010, gt=0.0, description="of every branch of the test set, eV per atom")
    forces_rmse: float = Field(default=0.10, gt=0.0, description="of every branch of the test set, eV/Å")
    min_iterations: int = Field(default=2, ge=1, description="iterations made whatever the errors")
    max_iterations: int = Field(default=3, ge=1, description="iterations made at most")

    def decide(
        self, iteration: int, test: dict[str, BranchErrors], fresh: dict[str, BranchErrors] | None = None
    ) -> Decision:
        """Go on or stop after ``iteration``; the reason names every miss, the worst first.

        Parameters: ``test`` errors of this model on the test set; ``fresh`` errors of the model before on the labels
        that its own sampling brought: small ones say that there is nothing new to learn there.
        """
        found = self._misses(test, "test set") + self._misses(fresh or {}, "fresh labels")
        misses = [phrase for _, phrase in sorted(found, key=lambda miss: -miss[0])]
        if iteration < self.min_iterations:
            return "continue", f"iteration {iteration} of at least {self.min_iterations}"
        if not test:
            misses.append("there is no test set")
        if not misses:
            return "stop", (
                f"every branch is within {1000 * self.energy_rmse:g} meV/atom and {1000 * self.forces_rmse:g} meV/Å"
            )
        if iteration >= self.max_iterations:
            return "stop", f"last of {self.max_iterations} iterations; still over tolerance: {'; '.join(misses)}"
        return "continue", "over tolerance: " + "; ".join(misses)

    def _misses(self, errors: dict[str, BranchErrors], where: str) -> list[tuple[float, str]]:
        """Per branch and quantity that is over tolerance: how many times over, and a phrase."""
        misses = []
        for branch, error in errors.items():
            if branch == "all":
                continue
            if error.energy_rmse is not None and not error.energy_rmse <= self.energy_rmse:
                phrase = f"{branch} energy {1000 * error.energy_rmse:.1f} meV/atom ({where})"
                misses.append((_times(error.energy_rmse, self.energy_rmse), phrase))
            if error.forces_rmse is not None and not error.forces_rmse <= self.forces_rmse:
                phrase = f"{branch} forces {1000 * error.forces_rmse:.0f} meV/Å ({where})"
                misses.append((_times(error.forces_rmse, self.forces_rmse), phrase))
        return misses


def brief_reason(reason: str) -> str:
    """A reason of `StopRule.decide` with its worst two misses only, for one line of the display."""
    head, over, listed = reason.partition("over tolerance: ")
    misses = listed.split("; ")
    more = len(misses) - BRIEF_MISSES
    return reason if more <= 0 else f"{head}{over}{'; '.join(misses[:BRIEF_MISSES])}; and {more} more"


def _times(error: float, tolerance: float) -> float:
    """error / tolerance; an error that is not a number is the worst."""
    return inf if isnan(error) else error / tolerance
