"""Where a campaign stands: jobs per stage against the estimate, time left, the newest events."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mmace_flows.execution import queue
from mmace_flows.execution.queue import DONE, FAILED, RUNNING, SKIPPED, QueuedJob, stage_of

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import CostEstimate

CORE_DAY = 86400.0  # seconds
LOOK_SHARE = 0.1  # of the time, for looking at campaigns with very many jobs
LONGEST_PAUSE = 20.0  # seconds between two looks: one that hung on a silent line says nothing about the next
LOOK_BACK = timedelta(seconds=10)


@dataclass
class Stage:
    """Counts of one stage."""

    name: str
    expected: int = 0  # by the estimate
    seconds_per_job: float | None = None  # by the estimate
    done: int = 0
    running: int = 0
    failed: int = 0
    waiting: int = 0
    measured: list[float] = field(default_factory=list)  # seconds of finished jobs

    @property
    def total(self) -> int:
        """Jobs of this stage, as far as anybody knows: jobs that are still to be made come from the estimate."""
        return max(self.expected, self.done + self.running + self.failed + self.waiting)

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.total - self.done - self.failed


@dataclass
class Progress:
    """One look at a campaign."""

    stages: list[Stage]
    jobs: list[QueuedJob]
    seconds_left: float | None  # None: nothing to judge by
    core_seconds: float = 0.0  # of finished jobs

    def count(self, states: Iterable[str]) -> int:
        """Jobs in these states."""
        wanted = set(states)
        return sum(job.state in wanted for job in self.jobs)

    @property
    def failed(self) -> list[QueuedJob]:
        """Jobs that raised."""
        return [job for job in self.jobs if job.state in FAILED]

    @property
    def complete(self) -> bool:
        """Every job that exists has ended well."""
        return bool(self.jobs) and all(job.state in DONE | SKIPPED for job in self.jobs)


def pause(began: float, least: float) -> None:
    """Sleep until the next look at a campaign, after one that began at this time of `time.monotonic`.

    ``least``: seconds; longer where a look takes long.
    """
    took = time.monotonic() - began
    time.sleep(max(least, min(took / LOOK_SHARE - took, LONGEST_PAUSE)))


class ProgressReader:
    """Looks at the same campaign again and again, asking for each job's runtime only once."""

    def __init__(self, stores: Stores, campaign: str, estimate: CostEstimate | None, workers: int) -> None:
        self.stores, self.campaign, self.estimate, self.workers = stores, campaign, estimate, workers
        self._runtimes: dict[int, float] = {}
        self._seen: set[Any] | None = None
        self._looked = stores.now()

    def read(self) -> Progress:
        """Where it stands now."""
        found = queue.jobs(self.stores, self.campaign)
        new = [job.firework for job in found if job.state in DONE and job.firework not in self._runtimes]
        if new:
            self._runtimes.update(dict.fromkeys(new, 0.0) | queue.runtimes(self.stores, new))
        return summarise(found, self.estimate, self._runtimes, self.workers)

    def runtime(self, firework: int) -> float:
        """Seconds that a finished job took."""
        return self._runtimes.get(firework, 0.0)

    def new_events(self) -> list[dict[str, Any]]:
        """Events since the last call; the first call gives none and starts counting."""
        from bson import ObjectId

        # identifiers that several processes make within seconds are not in order: look back, skip what is seen
        since = ObjectId.from_datetime(self._looked - LOOK_BACK)
        looked = self.stores.now()
        query = {"campaign": self.campaign, "_id": {"$gte": since}}
        events = list(self.stores.collection("events").find(query).sort("_id", 1))
        first, new = self._seen is None, [event for event in events if event["_id"] not in (self._seen or ())]
        self._seen = {event["_id"] for event in events}
        self._looked = looked
        return [] if first else new


def summarise(
    jobs: list[QueuedJob], estimate: CostEstimate | None, runtimes: dict[int, float], workers: int
) -> Progress:
    """Count jobs by stage and judge the time left. ``runtimes``: seconds of finished jobs, by firework."""
    stages = {
        one.stage: Stage(one.stage, expected=one.jobs, seconds_per_job=one.core_seconds_per_job)
        for one in (estimate.stages if estimate else [])
    }
    for job in jobs:
        stage = stages.setdefault(stage_of(job.name), Stage(stage_of(job.name)))
        if job.state in DONE | SKIPPED:
            stage.done += 1
            if job.state in DONE:
                stage.measured.append(runtimes.get(job.firework, 0.0))
        elif job.state in RUNNING:
            stage.running += 1
        elif job.state in FAILED:
            stage.failed += 1
        else:
            stage.waiting += 1
    spent = sum(runtimes.get(job.firework, 0.0) * job.cores for job in jobs if job.state in DONE)
    return Progress(list(stages.values()), jobs, _seconds_left(list(stages.values()), workers), spent)


def _seconds_left(stages: list[Stage], workers: int) -> float | None:
    """Wall time until the end: measured times where a stage has them, else the estimate corrected by what was seen."""
    spent = sum(sum(stage.measured) for stage in stages if stage.seconds_per_job)
    expected = sum(len(stage.measured) * stage.seconds_per_job for stage in stages if stage.seconds_per_job)
    correction = spent / expected if expected > 0 and spent > 0 else 1.0
    total, known = 0.0, False
    for stage in stages:
        if stage.left <= 0:
            continue
        if stage.measured:
            each = sum(stage.measured) / len(stage.measured)
        elif stage.seconds_per_job is not None:
            each = stage.seconds_per_job * correction
        else:
            continue
        known = True
        # jobs of one stage run side by side, one stage after the other; a running job is half done on average
        total += (stage.left - 0.5 * stage.running) * each / min(workers, stage.left)
    return total if known else None


def duration(seconds: float) -> str:
    """``41 s``, ``12 min``, ``3 h 05 min``, ``2 days 4 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} days {hours % 24} h"


def cost_lines(estimate: CostEstimate, workers: int) -> list[str]:
    """The estimate in words: one line per stage, and a sum."""
    lines = [
        f"  {one.stage:<24} {one.jobs:>5} jobs × {duration(one.core_seconds_per_job):>10} on one core"
        for one in estimate.stages
    ]
    wall = sum(one.core_seconds_per_job * -(-one.jobs // workers) for one in estimate.stages)
    hours = estimate.core_seconds / 3600
    size = f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"
    lines.append(
        f"  in all {sum(one.jobs for one in estimate.stages)} jobs, {size} core-hours; "
        f"about {duration(wall)} with {workers} worker{'s' if workers > 1 else ''}"
    )
    return lines
