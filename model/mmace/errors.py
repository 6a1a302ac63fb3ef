"""Errors that a user can mend: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave is wrong. The message names the file, the field and the mend, on one line."""


class SaidElsewhere(UserError):
    """Raised in the other processes of a run for what one of them reports: nobody need hear it twice."""


def unknown_key_message(key: str, allowed: Iterable[str], where: str) -> str:
    """One line that names an unknown key and the nearest right one.

    Parameters: ``key`` as given, ``allowed`` the right keys, ``where`` the file or section it stands in.
    """
    allowed = sorted(allowed)
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(allowed)}"
    return f"{where}: unknown setting '{key}'; {hint}"
