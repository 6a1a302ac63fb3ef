"""Running pw.x: as a child that never outlives this process, without a shell."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from mmace.errors import UserError
from mmace_flows.execution.processes import process_start
from mmace_flows.execution.settings import Settings, load_settings
from mmace_flows.labels.engine_process import end, environment, guarded
from mmace_flows.labels.espresso_output import read_version

INSTALL = "apt-get install quantum-espresso, or set MMACE_ESPRESSO_COMMAND to your own, such as 'mpirun -n 2 pw.x'"
DISK_FULL = "no space left on the disk for pw.x; free some and run the same command again"


def espresso_command(settings: Settings | None = None) -> tuple[str, ...]:
    """The command of MMACE_ESPRESSO_COMMAND as words. Raises UserError if its program is not there."""
    settings = settings or load_settings()
    where = settings.source("espresso_command") or "espresso_command"
    try:
        words = tuple(shlex.split(settings.espresso_command))
    except ValueError as error:
        raise UserError(f"{where}: '{settings.espresso_command}' is not a command ({error})") from error
    if not words:
        raise UserError(f"{where}: is empty; {INSTALL}")
    program = next((word for word in reversed(words) if Path(word).name.startswith("pw")), words[-1])
    for word in {words[0], program}:
        if shutil.which(word) is None:
            raise UserError(f"Quantum ESPRESSO: '{word}' is not a program on PATH; {INSTALL}")
    return words


def espresso_version(settings: Settings | None = None) -> str:
    """pw.x's version, such as 6.7MaX. Raises UserError if the command is not there or is not pw.x."""
    return _version_of(espresso_command(settings))


@lru_cache(maxsize=8)
def _version_of(command: tuple[str, ...]) -> str:
    # pw.x knows no --version: an empty input makes it say who it is before it complains
    with tempfile.TemporaryDirectory(prefix="mmace-pw-") as folder:
        (Path(folder) / "empty.in").write_text("\n")
        try:
            done = subprocess.run(
                [*command, "-in", "empty.in"],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=120,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"Quantum ESPRESSO: '{' '.join(command)}' cannot be run ({error})") from error
    version = read_version(done.stdout)
    if version is None:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip(" -=%*")]
        words = said[0] if said else "it says nothing"
        raise UserError(f"Quantum ESPRESSO: '{' '.join(command)}' is not a pw.x that runs ({words})")
    return version


def run_program(command: tuple[str, ...], input_name: str, folder: Path, output: Path) -> tuple[int, str]:
    """Run pw.x in ``folder``; its text goes to ``output``. Returns the exit status and what it said as errors.

    If this process is interrupted, pw.x ends first; if it is killed, the kernel ends pw.x. Raises UserError if pw.x
    was killed by somebody else: that says nothing about the structure, so it must not become a label.
    """
    words = [*guarded(command), "-in", input_name]
    errors = folder / "errors.txt"
    with open(output, "wb") as out, open(errors, "wb") as err:
        process = subprocess.Popen(
            words, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        try:
            status = process.wait()
        except BaseException:
            end(process)
            raise
    said = errors.read_text(errors="replace")
    killed = -status if status < 0 else status - 128 if status > 128 else 0  # mpirun gives 128 + signal
    if killed in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        name = signal.Signals(killed).name
        why = "out of memory?" if killed == signal.SIGKILL else "from outside"
        raise UserError(f"pw.x was ended by {name} ({why}); nothing is kept of it: run the same command again")
    return status, said


@contextmanager
def work_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder of its own for one run, removed afterwards; those that killed runs of ``name`` left are removed first.

    Raises UserError when the disk is full.
    """
    parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    for old in parent.glob(f"{name}.work-{host}-*"):
        pid, _, start = old.name.removeprefix(f"{name}.work-{host}-").partition("-")
        if pid.isdigit() and process_start(int(pid)) != start:
            shutil.rmtree(old, ignore_errors=True)
    mine = parent / f"{name}.work-{host}-{os.getpid()}-{process_start(os.getpid()) or 0}"
    shutil.rmtree(mine, ignore_errors=True)
    try:
        mine.mkdir()
        yield mine
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{parent}: {DISK_FULL}") from error
        raise
    finally:
        shutil.rmtree(mine, ignore_errors=True)
