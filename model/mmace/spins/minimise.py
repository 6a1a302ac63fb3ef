"""Many bounded minimisations side by side: limited-memory BFGS with a trust radius, one function call for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MEMORY = 8  # pairs of steps and gradient changes kept
ARMIJO = 1e-4  # share of the expected decrease that a step must bring
SMALLEST_STEP = 1e-10  # of the trust radius; a shorter step that still fails means that rounding errors rule


@dataclass
class Problem:
    """S independent minimisations whose variables stand in rows of one array x [N,d].

    ``group`` [N]: which minimisation a row belongs to. ``evaluate(x, active [S])`` gives values [S] and the gradient
    [N,d]; those of inactive groups do not matter.
    """

    initial: np.ndarray
    low: np.ndarray
    high: np.ndarray
    group: np.ndarray
    groups: int
    evaluate: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Scalar product per group [S]."""
        return np.bincount(self.group, (a * b).sum(1), minlength=self.groups)

    def largest(self, a: np.ndarray) -> np.ndarray:
        """Largest magnitude per group [S]."""
        out = np.zeros(self.groups)
        np.maximum.at(out, self.group, np.abs(a).max(1))
        return out


@dataclass
class Minimum:
    """Where each minimisation ended."""

    x: np.ndarray  # [N,d]
    values: np.ndarray  # [S]
    converged: np.ndarray  # [S]
    evaluations: np.ndarray  # [S]
    gradients: np.ndarray  # [S] largest component that no bound holds back
    messages: list[str]


def minimise(problem: Problem, tolerance: float, max_evaluations: int, trust_radius: float) -> Minimum:
    """Minimise all groups until the gradient is below ``tolerance`` in each.

    No component moves further than ``trust_radius`` in one step, nor out of its bounds. A value that is not finite
    counts as a failed step.
    """
    x = problem.initial.copy()
    active = np.ones(problem.groups, dtype=bool)
    values, gradient = problem.evaluate(x, active)
    evaluations = np.ones(problem.groups, dtype=int)
    messages = ["converged"] * problem.groups
    steps: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    rates: list[np.ndarray] = []  # 1/(s·y) per group, 0 where a pair is not used
    shrink = np.ones(problem.groups)
    direction = np.zeros_like(x)
    fresh = active.copy()  # groups that need a new direction
    while True:
        held = ((x <= problem.low) & (gradient > 0)) | ((x >= problem.high) & (gradient < 0))
        pull = np.where(held, 0.0, gradient)
        gradients = problem.largest(pull)
        for number in np.flatnonzero(active & (gradients > tolerance)):
            if evaluations[number] >= max_evaluations:
                messages[number] = (
                    f"not converged after {evaluations[number]} evaluations: "
                    f"gradient {gradients[number]:.2e} > {tolerance:.2e}"
                )
                active[number] = False
            elif shrink[number] < SMALLEST_STEP:
                messages[number] = f"stalled: gradient {gradients[number]:.2e} > {tolerance:.2e}, no step goes down"
                active[number] = False
        active &= gradients > tolerance
        if not active.any():
            return Minimum(x, values, gradients <= tolerance, evaluations, gradients, messages)
        renew = (fresh & active)[problem.group]
        proposed = _direction(problem, pull, steps, changes, rates)
        proposed = np.where(held, 0.0, proposed)
        uphill = problem.dot(proposed, pull) >= 0.0
        proposed = np.where(uphill[problem.group][:, None], -pull, proposed)
        reach = problem.largest(proposed)
        # without history the gradient has no length of its own: begin with a tenth of the trust radius
        limit = np.where(uphill | (len(steps) == 0), 0.1 * trust_radius, trust_radius)
        proposed *= np.minimum(1.0, limit / np.maximum(reach, 1e-300))[problem.group][:, None]
        direction = np.where(renew[:, None], proposed, direction)
        moving = active[problem.group][:, None]
        trial = np.clip(
            x + np.where(moving, shrink[problem.group][:, None] * direction, 0.0), problem.low, problem.high
        )
        trial_values, trial_gradient = problem.evaluate(trial, active)
        evaluations[active] += 1
        expected = problem.dot(trial - x, gradient)
        with np.errstate(invalid="ignore"):
            accepted = active & (trial_values <= values + ARMIJO * expected + 1e-14 * np.abs(values))
        take = accepted[problem.group][:, None]
        step = np.where(take, trial - x, 0.0)
        change = np.where(take, trial_gradient - gradient, 0.0)
        curvature = problem.dot(step, change)
        useful = curvature > 1e-10 * problem.dot(step, step)
        steps.append(step)
        changes.append(change)
        rates.append(np.where(useful, 1.0 / np.where(useful, curvature, 1.0), 0.0))
        del steps[:-MEMORY], changes[:-MEMORY], rates[:-MEMORY]
        x = np.where(take, trial, x)
        gradient = np.where(take, trial_gradient, gradient)
        values = np.where(accepted, trial_values, values)
        shrink = np.where(accepted, 1.0, np.where(active, 0.3 * shrink, shrink))
        fresh = accepted


def _direction(
    problem: Problem,
    gradient: np.ndarray,
    steps: list[np.ndarray],
    changes: list[np.ndarray],
    rates: list[np.ndarray],
) -> np.ndarray:
    """Two-loop recursion, for all groups at once."""
    rows = problem.group
    q = gradient.copy()
    used = []
    for s, y, rate in zip(reversed(steps), reversed(changes), reversed(rates), strict=True):
        alpha = rate * problem.dot(s, q)
        q -= alpha[rows][:, None] * y
        used.append(alpha)
    if steps:
        # scale by the newest curvature that each group has
        scale = np.ones(problem.groups)
        seen = np.zeros(problem.groups, dtype=bool)
        for y, rate in zip(reversed(changes), reversed(rates), strict=True):
            new = (rate > 0) & ~seen
            scale = np.where(new, 1.0 / np.maximum(rate * problem.dot(y, y), 1e-300), scale)
            seen |= new
        q *= scale[rows][:, None]
    for (s, y, rate), alpha in zip(zip(steps, changes, rates, strict=True), reversed(used), strict=True):
        beta = rate * problem.dot(y, q)
        q += (alpha - beta)[rows][:, None] * s
    return -q
