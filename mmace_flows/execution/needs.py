"""What a worker offers, and which jobs of the queue it may therefore take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

# Estimates are estimates: a job is started if it fits with this much to spare
SPARE_FACTOR = 1.2
SPARE_SECONDS = 20.0


@dataclass(frozen=True)
class Offer:
    """One worker process's categories, cores, memory and end; None: no limit, takes every job."""

    categories: tuple[str, ...] = ()  # empty: all
    cores: int | None = None
    memory_gb: float | None = None
    until: float | None = None  # time.time() at which the worker has to be gone

    @property
    def seconds_left(self) -> float | None:
        """Wall time until the end."""
        return None if self.until is None else self.until - time.time()

    def query(self) -> dict[str, Any]:
        """Condition on fireworks: jobs that this worker can serve, and finish in the time that is left.

        Jobs that say nothing of their needs (not submitted by us) fit everywhere.
        """
        query: dict[str, Any] = {}
        if self.categories:
            query["spec._category"] = {"$in": [*self.categories, None]}
        limits: dict[str, float | None] = {"cores": self.cores, "memory_gb": self.memory_gb}
        left = self.seconds_left
        limits["least_seconds"] = None if left is None else (left - SPARE_SECONDS) / SPARE_FACTOR
        conditions = [
            {"$or": [{f"spec.needs.{field}": {"$lte": limit}}, {f"spec.needs.{field}": None}]}
            for field, limit in limits.items()
            if limit is not None
        ]
        return query | ({"$and": conditions} if conditions else {})


def open_campaigns(stores: Stores, only: str | None = None) -> list[str]:
    """Campaigns whose jobs may be taken: in the queue, neither paused nor cancelled nor finished.

    ``only``: just this one; it need not have a document.
    """
    closed = {"$or": [{"details.paused": {"$ne": None}}, {"details.cancelled": {"$ne": None}}]}
    campaigns = stores.collection("campaigns")
    if only is not None:
        return [] if campaigns.count_documents({"campaign": only, **closed}, limit=1) else [only]
    # while a campaign is being submitted its jobs are there before its workflow is
    wanted = {"firework_ids.0": {"$exists": True}, "finished": None, "$nor": [closed]}
    return [one["campaign"] for one in campaigns.find(wanted, {"campaign": 1}).sort("created", 1)]


def waiting(stores: Stores, campaigns: Sequence[str], states: Sequence[str], offer: Offer | None = None) -> bool:
    """Whether a job of these campaigns is in one of these states, and fits the offer."""
    if not campaigns:
        return False
    query = {"spec.campaign": {"$in": list(campaigns)}, "state": {"$in": list(states)}}
    return stores.fireworks.find_one(query | (offer.query() if offer else {}), {"_id": 1}) is not None
