"""Failures of GPAW that are results and no errors of the program, as one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def failures(max_iterations: int) -> Iterator[list[str]]:
    """A list that is empty after the block, or holds the one line that says why GPAW gave up in it."""
    from gpaw import KohnShamConvergenceError
    from gpaw.utilities import AtomsTooClose

    reasons: list[str] = []
    try:
        yield reasons
    except AtomsTooClose as error:
        reasons.append(f"atoms too close: {one_line(error)}")
    except KohnShamConvergenceError:
        reasons.append(f"SCF not converged in {max_iterations} iterations")
    except (np.linalg.LinAlgError, FloatingPointError) as error:
        reasons.append(f"SCF broke down: {one_line(error)}")
    except ValueError as error:
        if "NaN" not in str(error):
            raise
        reasons.append(f"SCF broke down: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """What an error says, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
