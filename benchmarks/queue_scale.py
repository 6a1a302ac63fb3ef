"""Many jobs through one queue: time per job, memory, size of the database, time of `mmace status`, use of indexes.

    .venv/bin/python benchmarks/queue_scale.py                # 10,000 jobs, 2 workers; needs an hour of two cores
    .venv/bin/python benchmarks/queue_scale.py --jobs 500 --json scale.json

The jobs do nothing but return a number and a small array: what is measured is the queue.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = '''
"""Jobs that do nothing."""
from jobflow import Flow, job
from pydantic import BaseModel, ConfigDict

from mmace_flows.schemas.campaign import CostEstimate, StageEstimate


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    jobs: int = 100


PRESETS = {"small": Settings()}


@job(data=["array"])
def add(number):
    return {"number": number, "array": [float(number)] * 100}


def build(settings, campaign):
    jobs = [add(number) for number in range(settings.jobs)]
    for number, one in enumerate(jobs):
        one.name = f"add: {number}"
    return Flow(jobs)


def estimate(settings):
    return CostEstimate(stages=[StageEstimate(stage="add", jobs=settings.jobs, core_seconds_per_job=0.1)])
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stop-after", type=int, help="jobs to run of those in the queue (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="queue-scale-") as name:
        figures = measure(Path(name), options.jobs, options.workers, options.stop_after or options.jobs)
    for what, value in figures.items():
        print(f"{what:<42} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def measure(folder: Path, jobs: int, workers: int, stop_after: int) -> dict[str, Any]:
    """Submit, run and look; figures by name."""
    recipe = folder / "nothing_to_do.py"
    recipe.write_text(RECIPE)
    os.environ["MMACE_DATA_DIR"] = str(folder / "data")
    from mmace_flows.execution.campaign import begin_campaign
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.embedded import EmbeddedDatabase
    from mmace_flows.execution.recipe import load_recipe
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores
    from mmace_flows.execution.submit import submit_once

    stores = open_stores()
    loaded = load_recipe(recipe)
    settings = loaded.settings("small", [f"jobs={jobs}"])
    figures: dict[str, Any] = {"jobs": jobs, "workers": workers}
    began, used = time.perf_counter(), time.process_time()
    submit_once(stores, begin_campaign(stores, loaded, "small", settings, "scale", str(recipe)), loaded)
    figures["submit, ms per job"] = round(1000 * (time.perf_counter() - began) / jobs, 2)
    figures["submit, processor time, ms per job"] = round(1000 * (time.process_time() - used) / jobs, 2)
    figures["status at the start, s"] = status(folder)

    mongod = EmbeddedDatabase(load_settings()).status().pid or 0
    server_before = processor_seconds(mongod)
    command = [sys.executable, "-m", "mmace_flows.execution.worker", "scale", "--recipe-dir", str(folder)]
    log = (folder / "log").open("w")
    began, running = time.perf_counter(), [subprocess.Popen(command, stdout=log, stderr=log) for _ in range(workers)]
    done, marks, memory, start = 0, [(began, 0)], 0, 0.0
    while done < stop_after and any(one.poll() is None for one in running):
        time.sleep(0.5)
        done = stores.launchpad.fireworks.count_documents({"spec.campaign": "scale", "state": "COMPLETED"})
        if not done:
            start = max(processor_seconds(one.pid) for one in running)  # what importing takes
        memory = max([memory, *(resident(one.pid) for one in running if one.poll() is None)])
        if done - marks[-1][1] >= stop_after / 10:
            marks.append((time.perf_counter(), done))
            print(f"{done} of {stop_after} jobs after {marks[-1][0] - began:.0f} s", file=sys.stderr, flush=True)
    if done < stop_after:
        raise SystemExit(f"only {done} of {stop_after} jobs ran; last lines:\n{(folder / 'log').read_text()[-2000:]}")
    figures["run, jobs"] = done
    figures["run, ms per job"] = round(1000 * (time.perf_counter() - began) / done, 1)
    if len(marks) > 3:  # without the time that workers need to start
        rates = [1000 * (b[0] - a[0]) / (b[1] - a[1]) for a, b in itertools.pairwise(marks[1:])]
        figures["run, ms per job in the first tenth"] = round(rates[0], 1)
        figures["run, ms per job in the last tenth"] = round(rates[-1], 1)
    figures["memory of a worker, MB"] = memory
    # time on a processor says more than wall time on a machine that does other things too
    used = [processor_seconds(one.pid) for one in running if one.poll() is None]
    figures["processor time of workers, ms per job"] = round(1000 * (sum(used) - len(used) * start) / done, 1)
    server = processor_seconds(mongod) - server_before
    figures["processor time of the database, ms per job"] = round(1000 * server / done, 1)
    figures["status at the end, s"] = status(folder)
    for one in running:
        one.kill()
        one.wait()
    figures |= sizes(stores, jobs)
    figures["memory of this process, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    disconnect()
    return figures


def status(folder: Path) -> str:
    """Seconds that `mmace status scale` takes, and how much of it on a processor."""
    command = [sys.executable, "-m", "mmace_flows.cli.app", "status", "scale", "--data-dir", str(folder / "data")]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{time.perf_counter() - began:.2f} ({used:.2f} on a processor)"


def resident(pid: int) -> int:
    """Memory of a process, MB."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(text.partition("VmRSS:")[2].split()[0]) // 1024 if "VmRSS:" in text else 0


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sizes(stores: Any, jobs: int) -> dict[str, Any]:
    """Documents and bytes per job, and queries that read documents without an index."""
    database, found = stores.connection.database, {}
    for name in sorted(database.list_collection_names()):
        values = database.command("collStats", name)
        if values["count"]:
            found[f"{name}: documents"] = values["count"]
            per, count = ("job", jobs) if name == "workflows" else ("document", values["count"])
            found[f"{name}: bytes per {per}, with indexes"] = round((values["size"] + values["totalIndexSize"]) / count)
    values = database.command("dbStats")
    found["database on disk, MB"] = round((values["storageSize"] + values["indexSize"]) / 1e6, 1)
    plans = {
        "next job": ("fireworks", {"spec.campaign": {"$in": ["scale"]}, "state": "READY"}),
        "jobs of a campaign": ("fireworks", {"spec.campaign": "scale"}),
        "launch of a job": ("launches", {"fw_id": 1}),
        "launch": ("launches", {"launch_id": 1}),
        "jobs of a launch": ("fireworks", {"launches": 1}),
        "workflow of a job": ("workflows", {"nodes": 1}),
        "workflow of a campaign": ("workflows", {"metadata.campaign": "scale"}),
        "output": ("jobs", {"uuid": "x", "index": 1}),
        "array": ("jobs_data.files", {"metadata.blob_uuid": "x"}),
        "events": ("events", {"campaign": "scale"}),
    }
    for what, (collection, query) in plans.items():
        plan = json.dumps(database[collection].find(query).explain()["queryPlanner"]["winningPlan"], default=str)
        found[f"index for: {what}"] = "yes" if "IXSCAN" in plan else "NO"
    return found


if __name__ == "__main__":
    main()
