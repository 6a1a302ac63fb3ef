"""`mmace worker`: the worker processes of one allocation, a Slurm job or a shell, until its time is out.

One process supervises: it starts workers, ends them before the wall time does, puts their jobs back into the queue,
ends what was cancelled, mends what dead workers elsewhere left, and notes campaigns that are complete.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmace_flows.execution import upkeep
from mmace_flows.execution.allocation_plan import Plan
from mmace_flows.execution.backoff import be_patient, impatient, unreachable
from mmace_flows.execution.delivery import deliver
from mmace_flows.execution.needs import open_campaigns, waiting
from mmace_flows.execution.recovery import recover
from mmace_flows.execution.workers import Workers

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

LOOK_SECONDS = 1.0
CAMPAIGN_SECONDS = 5.0
MEND_SECONDS = 60.0
BAD_STARTS = 3  # workers that end at once with an error before we stop starting more


class Allocation:
    """Carries out a plan. ``say`` gets a line for whatever happens."""

    def __init__(self, stores: Stores, plan: Plan, say: Callable[[str], None]) -> None:
        self.stores, self.plan, self.say = stores, plan, say
        settings = stores.connection.settings
        self.name = os.environ.get("SLURM_JOB_ID") or f"{socket.gethostname()}-{os.getpid()}"
        self.folder = settings.data_dir / "workers" / f"{plan.kind}-{self.name}"
        self.workers = Workers(
            settings, None, self.folder, plan.recipe_dirs, plan.processes, plan.options(), plan.environment
        )
        self._idle_since = time.monotonic()
        self._bad_starts = 0
        self._next_look = self._next_mend = 0.0

    def run(self) -> int:
        """Until there is nothing to take for ``idle_seconds``, or the wall time is nearly out; returns the exit code.

        Interrupted (KeyboardInterrupt passes through), it puts its jobs back first.
        """
        patience = be_patient(self.stores, self.say)
        code: int | None = None
        try:
            while code is None:
                try:
                    code = self._look()
                except Exception as error:
                    if not unreachable(error):
                        raise
                    patience.wait(error)
                    self._next_mend = 0.0
                time.sleep(LOOK_SECONDS)
            return code
        finally:
            impatient()
            self._stop()

    def _look(self) -> int | None:
        """One look; the exit code when it is time to go."""
        now = time.monotonic()
        if self.plan.stop_at is not None and time.time() >= self.plan.stop_at:
            self.say("the wall time is nearly out: stopping, what runs goes back into the queue")
            return 0
        self._look_after_workers()
        if self._bad_starts >= BAD_STARTS:
            self.say(f"workers end right after they start; see {self.folder / 'logs'}")
            return 1
        if now >= self._next_mend:
            self._next_mend = now + MEND_SECONDS
            self._mend()
        if now >= self._next_look:
            self._next_look = now + CAMPAIGN_SECONDS
            upkeep.end_cancelled(self.stores, self.workers)
            self._note_finished()
        campaigns = open_campaigns(self.stores)
        if waiting(self.stores, campaigns, ["READY"], self.plan.offer):
            self._idle_since = now
            self.workers.fill()
        elif not self.workers.alive and now - self._idle_since >= self.plan.idle_seconds:
            # workers that are there wait as long themselves before they end
            self._mend()
            self.say("no job is left that this worker could take")
            return 0
        return None

    def _look_after_workers(self) -> None:
        died = [(slot, code) for slot, code in self.workers.ended() if code != 0]
        for slot, code in died:
            self.say(f"worker {slot} ended with code {code}; see {self.workers.log(slot)}")
        if died and not self._mend():
            self._bad_starts += len(died)
        elif died:
            self._bad_starts = 0

    def _mend(self) -> int:
        """Put back what dead workers held, store what waited on disk, note what is complete; returns jobs put back."""
        deliver(self.stores, self.say)
        mended = 0
        for campaign in upkeep.campaigns_to_mend(self.stores):
            found = recover(
                self.stores,
                campaign,
                others_live=True,
                give_up=lambda firework: upkeep.died_too_often(self.stores, firework),
            )
            mended += len(found.rerun) + len(found.completed) + len(found.given_up)
            for firework in found.rerun:
                self.say(f"job {firework} of {campaign} was cut off and is back in the queue")
            for firework in found.given_up:
                self.say(f"job {firework} of {campaign} ended its worker again and again, and counts as failed")
        self._note_finished()
        return mended

    def _note_finished(self) -> None:
        for campaign in upkeep.note_finished(self.stores):
            self.say(f"campaign {campaign} is complete")

    def _stop(self) -> None:
        """End the workers and put their jobs back, with what was learnt about how long they take."""
        if not self.workers.alive:
            return
        try:
            held = upkeep.held_jobs(self.stores, self.workers.processes())
            self.workers.stop()
            upkeep.note_cut(self.stores, held)
            for campaign in sorted({job.campaign for job in held}):
                recover(self.stores, campaign, others_live=True)
            for job in held:
                self.say(f"job {job.firework} of {job.campaign} was cut off and is back in the queue")
        except Exception as error:
            if not unreachable(error):
                raise
            self.say("the database does not answer: the next worker puts back what ran here")
        finally:
            self.workers.stop()
