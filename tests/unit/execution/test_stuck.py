"""What a campaign is held up by, and the one command that mends it; where a job's output is found."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmace.errors import UserError
from mmace_flows.execution import stuck
from mmace_flows.execution.job_logs import find_output
from mmace_flows.execution.operations import find_job
from mmace_flows.execution.projects_init import NewProject, init_project
from mmace_flows.execution.queue import QueuedJob
from mmace_flows.execution.status import _state
from mmace_flows.schemas.campaign import Campaign


def campaign(**details: Any) -> Campaign:
    return Campaign(
        campaign="c", recipe="r.py", preset="small", settings={}, settings_hash="", code_version="", created="",
        details=details,
    )  # fmt: skip


def row(state: str, **values: Any) -> dict[str, Any]:
    plain = {"project": None, "process": None, "jobs_running": 0, "jobs_failed": 0, "jobs_ready": {}}
    return plain | {"state": state, "running_by_category": {}} | values


def mends(one: Campaign, shown: dict[str, Any], project: Any = None) -> list[str]:
    return [found.mend for found in stuck.find_stuck(SimpleNamespace(), one, shown, project)]  # type: ignore[arg-type]


def test_the_first_thing_to_mend_comes_first() -> None:
    assert mends(campaign(), row("running")) == []
    assert mends(campaign(), row("paused")) == ["mmace resume c"]
    assert mends(campaign(), row("interrupted")) == ["mmace resume c"]
    assert mends(campaign(), row("broken", jobs_failed=2)) == ["mmace resume c"]
    shown = row("waiting", project="group", jobs_failed=1, jobs_ready={"cpu": 3, "gpu": 1})
    assert mends(campaign(), shown | {"running_by_category": {"gpu": 1}}) == [
        "mmace retry c --project group", "mmace launch cpu --project group",
    ]  # fmt: skip


def test_jobs_that_need_more_time_than_any_worker_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMACE_DATA_DIR", str(tmp_path))
    project = init_project(NewProject("group", slurm=True, walltime="01:00:00"))
    asked: list[dict[str, Any]] = []

    def find_one(query: dict[str, Any], *rest: Any, **more: Any) -> dict[str, Any]:
        asked.append(query)
        return {"spec": {"needs": {"least_seconds": 7200.0}}}

    stores = SimpleNamespace(fireworks=SimpleNamespace(find_one=find_one))
    (found,) = stuck._too_long(stores, "c", project)  # type: ignore[arg-type]
    assert "need 2 h" in found.what or "need 120 min" in found.what
    assert found.mend == f"raise walltime in {project.folder / 'slurm_cpu.yaml'}"
    # an hour, less the half minute before its end and 20 s, with a fifth to spare
    assert asked[0]["spec.needs.least_seconds"]["$gt"] == pytest.approx((3600 - 30 - 20) / 1.2)


def test_states() -> None:
    jobs = {"done": 1, "running": 0, "failed": 0}
    assert _state(campaign(), False, jobs) == "interrupted" and _state(campaign(), True, jobs) == "running"
    assert _state(campaign(paused="2026"), True, jobs) == "paused"
    assert _state(campaign(project="p"), False, jobs) == "waiting"
    assert _state(campaign(project="p"), False, jobs | {"running": 1}) == "running"
    assert _state(campaign(), False, jobs | {"failed": 1}) == "broken"


def test_output_of_one_job_among_others(tmp_path: Path) -> None:
    launch = tmp_path / "launches" / "worker-7" / "2"
    logs = tmp_path / "cpu-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "worker-1.log").write_text(
        f"a INFO RUNNING fw_id: 3 in directory: {launch.parent / '1'}\nfirst\na INFO Rocket finished\n"
        f"a INFO RUNNING fw_id: 4 in directory: {launch}\nsecond\na INFO Rocket finished\nafter\n"
    )
    found = find_output(launch, 4)
    assert found is not None and [line.split(" ")[-1] for line in found[1][1:]] == ["second", "finished"]
    assert find_output(launch, 3) is None


def test_a_job_is_found_by_a_part_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [QueuedJob(1, "label: a", "READY"), QueuedJob(2, "label: ab", "READY"), QueuedJob(3, "train: 1", "READY")]
    monkeypatch.setattr("mmace_flows.execution.queue.jobs", lambda stores, name: jobs)
    stores = SimpleNamespace()
    assert find_job(stores, "c", "train").firework == 3  # type: ignore[arg-type]
    assert find_job(stores, "c", "label: a").firework == 1, "a whole name is not a part"  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"fits 2 jobs, give a number: 1 \(label: a\), 2 \(label: ab\)"):
        find_job(stores, "c", "label")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no job of campaign c is called 'x'"):
        find_job(stores, "c", "x")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a name needs its campaign"):
        find_job(stores, None, "train")  # type: ignore[arg-type]
