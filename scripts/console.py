"""What the installer shows and logs: numbered steps with their time; commands whose output goes to the log."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class InstallError(Exception):
    """The set-up cannot go on; the message is one line that names the mend."""


class Console:
    """Prints steps; ``log`` is where the output of every command goes."""

    def __init__(self, log: Path, steps: int) -> None:
        self.log, self.steps, self.step_number = log, steps, 0
        self.processes: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One numbered step: its text, then its time. On a terminal the seconds tick while it runs."""
        self.step_number += 1
        begin, finished = time.monotonic(), threading.Event()
        line = f"[{self.step_number}/{self.steps}] {text}"

        def tick() -> None:
            while not finished.wait(1.0):
                print(f"\r{line:<88}{time.monotonic() - begin:5.0f} s", end="", flush=True)

        if sys.stdout.isatty():
            print(line, end="", flush=True)
            ticker = threading.Thread(target=tick, daemon=True)
            ticker.start()
            try:
                yield
            except BaseException:
                finished.set()
                ticker.join()
                print()  # the error message gets a line of its own
                raise
            finished.set()
            ticker.join()
            print(f"\r{line:<88}{time.monotonic() - begin:5.0f} s", flush=True)
        else:
            print(line, flush=True)
            yield
            print(f"      done in {time.monotonic() - begin:.0f} s", flush=True)

    def run(
        self, command: Sequence[str], environment: dict[str, str] | None = None, keep_open: tuple[int, ...] = ()
    ) -> tuple[int, str]:
        """Run a command to its end, its output going to the log; return its exit code and what it printed.

        ``keep_open``: file descriptors the child inherits, so that a lock lives as long as the child does.
        """
        return self.finish(*self._start(self.log, command, environment, keep_open))

    def start(
        self, command: Sequence[str], environment: dict[str, str] | None = None, keep_open: tuple[int, ...] = ()
    ) -> tuple[subprocess.Popen[bytes], Path, int]:
        """Start a command that runs beside others; its output goes to a log of its own. End it with `finish`."""
        beside = self.log.with_name(f"{self.log.stem}-beside{self.log.suffix}")
        return self._start(beside, command, environment, keep_open)

    def _start(
        self, log: Path, command: Sequence[str], environment: dict[str, str] | None, keep_open: tuple[int, ...]
    ) -> tuple[subprocess.Popen[bytes], Path, int]:
        with open(log, "ab") as file:
            file.write(("\n$ " + " ".join(command) + "\n").encode())
            file.flush()
            begin = file.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                pass_fds=keep_open,
            )
        self.processes.append(process)
        return process, log, begin

    def finish(self, process: subprocess.Popen[bytes], log: Path, begin: int) -> tuple[int, str]:
        """Wait for a started command; return its exit code and what it printed, from byte ``begin`` of its log."""
        code = process.wait()
        with open(log, "rb") as file:
            file.seek(begin)
            return code, file.read().decode(errors="replace")

    def stop_all(self) -> None:
        """End every command that still runs (after Ctrl-C or an error)."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
