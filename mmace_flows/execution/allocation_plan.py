"""What the worker processes of one allocation are given: cores, memory, GPUs, and until when."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mmace.errors import UserError
from mmace_flows.execution.needs import Offer
from mmace_flows.execution.settings import available_cores

END_SECONDS = 30.0  # before the end of the wall time, what runs is stopped and put back into the queue


@dataclass(frozen=True)
class Plan:
    """What an allocation does. None: no limit."""

    kind: str = "worker"  # kind of worker, for people
    processes: int = 1
    categories: tuple[str, ...] = ()
    cores: int | None = None  # of one process
    memory_gb: float | None = None  # of one process
    until: float | None = None  # time.time() of the end of the wall time
    idle_seconds: float = 60.0
    recipe_dirs: tuple[Path, ...] = ()
    espresso_command: str | None = None
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them

    @property
    def stop_at(self) -> float | None:
        """When to stop what still runs."""
        return None if self.until is None else self.until - END_SECONDS

    @property
    def offer(self) -> Offer:
        """What each process offers."""
        return Offer(self.categories, self.cores, self.memory_gb, self.stop_at)

    def options(self) -> list[str]:
        """Arguments of each worker process."""
        words = [word for category in self.categories for word in ("--category", category)]
        for option, value in (("--cores", self.cores), ("--memory-gb", self.memory_gb), ("--until", self.stop_at)):
            words += [option, str(value)] if value is not None else []
        return [*words, "--idle", str(self.idle_seconds)]

    def environment(self, slot: int) -> dict[str, str]:
        """Variables of the worker in a slot, from 1: its command for its cores, its GPU."""
        found: dict[str, str] = {}
        if self.espresso_command is not None:
            found["MMACE_ESPRESSO_COMMAND"] = self.espresso_command.replace("{cores}", str(self.cores or 1))
        if len(self.gpus) > 1 and self.processes > 1:
            found["CUDA_VISIBLE_DEVICES"] = self.gpus[(slot - 1) % len(self.gpus)]
        return found


def cores_here() -> int:
    """Cores of this allocation: Slurm's word, else what this process may use."""
    for variable in ("SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK"):
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable])
    return available_cores()


def memory_here() -> float | None:
    """Memory of this allocation, GB, where Slurm says it."""
    node, each = os.environ.get("SLURM_MEM_PER_NODE", ""), os.environ.get("SLURM_MEM_PER_CPU", "")
    if node.isdigit() and int(node):
        return int(node) / 1024
    return int(each) * cores_here() / 1024 if each.isdigit() and int(each) else None


def gpus_here() -> tuple[str, ...]:
    """GPUs of this allocation, as CUDA_VISIBLE_DEVICES has them; empty if nobody says."""
    return tuple(name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip())


def end_here(walltime: str | None) -> float | None:
    """time.time() of the end: ``walltime`` from now, else the Slurm job's; None outside of one. Raises UserError."""
    if walltime is not None:
        return time.time() + parse_walltime(walltime, "--walltime")
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
    try:
        left = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        left = ""
    if left == "UNLIMITED":
        return None
    if not left:
        raise UserError(f"squeue does not say how long Slurm job {job} may run; give --walltime")
    return time.time() + parse_walltime(left, f"Slurm job {job}")


def parse_walltime(text: str, where: str) -> float:
    """Seconds of ``30``, ``5:00`` (minutes), ``02:00:00`` or ``1-12:00:00``. Raises UserError."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", text.strip())
    if found is None:
        raise UserError(f"{where} {text}: expected hours:minutes:seconds, like 02:00:00")
    numbers = [int(part) for part in found[2].split(":")]
    days = int(found[1] or 0)
    if days and len(numbers) < 3:
        numbers += [0] * (3 - len(numbers))  # as Slurm has it: days-hours
    seconds = 0
    for number in numbers:
        seconds = 60 * seconds + number
    return float(seconds + 86400 * days)
