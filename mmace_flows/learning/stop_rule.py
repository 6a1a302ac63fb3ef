"""When the loop ends: a decision with its reason in words."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmace_flows.schemas.loop import BranchErrors
from mmace_flows.schemas.structure import Document

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
        """Go on or stop after ``iteration``.

        Parameters: ``test`` errors of this model on the test set; ``fresh`` errors of the model before on the labels
        that its own sampling brought: small ones say that there is nothing new to learn there.
        """
        misses = self._misses(test, "test set") + self._misses(fresh or {}, "fresh labels")
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

    def _misses(self, errors: dict[str, BranchErrors], where: str) -> list[str]:
        """One phrase per branch and quantity that is over tolerance."""
        misses = []
        for branch, error in errors.items():
            if branch == "all":
                continue
            if error.energy_rmse is not None and not error.energy_rmse <= self.energy_rmse:
                misses.append(f"{branch} energy {1000 * error.energy_rmse:.1f} meV/atom ({where})")
            if error.forces_rmse is not None and not error.forces_rmse <= self.forces_rmse:
                misses.append(f"{branch} forces {1000 * error.forces_rmse:.0f} meV/Å ({where})")
        return misses
