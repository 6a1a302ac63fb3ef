"""What the tests of execution share: a recipe of trivial jobs, a clean environment, processes to start and to kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

RECIPE = '''
"""Trivial jobs that leave an event each time they run."""
import os
import signal
import time
from pathlib import Path

from jobflow import Flow, Response, job
from pydantic import BaseModel, ConfigDict

from mmace_flows.execution.stores import open_stores
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    jobs: int = 4
    seconds: float = 0.05
    fails_until: str = ""
    dies: bool = False
    core_hours: float = 0.0


PRESETS = {"small": Settings(), "paper": Settings(core_hours=1000.0)}


@job(data=["array"])
def add(campaign, number, seconds):
    open_stores().event(campaign, "add", f"began {number}", energy=-1.5 * number)
    time.sleep(seconds)
    while Path(__file__).with_name(f"closed-{campaign}").exists():  # as the file of `Machine.closed`
        time.sleep(0.05)
    open_stores().event(campaign, "add", f"ended {number}")
    return {"number": number, "array": [float(number)] * 100}


@job
def total(campaign, numbers, rounds, seconds):
    open_stores().event(campaign, "total", f"total {rounds} is {sum(numbers)}")
    if rounds == 0:
        return sum(numbers)
    more = [named(add(campaign, 100 * rounds + n, seconds), f"add: {100 * rounds + n}") for n in range(2)]
    again = total(campaign, [one.output["number"] for one in more], rounds - 1, seconds)
    return Response(output=sum(numbers), detour=Flow([*more, named(again, f"total: {rounds - 1}")]))


@job
def fails(campaign, until):
    open_stores().event(campaign, "fails", "tried")
    if not Path(until).exists():
        raise ValueError("no such file yet")


@job
def dies(campaign):
    open_stores().event(campaign, "dies", "tried")
    os.kill(os.getpid(), signal.SIGKILL)


def named(job, name):
    job.name = name
    return job


def build(settings, campaign):
    first = [named(add(campaign, n, settings.seconds), f"add: {n}") for n in range(settings.jobs)]
    last = named(total(campaign, [one.output["number"] for one in first], 1, settings.seconds), "total: 1")
    extra = [named(fails(campaign, settings.fails_until), "fails: once")] if settings.fails_until else []
    extra += [named(dies(campaign), "dies: always")] if settings.dies else []
    return Flow([*first, last, *extra])


def estimate(settings):
    each = settings.seconds + 3600 * settings.core_hours
    return CostEstimate(stages=[StageEstimate(stage="add", jobs=settings.jobs + 2, core_seconds_per_job=each)])
'''


class Machine:
    """A data folder, a recipe, and an environment in which only they are set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.recipe = folder / "trivial.py"
        self.recipe.write_text(RECIPE)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MMACE_")}
        self.environment |= {"HOME": str(folder), "MMACE_DATA_DIR": str(self.data), "COLUMNS": "200"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`mmace …`, with its output in a pipe."""
        command = [sys.executable, "-m", "mmace_flows.cli.app", *arguments]
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def mmace(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of `mmace …`."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    @property
    def closed(self) -> Path:
        """The file that keeps jobs of the campaign trivial-small from ending, however slow the machine."""
        return self.folder / "closed-trivial-small"

    def run(self, *settings: str) -> list[str]:
        """Arguments of `mmace run` with two workers."""
        changes = [word for setting in settings for word in ("--set", setting)]
        return ["run", str(self.recipe), "--workers", "2", *changes]

    def mongod(self) -> int | None:
        """Process id of the embedded server, if it runs."""
        from mmace_flows.execution.mongod import running_mongod

        found = running_mongod(self.data / "mongo")
        return found[0] if found else None


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Lines of the output up to the one that holds ``text``."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"the process ended without {text!r}:\n" + "".join(lines))


def descendants(pid: int) -> list[int]:
    """Children, their children, …"""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += [int(folder.name), *descendants(int(folder.name))]
    return found


def kill(*pids: int) -> None:
    """kill -9."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_for(condition: Any, seconds: float = 30.0) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def events(stores: Any, word: str) -> Counter[str]:
    """How often each event whose message holds ``word`` was noted."""
    return Counter(one["message"] for one in stores.events.query({}) if word in one["message"])
