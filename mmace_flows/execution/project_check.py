"""`mmace project check`: try everything a project needs, and say what mends what is broken."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError
from mmace_flows.execution.doctor import Finding, _gpu
from mmace_flows.execution.project_probes import probe_stores, run_one_atom
from mmace_flows.execution.projects import Project
from mmace_flows.execution.secret_files import check_mode

if TYPE_CHECKING:
    from mmace_flows.execution.settings import Settings

ROOM_GB = 5.0
SRUN_KEYS = {
    "queue": "--partition",
    "account": "--account",
    "gres": "--gres",
    "qos": "--qos",
    "constraint": "--constraint",
}


def check_project(project: Project, node: str | None = None) -> list[Finding]:
    """Look at everything; no check stops the others. ``node``: on a compute node, for workers of this kind."""
    settings = project.activate()
    checks: list[tuple[str, Callable[[Project, Settings], Iterator[Finding]]]] = [
        ("files", _files), ("folder", _folder), ("database", _database),
    ]  # fmt: skip
    if node is None:
        checks += [(f"{kind} worker", _worker(kind)) for kind in project.config.workers]
    else:
        checks += [(f"{node} worker", _worker_here(node))]
    if node is None or "cpu" in (project.worker(node).categories or ("cpu",)):
        checks += [(engine, _engine(engine)) for engine in project.config.engines]
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings.extend(check(project, settings))
        except UserError as error:
            findings.append(_broken(name, str(error)))
        except Exception as error:  # a check that cannot be made must not stop the others
            findings.append(_broken(name, f"cannot be checked ({type(error).__name__}: {error})"))
    return findings


def check_on_nodes(project: Project, wait_seconds: float) -> list[Finding]:
    """The same from a compute node of each kind of worker, through srun."""
    findings = []
    for kind, files in project.config.workers.items():
        if files.qadapter is None:
            continue
        from mmace_flows.execution.launch import load_qadapter

        adapter = load_qadapter(project, kind)
        options = [f"{option}={adapter[key]}" for key, option in SRUN_KEYS.items() if adapter.get(key)]
        program = shlex.split(adapter["rocket_launch"])[0]
        command = ["srun", "--time=10", "--ntasks=1", "--cpus-per-task=1", "--quiet", *options]
        command += [program, "project", "check", str(project.folder), "--json", "--node", kind]
        name = f"{kind} node"
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=wait_seconds, check=False)
            found = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            findings.append(_broken(name, f"no node within {wait_seconds:.0f} s", "give more with --wait"))
        except OSError as error:
            findings.append(_broken(name, f"srun cannot be run ({error})", "run this where Slurm's commands are"))
        except ValueError:
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            findings.append(_broken(name, f"the check does not start there: {said or f'code {done.returncode}'}"))
        else:
            findings += [Finding(**{**one, "name": f"{name}: {one['name']}"}) for one in found]
    return findings


def _broken(name: str, text: str, mend: str = "") -> Finding:
    return Finding(name, "missing", text, mend, needed=True)


def _files(project: Project, settings: Settings) -> Iterator[Finding]:
    config = project.config
    for kind in config.workers:
        project.worker(kind)
    for folder in project.recipe_dirs():
        if not folder.is_dir():
            raise UserError(f"{project.file}: recipes: {folder} is not a folder")
    launchpad = project.folder / "launchpad.yaml"
    if launchpad.exists():
        from mmace_flows.execution.settings import read_yaml

        if read_yaml(launchpad).get("password"):
            check_mode(launchpad)
    yield Finding("files", "ok", f"{project.file} and what it names", needed=True)


def _folder(project: Project, settings: Settings) -> Iterator[Finding]:
    from mmace_flows.execution.processes import make_folder, write_file

    folder = make_folder(settings.data_dir, f"correct data_dir in {project.file}")
    probe = folder / f".probe-{uuid.uuid4().hex}"
    write_file(probe, "probe")
    probe.unlink()
    free = shutil.disk_usage(folder).free / 1024**3
    detail = f"{folder} can be written, {free:.0f} GB free"
    if free > ROOM_GB:
        yield Finding("folder", "ok", detail, needed=True)
    else:
        yield Finding("folder", "warning", detail, "free some space", needed=True)


def _database(project: Project, settings: Settings) -> Iterator[Finding]:
    from mmace_flows.execution.stores import open_stores

    began = time.monotonic()
    stores = open_stores(settings)
    info = stores.connection.client.server_info()
    round_trip = time.monotonic()
    stores.connection.client.admin.command("ping")
    milliseconds = 1000 * (time.monotonic() - round_trip)
    where = project.config.database or "embedded"
    detail = f"MongoDB {info['version']} ({where}) in {round_trip - began:.1f} s, {milliseconds:.1f} ms per question"
    yield Finding("database", "ok", detail, needed=True)
    mend = f"give the user the role readWrite on '{stores.connection.database.name}' (db_config/accounts.js)"
    if settings.job_store is not None:
        mend += f", and check {settings.job_store}"
    for name, problem in probe_stores(stores).items():
        if problem is None:
            yield Finding(f"store {name}", "ok", "a document was written, read and deleted", needed=True)
        else:
            yield _broken(f"store {name}", problem, mend)


def _worker(kind: str) -> Callable[[Project, Settings], Iterator[Finding]]:
    def check(project: Project, settings: Settings) -> Iterator[Finding]:
        from mmace_flows.execution.launch import extra_query, load_qadapter, queued_workers, refusal

        worker = project.worker(kind)
        extra_query(worker)
        taken = ", ".join(worker.categories) or "all"
        if project.config.workers[kind].qadapter is None:
            yield Finding(f"{kind} worker", "ok", f"by hand: mmace worker {kind}; takes {taken} jobs", needed=True)
            if "gpu" in worker.categories and len(project.config.workers) > 1:
                yield from _gpu_here(kind, settings)
            return
        adapter = load_qadapter(project, kind)
        file = project.path(project.config.workers[kind].qadapter or Path())
        program = shlex.split(adapter["rocket_launch"])[0]
        if shutil.which(program) is None:
            yield _broken(
                f"{kind} worker", f"{file}: rocket_launch: '{program}' is not a program", "give its full path"
            )
        there = queued_workers(adapter)
        problem = refusal(adapter, settings.data_dir)
        partition = adapter.get("queue") or "the default partition"
        if problem is not None:
            yield _broken(f"{kind} worker", f"sbatch would refuse it: {problem}", f"correct {file}")
        else:
            detail = f"sbatch would take it for {partition}; takes {taken} jobs; {len(there)} in Slurm now"
            yield Finding(f"{kind} worker", "ok", detail, needed=True)
        if adapter.get("gres"):
            yield from _gpus_of_partition(kind, str(adapter.get("queue") or ""), str(adapter["gres"]), file)
        elif "gpu" in worker.categories and len(project.config.workers) > 1:
            yield _broken(f"{kind} worker", f"{file}: takes gpu jobs, but asks for no GPU", 'add gres: "gpu:1"')

    return check


def _worker_here(kind: str) -> Callable[[Project, Settings], Iterator[Finding]]:
    """On a compute node: whether what a worker of this kind needs is there."""

    def check(project: Project, settings: Settings) -> Iterator[Finding]:
        from mmace_flows.execution.allocation_plan import cores_here

        worker = project.worker(kind)
        yield Finding(f"{kind} worker", "ok", f"{sys.executable} runs here, {cores_here()} cores", needed=True)
        if "gpu" in worker.categories and len(project.config.workers) > 1:
            yield from _gpu_here(kind, settings)

    return check


def _gpu_here(kind: str, settings: Settings) -> Iterator[Finding]:
    found = next(_gpu(settings))
    if found.state == "ok" and not found.detail.startswith("none"):
        yield Finding(f"{kind} worker: gpu", "ok", found.detail, needed=True)
    else:
        mend = found.mend or "run this worker where a GPU is, or let cpu workers take gpu jobs (category in their file)"
        yield _broken(f"{kind} worker: gpu", found.detail, mend)


def _gpus_of_partition(kind: str, partition: str, gres: str, file: Path) -> Iterator[Finding]:
    """Whether nodes of the partition have what the worker asks for, by Slurm's word."""
    command = ["sinfo", "--noheader", "--format", "%G", *(["--partition", partition] if partition else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    offered = sorted({line.strip() for line in done.stdout.splitlines() if line.strip() not in ("", "(null)")})
    name = f"{kind} worker: gpu"
    if any(gres.split(":")[0] in one for one in offered):
        yield Finding(name, "ok", f"partition offers {', '.join(offered)}; try it with --on-nodes", needed=True)
    else:
        said = ", ".join(offered) or "nothing"
        yield _broken(name, f"asks for {gres}, but the partition offers {said}", f"correct queue or gres in {file}")


def _engine(name: str) -> Callable[[Project, Settings], Iterator[Finding]]:
    def check(project: Project, settings: Settings) -> Iterator[Finding]:
        from mmace_flows.execution.processes import make_folder

        folder: Any = make_folder(settings.data_dir / "check" / uuid.uuid4().hex)
        try:
            yield Finding(name, "ok", run_one_atom(name, folder), needed=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return check
