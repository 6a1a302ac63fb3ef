"""A Slurm of one node on this machine: munged, slurmctld and slurmd on loopback, everything of theirs in one folder.

For trying `mmace launch` without a cluster, and for the tests. Needs Debian's packages slurm-wlm and munge; as root
or as any user, who is then the only one that can submit.

    python scripts/slurm_here.py FOLDER             # starts it, prints the line that makes sbatch and squeue use it
    python scripts/slurm_here.py FOLDER --stop
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
DAEMONS = ("slurmd", "slurmctld", "munged")  # in the order in which they are stopped
SBIN = os.pathsep.join(["/usr/sbin", "/sbin"])  # where Debian has daemons, which is not on everybody's PATH

CONFIGURATION = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
OverTimeLimit=0
MinJobAge=60
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing_programs() -> list[str]:
    """Programs that are not there; apt-get install slurm-wlm munge brings them all."""
    return [name for name in PROGRAMS if find(name) is None]


def find(name: str) -> str | None:
    """Path of a program, also of a daemon."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), SBIN]))


def start(folder: Path, cores: int | None = None) -> dict[str, str]:
    """Start the daemons; returns the environment variables by which Slurm's commands find them.

    ``cores``: what Slurm believes the machine has, for side-by-side jobs on small ones. Raises RuntimeError.
    """
    lacking = missing_programs()
    if lacking:
        raise RuntimeError(f"no {', '.join(lacking)} here: apt-get install slurm-wlm munge")
    folder = folder.absolute()
    for name in (folder, folder / "state", folder / "spool"):
        name.mkdir(parents=True, exist_ok=True, mode=0o755)
    ports = _free_ports(2)
    text = CONFIGURATION.format(
        host=socket.gethostname().split(".")[0],
        folder=folder,
        user=getpass.getuser(),
        controller=ports[0],
        node=ports[1],
        cores=cores or os.cpu_count() or 1,
    )
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _start_munge(folder)
        _run(["slurmctld", "-i"], folder, environment)
        _wait(folder, environment, ["scontrol", "ping"], "UP")
        _run(["slurmd", "-N", socket.gethostname().split(".")[0]], folder, environment)
        _wait(folder, environment, ["sinfo", "--noheader", "--format", "%T"], "idle")
    except BaseException:
        stop(folder)
        raise
    return environment


def stop(folder: Path) -> None:
    """Stop the daemons of this folder, with what they run."""
    folder = folder.absolute()
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["scancel", "--user", getpass.getuser()], env=environment, capture_output=True, timeout=20, check=False
        )
        time.sleep(1.0)
    for name in DAEMONS:
        for pid in _daemon(folder, name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 10.0
            while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
                time.sleep(0.1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _daemon(folder: Path, name: str) -> list[int]:
    """Process id of a daemon, by its pid file; empty if that process is not it (any more)."""
    try:
        pid = int((folder / f"{name}.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return []
    return [pid] if name.encode() in command else []


def _start_munge(folder: Path) -> None:
    key = folder / "munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
    # --force: as root munged asks for a user of its own, and it dislikes folders that others can enter
    options = ["--force", "--key-file", str(key), "--socket", str(folder / "munge.socket")]
    options += ["--pid-file", str(folder / "munged.pid"), "--log-file", str(folder / "munged.log")]
    _run(["munged", *options, "--seed-file", str(folder / "munge.seed"), "--num-threads", "2"], folder, {})


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Start a daemon, which detaches itself."""
    program = find(command[0]) or command[0]
    with (folder / "start.log").open("ab") as log:
        done = subprocess.run(
            [program, *command[1:]],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=60,
            check=False,
        )
    if done.returncode != 0:
        lines = (folder / "start.log").read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"{command[0]} does not start ({lines[-1] if lines else done.returncode}); see {folder}")


def _wait(folder: Path, environment: dict[str, str], command: list[str], word: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    said = ""
    while time.monotonic() < end:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
        )
        said = done.stdout + done.stderr
        if word in said:
            return
        time.sleep(0.3)
    raise RuntimeError(f"Slurm does not come up: {' '.join(said.split())[:200]}; see {folder}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the daemons' files")
    parser.add_argument("--stop", action="store_true", help="stop the daemons of this folder")
    parser.add_argument("--cores", type=int, help="cores that Slurm believes the machine has")
    options = parser.parse_args()
    if options.stop:
        stop(options.folder)
        return 0
    try:
        environment = start(options.folder, options.cores)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, value in environment.items():
        print(f"export {name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
