"""Stored force-theorem runs, read by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmace.errors import UserError
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument


def read_runs(store: Any, keys: Sequence[str]) -> list[SpinOrbitDocument]:
    """The documents of a maggma ``store`` in the order of ``keys``. Raises UserError if one is not in the store."""
    found = {
        one["spin_orbit_key"]: SpinOrbitDocument.from_store(one)
        for one in store.query({"spin_orbit_key": {"$in": list(keys)}})
    }
    missing = [key for key in keys if key not in found]
    if missing:
        raise UserError(f"{len(missing)} force-theorem runs are not in the database; the first is {missing[0]}")
    return [found[key] for key in keys]
