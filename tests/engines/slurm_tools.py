"""What the tests on a real Slurm share: a recipe whose jobs resume, a server with users, a project's commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

from execution_tools import Machine

STEPS = '''
"""Jobs of one-second steps that go on where they were."""
import time

from jobflow import Flow, job
from pydantic import BaseModel, ConfigDict

from mmace_flows.execution.stores import open_stores
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate
from mmace_flows.schemas.needs import NeedsChange


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    jobs: int = 1
    steps: int = 3
    needs: dict[str, NeedsChange] = {}


PRESETS = {"small": Settings()}


@job
def count(campaign, number, steps):
    stores = open_stores()
    file = stores.scratch(campaign, f"count-{number}") / "step"
    step = int(file.read_text()) if file.exists() else 0
    stores.event(campaign, "count", f"began {number} at {step}")
    while step < steps:
        time.sleep(1.0)
        step += 1
        file.write_text(str(step))
        stores.event(campaign, "count", f"step {number}.{step}")
    return step


def build(settings, campaign):
    jobs = []
    for number in range(settings.jobs):
        one = count(campaign, number, settings.steps)
        one.name = f"count: {number}"
        jobs.append(one)
    return Flow(jobs)


def estimate(settings):
    each = StageEstimate(stage="count", jobs=settings.jobs, core_seconds_per_job=float(settings.steps))
    return CostEstimate(stages=[each])
'''


class Cluster:
    """A machine with Slurm and a MongoDB server with users, and a project on both."""

    def __init__(self, machine: Machine, slurm: dict[str, str], port: int) -> None:
        self.machine = machine
        machine.environment |= slurm
        machine.environment.pop("MMACE_DATABASE", None)
        (machine.folder / "steps.py").write_text(STEPS)
        uri = machine.folder / "uri"
        uri.write_text(f"mongodb://scientist:quite-secret-word@127.0.0.1:{port}/magnets?authSource=admin\n")
        uri.chmod(0o600)
        self.project = machine.folder / "project"

    def init(self, *options: str) -> str:
        """`mmace project init`, without engines to try: they have tests of their own."""
        arguments = ["--database", str(self.machine.folder / "uri"), "--slurm", "--partition", "debug"]
        code, output = self.machine.mmace(
            "project", "init", str(self.project), *arguments, "--recipes", str(self.machine.folder), *options
        )
        assert code == 0, output
        self.edit("project.yaml", "engines: [gpaw]", "engines: []")
        return output

    def edit(self, file: str, old: str, new: str) -> None:
        """As a user does with an editor."""
        path = self.project / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))

    def mmace(self, *arguments: str) -> tuple[int, str]:
        """`mmace … --project`."""
        return self.machine.mmace(*arguments, "--project", str(self.project))

    def slurm(self, *command: str) -> str:
        """Output of one of Slurm's commands."""
        done = subprocess.run(command, env=self.machine.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def worker_logs(self) -> str:
        """What the workers' batch jobs printed, for messages of failed tests."""
        files = sorted((self.project / "data" / "workers").rglob("*.out"))
        files += sorted((self.project / "data" / "workers").rglob("*.error"))
        return "\n".join(f"=== {path.name}\n{path.read_text(errors='replace')}" for path in files)

    def files(self) -> list[Path]:
        """Every file of the project but the one that holds the password."""
        return [path for path in self.project.rglob("*") if path.is_file() and path.name != "password"]
