"""The worker processes of one run: started, watched, stopped together with everything that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmace_flows.execution.processes import ProcessName, make_folder, process_start, write_file
from mmace_flows.execution.settings import Settings
from mmace_flows.execution.threads import SINGLE_THREADED

STOP_SECONDS = 5.0


class Workers:
    """Up to ``count`` worker processes, for one campaign or for all."""

    def __init__(
        self,
        settings: Settings,
        campaign: str | None,
        folder: Path,
        recipe_dirs: Sequence[Path],
        count: int,
        options: Sequence[str] = (),
        own_environment: Callable[[int], dict[str, str]] = lambda slot: {},
    ) -> None:
        """``folder``: for logs and names; ``recipe_dirs``: where jobs defined in recipes are imported from.

        ``options``: further arguments of each worker; ``own_environment``: variables of the worker in a slot, from 1.
        """
        self.settings, self.campaign, self.count, self.recipe_dirs = settings, campaign, count, list(recipe_dirs)
        self.options, self.own_environment = list(options), own_environment
        self.logs = make_folder(folder / "logs")
        self.names = make_folder(folder / "workers")
        self._running: dict[int, subprocess.Popen[bytes]] = {}  # by slot

    def end_leftovers(self) -> int:
        """End workers whose run was killed a moment ago; returns how many. Only for the holder of the run lock."""
        ended = 0
        for file in self.names.iterdir():
            process = ProcessName.parse(file.name)
            if process is not None and process.alive():
                _kill_group(process.pid, signal.SIGKILL)
                while process.alive():
                    time.sleep(0.02)
                ended += 1
            file.unlink(missing_ok=True)
        return ended

    def fill(self) -> int:
        """Start workers until there are ``count``; returns how many were started."""
        started = 0
        for slot in range(1, self.count + 1):
            if slot not in self._running:
                self._running[slot] = self._start(slot)
                started += 1
        return started

    def ended(self) -> list[tuple[int, int]]:
        """(slot, exit code) of workers that ended since the last call."""
        found = [(slot, code) for slot, process in self._running.items() if (code := process.poll()) is not None]
        for slot, _ in found:
            process = self._running.pop(slot)
            _kill_group(process.pid, signal.SIGKILL)  # programs that a worker that died left behind
            for file in self.names.glob(f"*:{process.pid}:*"):
                file.unlink(missing_ok=True)
        return found

    @property
    def alive(self) -> int:
        """Workers that run."""
        return len(self._running)

    def processes(self) -> dict[str, int]:
        """Slots of the workers that run, by the names under which they take jobs."""
        return {str(_name(process.pid)): slot for slot, process in self._running.items()}

    def end(self, slot: int) -> None:
        """End the worker in a slot, with everything that it started; `ended` does not tell of it."""
        process = self._running.pop(slot)
        _kill_group(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, slot: int) -> Path:
        """Log file of a worker."""
        return self.logs / f"worker-{slot}.log"

    def stop(self) -> None:
        """End all workers: politely, and after a few seconds by force."""
        for process in self._running.values():
            _kill_group(process.pid, signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in self._running.values()) and time.monotonic() < end:
            time.sleep(0.05)
        for process in self._running.values():
            _kill_group(process.pid, signal.SIGKILL)
            process.wait()
        self.ended()

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        environment = dict(os.environ, PYTHONUNBUFFERED="1") | self.settings.environment()
        environment.update(dict.fromkeys(SINGLE_THREADED, "1"))  # cores are shared out by jobs, not by threads
        environment |= self.own_environment(slot)
        command = [sys.executable, "-m", "mmace_flows.execution.worker", *([self.campaign] if self.campaign else [])]
        command += ["--parent", str(os.getpid()), *self.options]
        for folder in self.recipe_dirs:
            command += ["--recipe-dir", str(folder)]
        with self.log(slot).open("ab") as log:
            # a session of its own: Ctrl-C reaches only the run itself, which then ends its workers in order
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        write_file(self.names / str(_name(process.pid)), "")
        return process


def _name(pid: int) -> ProcessName:
    """Name of a process of this machine."""
    return ProcessName(ProcessName.this().host, pid, process_start(pid) or "0")


def _kill_group(pid: int, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal_number)
