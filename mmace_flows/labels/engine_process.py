"""Programs of engines as children that never outlive this process: their environment, their guard, their end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

GRACE = 10.0  # seconds that a program has to end before it is killed


def environment() -> dict[str, str]:
    """Variables for an engine, unless they are set: one thread per process, and an Open MPI that shares a machine.

    Without the second, several workers would bind their processes to the same cores and wait there at full load.
    """
    shared = {"OMPI_MCA_hwloc_base_binding_policy": "none", "OMPI_MCA_mpi_yield_when_idle": "1"}
    variables = {"OMP_NUM_THREADS": "1", **shared, **os.environ}
    if os.geteuid() == 0:  # containers have no other user, and Open MPI would refuse
        variables |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return variables


def guarded(command: Sequence[str]) -> list[str]:
    """The command that the kernel ends when this process is killed, where setpriv is there to ask for that."""
    guard = shutil.which("setpriv")
    return [guard, "--pdeathsig", "TERM", *command] if guard else list(command)


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End a child: asked first, then killed."""
    process.terminate()
    try:
        process.wait(timeout=GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
