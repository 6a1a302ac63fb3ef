"""One worker process: takes jobs from the queue, one at a time, until there are none left that it can do.

Started by `mmace run` for one campaign, and by `mmace worker` for all campaigns of a project, as
``python -m mmace_flows.execution.worker``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from mmace.errors import UserError
from mmace_flows.execution.needs import Offer, open_campaigns, waiting
from mmace_flows.execution.processes import ProcessName, make_folder
from mmace_flows.execution.recovery import HEARTBEAT_SECONDS
from mmace_flows.execution.trust import trust_folder

POLL_SECONDS = 0.5
PARENT_SECONDS = 0.5
IDLE_SECONDS = 2.0  # FireWorks writes a job's end in several steps; between two of them the queue may look empty


def main(arguments: list[str] | None = None) -> int:
    """Run the worker; exit code 0 when there is nothing more to do."""
    parser = argparse.ArgumentParser(prog="python -m mmace_flows.execution.worker", description=main.__doc__)
    parser.add_argument("campaign", nargs="?", help="name of the campaign whose jobs to run; without it, of all")
    parser.add_argument("--parent", type=int, help="process id to live and die with")
    parser.add_argument("--recipe-dir", action="append", default=[], help="folder of recipes that define jobs")
    parser.add_argument("--category", action="append", default=[], help="take only jobs of this category")
    parser.add_argument("--cores", type=int, help="take only jobs that need no more cores")
    parser.add_argument("--memory-gb", type=float, help="take only jobs that need no more memory")
    parser.add_argument("--until", type=float, help="seconds since 1970: start nothing that cannot finish before")
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS, help="seconds without a job before it ends")
    options = parser.parse_args(arguments)
    for folder in options.recipe_dir:
        sys.path.append(folder)
        trust_folder(Path(folder))
    if options.parent is not None:
        _die_with(options.parent)
    try:
        work(
            options.campaign,
            Offer(tuple(options.category), options.cores, options.memory_gb, options.until),
            options.idle,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def work(campaign: str | None = None, offer: Offer = Offer(), idle_seconds: float = IDLE_SECONDS) -> None:
    """Take and run jobs that fit the offer.

    Ends after ``idle_seconds`` without one. A worker of one campaign also waits for jobs that running ones can make.
    """
    import fireworks.core.launchpad
    import fireworks.core.rocket
    import jobflow
    from fireworks import FWorker

    from mmace_flows.execution.backoff import reading
    from mmace_flows.execution.one_job import open_patiently, run_one
    from mmace_flows.execution.queue import UNFINISHED

    stores = open_patiently()
    jobflow.SETTINGS.JOB_STORE = reading(lambda: stores.jobs)  # in this process only: nothing of it goes into the queue
    fireworks.core.rocket.PING_TIME_SECS = HEARTBEAT_SECONDS  # FireWorks' own setting is an hour
    fireworks.core.rocket.PRINT_FW_JSON = False
    fireworks.core.launchpad.SORT_FWS = "FIFO"  # jobs in the order in which they were made
    name = str(ProcessName.this())
    folder = make_folder(launches_folder(stores.connection.settings.data_dir, campaign) / f"worker-{os.getpid()}")
    number, idle_since = 0, time.monotonic()
    try:
        while time.monotonic() - idle_since < idle_seconds:
            campaigns = reading(lambda: open_campaigns(stores, campaign))
            if not reading(lambda: waiting(stores, campaigns, ["READY"], offer)):  # noqa: B023
                if campaign is not None and reading(lambda: waiting(stores, campaigns, sorted(UNFINISHED))):  # noqa: B023
                    idle_since = time.monotonic()
                time.sleep(POLL_SECONDS)
                continue
            number += 1
            launch_folder = make_folder(folder / str(number))
            os.chdir(launch_folder)  # engines write into the current folder: a fresh one for each job
            worker = FWorker(name=name, query={"spec.campaign": {"$in": campaigns}, **offer.query()})
            if run_one(stores, worker):
                idle_since = time.monotonic()
            os.chdir(folder)
            _remove_if_empty(launch_folder)
    finally:
        os.chdir(folder.parent)
        _remove_if_empty(folder)


def launches_folder(data_dir: Path, campaign: str | None) -> Path:
    """Where workers make a folder for each job that they run."""
    return (data_dir / "campaigns" / campaign if campaign is not None else data_dir / "workers") / "launches"


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _die_with(parent: int) -> None:
    """End this process and the programs that it started as soon as ``parent`` is gone.

    A thread asks, because the parent's end by `kill -9` sends no message.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        _leave_database()
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _leave_database() -> None:
    """Give the lease back, so that the last worker of a killed run stops the embedded server.

    The client stays open: a job that met a closed one would be noted as failed. Waits no longer than three seconds.
    """
    from mmace_flows.execution.connection import leave_servers

    thread = threading.Thread(target=leave_servers, daemon=True)
    thread.start()
    thread.join(3.0)


if __name__ == "__main__":
    sys.exit(main())
