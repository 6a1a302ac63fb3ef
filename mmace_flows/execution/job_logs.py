"""`mmace logs JOB`: where a job ran, how each attempt ended, and what it printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace_flows.execution.display import local_time
from mmace_flows.execution.operations import in_words
from mmace_flows.execution.processes import ProcessName
from mmace_flows.execution.progress import duration
from mmace_flows.execution.queue import QueuedJob

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

BEGIN, END = "RUNNING fw_id: {firework} in directory: {folder}", "Rocket finished"  # FireWorks' own words


def log_lines(stores: Stores, job: QueuedJob) -> Iterator[str]:
    """Lines about a job, the newest attempt last, with what it printed if its log can be seen from here."""
    firework = stores.fireworks.find_one({"fw_id": job.firework}, {"spec": 1}) or {"spec": {}}
    needs = firework["spec"].get("needs") or {}
    yield f"job {job.firework}, {job.name}: {in_words(job.state)}; campaign {firework['spec'].get('campaign', '?')}"
    if "cores" in needs:
        gpus = f", {needs['gpus']} GPU" if needs.get("gpus") else ""
        size = f"{needs['cores']} cores{gpus}, {needs['memory_gb']:.0f} GB"
        yield f"needs: {needs['category']} worker, {size}, expected {duration(needs['seconds'])}"
    launches = list(stores.launches.find({"fw_id": job.firework}).sort("launch_id", 1))
    if not launches:
        yield "it has not been started yet"
        return
    for number, launch in enumerate(launches, 1):
        worker = ProcessName.parse((launch.get("fworker") or {}).get("name") or "")
        where = f"process {worker.pid} on {worker.host}" if worker else launch.get("host", "?")
        began = local_time(str(launch["time_start"])) if launch.get("time_start") else "?"
        took = f", {duration(float(launch['runtime_secs']))}" if launch.get("runtime_secs") else ""
        yield f"attempt {number}: {_end(launch)}{took}; began {began}, {where}, in {launch['launch_dir']}"
    last = launches[-1]
    printed = find_output(Path(last["launch_dir"]), job.firework)
    if printed is None:
        yield f"its log is not to be seen from here; it lies on {last.get('host', '?')}, near {last['launch_dir']}"
        yield from _traceback(last)
        return
    path, lines = printed
    yield f"--- {path}"
    yield from lines


def find_output(launch_folder: Path, firework: int) -> tuple[Path, list[str]] | None:
    """The log of the worker that ran a launch, and its lines about it; None if it is not to be seen from here."""
    above = launch_folder.parents[2]  # …/launches/worker-1234/7
    mark = BEGIN.format(firework=firework, folder=launch_folder)
    for path in sorted([*above.glob("logs/*.log"), *above.glob("*/logs/*.log")]):
        lines: list[str] = []
        with path.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                if lines or mark in line:
                    lines.append(line.rstrip("\n"))
                if lines and END in line:
                    break
        if lines:
            return path, lines
    return None


def _end(launch: dict[str, Any]) -> str:
    return "cut off" if launch["state"] == "ARCHIVED" else in_words(launch["state"])


def _traceback(launch: dict[str, Any]) -> Iterator[str]:
    data = ((launch.get("action") or {}).get("stored_data") or {}).get("_exception") or {}
    yield from str(data.get("_stacktrace") or "").splitlines()
