"""One GPAW calculation in several processes, where GPAW is built with MPI."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.engine_process import end, environment, guarded
from mmace_flows.labels.gpaw_settings import GPAWSettings
from mmace_flows.schemas.structure import MagneticStructure

ARRAYS = ("forces", "stress", "magmoms", "magnetic_forces")


def gpaw_processes() -> int:
    """The setting ``gpaw_processes`` of this machine. Raises UserError for more than one where that cannot be."""
    from mmace_flows.execution.settings import load_settings

    settings = load_settings()
    if settings.gpaw_processes > 1:
        where = settings.source("gpaw_processes") or "gpaw_processes"
        if not built_with_mpi():
            raise UserError(
                f"{where}: {settings.gpaw_processes} processes, but this GPAW is built without MPI; build it with "
                "MPI (docs/labels.md), or set it to 1 and run several jobs side by side with --workers"
            )
        if mpiexec() is None:
            raise UserError(f"{where}: {settings.gpaw_processes} processes, but mpiexec is not on PATH")
    return settings.gpaw_processes


def built_with_mpi() -> bool:
    """Whether the GPAW that is installed can run in several processes."""
    try:
        from gpaw import cgpaw
    except ImportError:
        return False
    return bool(cgpaw.have_mpi)


def mpiexec() -> str | None:
    """The program that starts processes."""
    return shutil.which("mpiexec") or shutil.which("mpirun")


def command(processes: int, job: Path) -> list[str]:
    """How the calculation in ``job`` is run."""
    child = str(Path(__file__).with_name("gpaw_child.py"))
    return [str(mpiexec()), "-n", str(processes), sys.executable, "-m", "gpaw", "python", child, str(job)]


def attempt_in_processes(
    structure: MagneticStructure, settings: GPAWSettings, text_file: Path, result: EngineResult, processes: int
) -> str | None:
    """One SCF cycle in ``processes`` processes; fills ``result`` and returns None, or one line that says why it failed.

    Raises UserError if they were killed: that says nothing about the structure.
    """
    job, done = text_file.with_suffix(".job.json"), text_file.with_suffix(".result.json")
    done.unlink(missing_ok=True)
    job.write_text(
        json.dumps(
            {
                "structure": structure.model_dump(mode="json"),
                "settings": settings.model_dump(mode="json"),
                "text_file": str(text_file),
                "result_file": str(done),
            }
        ),
        encoding="utf-8",
    )
    status, said = _run(command(processes, job))
    job.unlink(missing_ok=True)
    if not done.exists():
        if status < 0 or status in (128 + signal.SIGKILL, 128 + signal.SIGTERM):
            raise UserError("GPAW was ended from outside; nothing is kept of it: run the same command again")
        lines = [line.strip() for line in said.splitlines() if line.strip(" -")]
        raise UserError(f"GPAW in {processes} processes: {lines[-1][:200] if lines else f'status {status}'}")
    values = json.loads(done.read_text(encoding="utf-8"))
    done.unlink()
    error: str | None = values.pop("failure")
    if error is None:
        fill_from(result, values)
    return error


def as_json(result: EngineResult, failure: str | None) -> dict[str, Any]:
    """A result as JSON-able values."""
    values = asdict(result) | {"failure": failure}
    for name in ARRAYS:
        values[name] = None if values[name] is None else np.asarray(values[name]).tolist()
    return values


def fill_from(result: EngineResult, values: dict[str, Any]) -> None:
    """The other way round; attempts and times are those of ``result``."""
    for name, value in values.items():
        if name not in ("attempts", "wall_seconds", "error"):
            setattr(result, name, np.asarray(value) if name in ARRAYS and value is not None else value)


def _run(words: list[str]) -> tuple[int, str]:
    """Exit status and error output; the processes end with this one."""
    process = subprocess.Popen(
        guarded(words), env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace",
    )  # fmt: skip
    try:
        _, said = process.communicate()
    except BaseException:
        end(process)
        raise
    return process.returncode, said
