"""What a worker does around one job so that neither a lost database nor a full disk costs a result."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from mmace_flows.execution import backoff
from mmace_flows.execution.backoff import wait_for_room

if TYPE_CHECKING:
    from fireworks import FWorker

    from mmace_flows.execution.stores import Stores


def say(text: str) -> None:
    """A line of the worker's log."""
    print(f"{datetime.now():%H:%M:%S}  {text}", flush=True)


class Forgiving:
    """A stream for a log on a disk that may be full: a line that cannot be written is no reason to lose a job."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's; never raises OSError."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As the stream's; never raises OSError."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_patiently() -> Stores:
    """The stores, with a process that waits for its database from now on; results that wait on disk are stored first.

    Raises UserError for what waiting does not mend.
    """
    from mmace_flows.execution.connection import Unreachable
    from mmace_flows.execution.delivery import deliver
    from mmace_flows.execution.stores import open_stores

    sys.stdout, sys.stderr = Forgiving(sys.stdout), Forgiving(sys.stderr)  # type: ignore[assignment]
    for pause in backoff.pauses():
        try:
            stores = open_stores()
            break
        except Unreachable as error:
            say(f"{error}; tried again in {pause:.0f} s")
            time.sleep(pause)
    backoff.be_patient(stores, say)
    backoff.reading(lambda: deliver(stores, say))
    return stores


def run_one(stores: Stores, worker: FWorker) -> bool:
    """Take one job that suits the worker and run it; False if there was none.

    A job that was being taken when the database was lost goes back into the queue.
    """
    from fireworks.core.rocket_launcher import launch_rocket

    from mmace_flows.execution.quick_refresh import JobGone

    patience = backoff.patience()
    try:
        return bool(launch_rocket(stores.launchpad, worker, strm_lvl="INFO"))
    except JobGone as gone:
        say(str(gone))
        return True
    except Exception as error:
        if patience is None or not (backoff.unreachable(error) or backoff.disk_full(error)):
            raise
        if backoff.disk_full(error):
            wait_for_room(patience)
        else:
            patience.wait(error)
    backoff.reading(lambda: _mend(stores, worker))
    return True


def _mend(stores: Stores, worker: FWorker) -> None:
    from mmace_flows.execution.recovery import recover

    held = {**worker.query, "state": {"$in": ["RESERVED", "RUNNING"]}}
    for campaign in stores.fireworks.distinct("spec.campaign", held):
        recover(stores, campaign, others_live=True)
