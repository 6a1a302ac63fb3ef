"""How good a ranking is, measured on crystals that no model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spearman(predicted: Sequence[float], computed: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None for fewer than three pairs or where one side is constant."""
    from scipy.stats import spearmanr

    if len(predicted) < 3 or np.ptp(predicted) == 0.0 or np.ptp(computed) == 0.0:
        return None
    return float(spearmanr(predicted, computed).statistic)


def recall(predicted: Sequence[float], computed: Sequence[float], share: float = 0.2) -> float | None:
    """Share of the truly best that stand among as many predicted best; "best" is the first ``share``, at least one.

    None for fewer than three pairs.
    """
    if len(predicted) < 3:
        return None
    count = max(1, round(share * len(predicted)))
    best = set(np.argsort(computed)[::-1][:count].tolist())
    found = set(np.argsort(predicted)[::-1][:count].tolist())
    return len(best & found) / count


def relative_error(predicted: Sequence[float], computed: Sequence[float], floor: float) -> float | None:
    """Mean of |p − c| / (|c| + ``floor``); None without pairs."""
    if not len(predicted):
        return None
    first, second = np.asarray(predicted), np.asarray(computed)
    return float(np.mean(np.abs(first - second) / (np.abs(second) + floor)))


def overlap(now: Sequence[str], before: Sequence[str]) -> float | None:
    """Share of ``now`` that is in ``before`` too; None where there was nothing before."""
    if not now or not before:
        return None
    return len(set(now) & set(before)) / len(set(now))
