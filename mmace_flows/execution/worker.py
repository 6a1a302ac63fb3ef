"""One worker process: takes jobs of one campaign from the queue, one at a time, until there are none left.

Started by `mmace run` as ``python -m mmace_flows.execution.worker``; may also be started by hand, or by a batch system,
on any machine that reaches the database.
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
from mmace_flows.execution.processes import ProcessName, make_folder
from mmace_flows.execution.recovery import HEARTBEAT_SECONDS

POLL_SECONDS = 0.5
PARENT_SECONDS = 0.5
IDLE_CHECKS = 4  # FireWorks writes a job's end in several steps; between two of them the queue may look empty


def main(arguments: list[str] | None = None) -> int:
    """Run the worker; exit code 0 when the campaign has nothing more to do."""
    parser = argparse.ArgumentParser(prog="python -m mmace_flows.execution.worker", description=main.__doc__)
    parser.add_argument("campaign", help="name of the campaign whose jobs to run")
    parser.add_argument("--parent", type=int, help="process id to live and die with")
    parser.add_argument("--recipe-dir", help="folder of the recipe, for jobs that are defined in it")
    options = parser.parse_args(arguments)
    if options.recipe_dir:
        sys.path.append(options.recipe_dir)
    if options.parent is not None:
        _die_with(options.parent)
    try:
        work(options.campaign)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def work(campaign: str) -> None:
    """Take and run jobs of the campaign until none is ready, running, or can still be made by a running one."""
    import fireworks.core.launchpad
    import fireworks.core.rocket
    import jobflow
    from fireworks import FWorker
    from fireworks.core.rocket_launcher import launch_rocket

    from mmace_flows.execution.queue import UNFINISHED
    from mmace_flows.execution.stores import open_stores

    stores = open_stores()
    jobflow.SETTINGS.JOB_STORE = stores.jobs  # in this process only: nothing of it goes into the queue
    fireworks.core.rocket.PING_TIME_SECS = HEARTBEAT_SECONDS  # FireWorks' own setting is an hour
    fireworks.core.rocket.PRINT_FW_JSON = False
    fireworks.core.launchpad.SORT_FWS = "FIFO"  # jobs in the order in which they were made
    name = str(ProcessName.this())
    worker = FWorker(name=name, query={"spec.campaign": campaign})
    folder = make_folder(stores.campaign_folder(campaign) / "launches" / f"worker-{os.getpid()}")
    ready = {"spec.campaign": campaign, "state": "READY"}
    unfinished = {"spec.campaign": campaign, "state": {"$in": sorted(UNFINISHED)}}
    number, idle = 0, 0
    try:
        while idle < IDLE_CHECKS:
            if not stores.launchpad.fireworks.count_documents(ready, limit=1):
                busy = stores.launchpad.fireworks.count_documents(unfinished, limit=1)
                idle = 0 if busy else idle + 1
                time.sleep(POLL_SECONDS)
                continue
            number += 1
            launch_folder = make_folder(folder / str(number))
            os.chdir(launch_folder)  # engines write into the current folder: a fresh one for each job
            if launch_rocket(stores.launchpad, worker, strm_lvl="INFO"):
                idle = 0
            sys.stdout.flush()
            os.chdir(folder)
            _remove_if_empty(launch_folder)
    finally:
        os.chdir(folder.parent)
        _remove_if_empty(folder)


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
