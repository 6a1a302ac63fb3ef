"""`mmace launch`: put workers into the batch system, as many as there are jobs for, with FireWorks' queue launcher."""

from __future__ import annotations

import json
import logging
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.execution.needs import Offer, open_campaigns
from mmace_flows.execution.processes import make_folder
from mmace_flows.execution.projects import Project, WorkerConfig
from mmace_flows.execution.settings import read_yaml

if TYPE_CHECKING:
    from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

    from mmace_flows.execution.stores import Stores


def load_qadapter(project: Project, kind: str) -> CommonAdapter:
    """The queue adapter of a kind of worker. Raises UserError."""
    project.worker(kind)
    file = project.config.workers[kind].qadapter
    if file is None:
        raise UserError(
            f"{project.file}: workers.{kind} has no qadapter; run `mmace worker {kind}` by hand, or see docs/cluster.md"
        )
    from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

    path = project.path(file)
    values = read_yaml(path)
    if values.get("_fw_name") != "CommonAdapter":
        raise UserError(f"{path}: _fw_name: expected CommonAdapter, got {values.get('_fw_name')}")
    try:
        found: CommonAdapter = CommonAdapter.from_dict(values)
    except Exception as error:  # FireWorks raises what its YAML reader and its classes raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a FireWorks queue adapter ({type(error).__name__}: {reason})") from error
    if not str(found.get("rocket_launch") or "").strip():
        raise UserError(
            f"{path}: rocket_launch is missing; it starts the worker, like `mmace worker {kind} --project …`"
        )
    return found


def count_jobs(stores: Stores, worker: WorkerConfig, *states: str) -> int:
    """Jobs in these states that this kind of worker takes."""
    query = {**worker_query(stores, worker), "state": {"$in": states}}
    return stores.fireworks.count_documents(query)


def worker_query(stores: Stores, worker: WorkerConfig) -> dict[str, Any]:
    """Condition on the jobs that this kind of worker takes, in campaigns that are open."""
    return {"spec.campaign": {"$in": open_campaigns(stores)}, **Offer(worker.categories).query(), **extra_query(worker)}


def extra_query(worker: WorkerConfig) -> dict[str, Any]:
    """The condition of the worker's file. Raises UserError."""
    try:
        found = json.loads(worker.query or "{}")
    except ValueError as error:
        raise UserError(f"worker {worker.name}: query is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"worker {worker.name}: query: expected a MongoDB query like '{{}}', got {worker.query}")
    return found


def queued_workers(adapter: CommonAdapter) -> list[tuple[str, str]]:
    """(Slurm's number, state) of this worker's batch jobs that wait or run. Raises UserError."""
    command = ["squeue", "--me", "--noheader", "--name", str(adapter.get("job_name", "")), "--format", "%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"squeue: {error}; `mmace launch` runs where Slurm's commands are, a login node") from error
    if done.returncode != 0:
        raise UserError(f"squeue fails: {' '.join(done.stderr.split())}")
    pairs = [line.split() for line in done.stdout.splitlines() if line.strip()]
    return [(words[0], words[1]) for words in pairs]


def launch(stores: Stores, project: Project, kind: str, most: int, say: Callable[[str], None]) -> list[str]:
    """Submit workers until there is one for every ``processes`` jobs that wait, at most ``most`` at a time.

    Returns the numbers of the new batch jobs. Raises UserError.
    """
    from fireworks import FWorker
    from fireworks.queue.queue_launcher import launch_rocket_to_queue

    adapter, worker = load_qadapter(project, kind), project.worker(kind)
    if adapter.q_type != "SLURM":
        raise UserError(f"{project.config.workers[kind].qadapter}: only Slurm can be counted; use FireWorks' qlaunch")
    jobs, busy = count_jobs(stores, worker, "READY"), count_jobs(stores, worker, "RESERVED", "RUNNING")
    there = queued_workers(adapter)
    pending = sum(state == "PENDING" for _, state in there)
    # workers that are there have the running jobs in hand, and will take as many more as they have processes
    wanted = -(-(jobs + busy) // worker.env.processes) if jobs else 0
    number = max(0, min(wanted, most) - len(there))
    data_dir = project.path(project.config.data_dir)
    folder = make_folder(data_dir / "workers" / "slurm", "correct data_dir in project.yaml")
    adapter["logdir"] = str(folder)
    fireworker = FWorker(name=worker.name, query=worker_query(stores, worker))
    submitted = []
    for _ in range(number):
        with _quiet():
            reservation = launch_rocket_to_queue(
                stores.launchpad, fireworker, adapter, str(folder), strm_lvl="CRITICAL", create_launcher_dir=True
            )
        if reservation is None:  # somebody took the last job just now
            break
        if not reservation:
            raise UserError(f"sbatch refuses {kind} workers: {_why(project, kind, folder)}")
        submitted.append(str(reservation))
    state = f"{jobs} jobs wait for {kind} workers" if jobs != 1 else f"1 job waits for {kind} workers"
    running = len(there) - pending
    state += f"; in Slurm: {running} running, {pending + len(submitted)} pending"
    say(state + (f"; submitted now: {', '.join(submitted)}" if submitted else ""))
    return submitted


@contextmanager
def _quiet() -> Iterator[None]:
    """Without FireWorks' own lines: `launch` says the same in one."""
    with warnings.catch_warnings(action="ignore"):
        logging.disable(logging.INFO)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def refusal(adapter: CommonAdapter, folder: Path) -> str | None:
    """Why the batch system would refuse this worker; None if it would take it."""
    script = folder / "refusal.sh"
    script.write_text(adapter.get_script_str(str(folder)), encoding="utf-8")
    try:
        done = subprocess.run(
            ["sbatch", "--test-only", str(script)], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"sbatch cannot be run ({error})"
    finally:
        script.unlink(missing_ok=True)
    if done.returncode == 0:
        return None
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in done.stderr.splitlines()]
    return "; ".join(line for line in lines if line) or f"sbatch ends with code {done.returncode}"


def _why(project: Project, kind: str, folder: Path) -> str:
    reason = refusal(load_qadapter(project, kind), folder)
    return reason or f"see the logs in {folder}; `mmace project check {project.folder}` tells more"
