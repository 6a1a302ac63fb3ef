"""What a campaign's jobs name in their outputs: results found in the store keep the campaign that computed them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

LABELS = frozenset({"label_key", "label_keys", "labels"})
SPIN_ORBIT = frozenset({"spin_orbit_key", "spin_orbit_keys"})


def keys_in_outputs(stores: Stores, campaign: str, fields: Collection[str]) -> list[str]:
    """Keys that stand under one of ``fields`` (`LABELS`, `SPIN_ORBIT`) in outputs of ``campaign``'s jobs, sorted."""
    found: set[str] = set()
    for document in stores.jobs.docs_store.query({"metadata.campaign": campaign}, properties=["output"]):
        found.update(_keys(document.get("output"), fields, False))
    return sorted(found)


def _keys(value: Any, fields: Collection[str], named: bool) -> Iterator[str]:
    if isinstance(value, str):
        if named:
            yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _keys(one, fields, name in fields)
    elif isinstance(value, list):
        for one in value:
            yield from _keys(one, fields, named)
