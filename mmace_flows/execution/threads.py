"""One thread per process where cores are shared out by processes, and where matrices are too small for more."""

from __future__ import annotations

from collections.abc import MutableMapping

SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def default_to_one_thread(environment: MutableMapping[str, str]) -> None:
    """One thread for linear algebra, unless the user has set a number; before numpy is imported, which reads it."""
    if not any(name in environment for name in SINGLE_THREADED):
        environment.update(dict.fromkeys(SINGLE_THREADED, "1"))
