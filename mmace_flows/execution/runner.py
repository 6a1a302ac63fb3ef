"""Run a submitted campaign to its end: workers, progress, recovery."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mmace.errors import UserError
from mmace_flows.execution import queue
from mmace_flows.execution.backoff import be_patient, impatient, unreachable
from mmace_flows.execution.campaign import sign_of_life
from mmace_flows.execution.delivery import deliver
from mmace_flows.execution.display import Display, event_line
from mmace_flows.execution.needs import open_campaigns
from mmace_flows.execution.progress import Progress, ProgressReader, duration, pause
from mmace_flows.execution.queue import DONE, FAILED, SKIPPED, UNFINISHED
from mmace_flows.execution.recovery import CHECKOUT, DEATHS, Recovered, recover
from mmace_flows.execution.upkeep import end_cancelled
from mmace_flows.execution.workers import Workers

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign

LOOK_SECONDS = 0.5
SIGN_OF_LIFE_SECONDS = 10.0
CANCEL_SECONDS = 3.0
OTHER_MACHINES_SECONDS = 60.0
BAD_STARTS = 3  # workers that end at once, without a job, before we stop starting more


class Runner:
    """Keeps workers busy with one campaign and shows what happens. For the holder of the campaign's run lock."""

    def __init__(self, stores: Stores, campaign: Campaign, display: Display, recipe_dir: Path | None, workers: int):
        self.stores, self.campaign, self.display = stores, campaign, display
        self.name = campaign.campaign
        folder = stores.campaign_folder(self.name)
        recipes = [recipe_dir] if recipe_dir is not None else []
        self.workers = Workers(stores.connection.settings, self.name, folder, recipes, workers)
        self.reader = ProgressReader(stores, self.name, campaign.estimate, workers)
        self._deaths: Counter[int] = Counter()  # by firework
        self._bad_starts = 0
        self._results: dict[str, str] = {}  # by job name: the line that tells its result, until the job has ended
        self._announced: set[tuple[int, str]] = set()
        self._next_sign = self._next_cancel = 0.0
        self.closed = False  # paused or cancelled
        # workers of other machines are lost in silence, so a shared server is looked at regularly
        self._shared = stores.connection.embedded is None
        self._next_recovery = time.monotonic() + OTHER_MACHINES_SECONDS if self._shared else math.inf

    def prepare(self) -> None:
        """Mend what an interrupted run left, and give failed jobs one more try."""
        self.workers.end_leftovers()
        deliver(self.stores, self.display.line)
        found = recover(self.stores, self.name)
        # those that Ctrl-C put back are in the queue already, before failed ones join them there
        interrupted = {*found.rerun, *queue.interrupted(self.stores, self.name)}
        failed = queue.rerun_failed(self.stores, self.name)
        progress = self.reader.read()
        self._announced = {(job.firework, job.state) for job in progress.jobs if job.state in DONE | SKIPPED}
        self.reader.new_events()
        done = progress.count(DONE)
        if done or interrupted:
            self.display.line(resume_line(done, len(interrupted)))
        for job in failed:
            self.display.line(f"{job.name}: failed before, tried once more")

    def run(self) -> Progress:
        """Until no job is left that could run; returns where the campaign then stands. Raises UserError.

        Waits for a database that is gone, as the workers do.
        """
        patience = be_patient(self.stores, self.display.line)
        outage: Exception | None = None
        try:
            while True:
                began = time.monotonic()
                try:
                    if outage is not None:
                        patience.wait(outage)
                        outage = None
                        self._after_outage()
                    progress = self._look()
                except Exception as error:
                    if not unreachable(error):
                        raise
                    outage = error
                    continue
                if progress is not None:
                    return progress
                pause(began, LOOK_SECONDS)
        finally:
            impatient()
            self.workers.stop()

    def _look(self) -> Progress | None:
        """One look at queue and workers; the final state if nothing is left to do."""
        progress = self.reader.read()
        self._announce(progress)
        self.display.show(progress)
        self._look_after_workers()
        self.closed = not open_campaigns(self.stores, self.name)
        if progress.count(UNFINISHED) and not self.closed:
            self.workers.fill()
        elif self.workers.alive == 0:
            # states may have been read while a job's end was being written: look again, at rest
            recover(self.stores, self.name)
            progress = self.reader.read()
            self._announce(progress)
            self.display.show(progress)
            if self.closed or not progress.count(UNFINISHED):
                return progress
        self._periodic()
        return None

    def _after_outage(self) -> None:
        """Store what waited on disk, put back what was cut off, and look once more when workers had time to go on."""
        deliver(self.stores, self.display.line)
        self._recover()
        self._next_recovery = time.monotonic() + CHECKOUT.total_seconds()

    def interrupted(self) -> None:
        """After the workers were stopped in the middle of their jobs: put those back into the queue."""
        try:
            recover(self.stores, self.name)
        except Exception as error:
            if not unreachable(error):
                raise
            self.display.line("the database does not answer: `mmace resume` will put interrupted jobs back")

    def _announce(self, progress: Progress) -> None:
        """A line for each job that ended and each event since the last look."""
        for event in self.reader.new_events():
            if event["data"].get("ends_job"):  # shown when the queue knows the end too: one line instead of two
                self._results[event["data"]["ends_job"]] = event_line(event)
            else:
                self.display.line(event_line(event))
        finished = progress.count(DONE)
        for job in progress.jobs:
            key = (job.firework, job.state)
            if key in self._announced or job.state not in DONE | FAILED:
                continue
            self._announced.add(key)
            result = self._results.pop(job.name, None)
            if job.state in FAILED:
                self.display.line(f"{job.name}: failed: {queue.failure_message(self.stores, job.firework)}", "bold red")
                continue
            self._bad_starts = 0
            total = sum(stage.total for stage in progress.stages)
            line = result or f"{job.name}: done in {duration(self.reader.runtime(job.firework))}"
            self.display.line(f"{line}  ({finished}/{total})")

    def _look_after_workers(self) -> None:
        """Put the jobs of workers that died back into the queue. Raises UserError if workers do not even start."""
        died = [(slot, code) for slot, code in self.workers.ended() if code != 0]
        if not died:
            return
        found = self._recover()
        for slot, code in died:
            self.display.line(f"worker {slot} ended with code {code}; see {self.workers.log(slot)}", "bold red")
        if found.rerun or found.given_up or found.completed:
            self._bad_starts = 0
            return
        self._bad_starts += len(died)
        if self._bad_starts >= BAD_STARTS:
            log = self.workers.log(died[-1][0])
            last = _last_line(log)
            raise UserError(f"workers end right after they start ({last}); see {log}")

    def _gives_up(self, firework: int) -> bool:
        self._deaths[firework] += 1
        return self._deaths[firework] >= DEATHS

    def _recover(self) -> Recovered:
        """Mend the queue while workers work, and see to it that what could not be decided is looked at again."""
        found = recover(self.stores, self.name, others_live=True, give_up=self._gives_up)
        self._next_recovery = time.monotonic() + OTHER_MACHINES_SECONDS if self._shared else math.inf
        if found.undecided:
            self._next_recovery = time.monotonic() + CHECKOUT.total_seconds()
        return found

    def _periodic(self) -> None:
        now = time.monotonic()
        if now >= self._next_sign:
            self._next_sign = now + SIGN_OF_LIFE_SECONDS
            sign_of_life(self.stores, self.name)
        if now >= self._next_cancel:
            self._next_cancel = now + CANCEL_SECONDS
            for job in end_cancelled(self.stores, self.workers):
                self.display.line(f"job {job.firework} was cancelled")
        if now >= self._next_recovery:
            self._recover()


def resume_line(done: int, interrupted: int) -> str:
    """What a resumed campaign begins with, in words."""
    already = f"{done} job is" if done == 1 else f"{done} jobs are"
    if not interrupted:
        return f"{already} done already"
    again = "1 interrupted job starts" if interrupted == 1 else f"{interrupted} interrupted jobs start"
    return f"{already} done already, {again} again"


def _last_line(log: Path) -> str:
    """Last line of a log that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
