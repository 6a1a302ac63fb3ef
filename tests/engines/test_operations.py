"""Pause, cancel, retry, logs and watch on a real queue, and one submission by two at the same moment."""

from __future__ import annotations

import pytest
from execution_tools import Machine, events, read_until, wait_for
from slurm_tools import STEPS

pytestmark = pytest.mark.engine


def test_pause_cancel_and_resume_a_running_campaign(machine: Machine, stores) -> None:
    machine.closed.touch()
    run = machine.start(*machine.run("jobs=4"))
    read_until(run, "began")
    code, output = machine.mmace("pause", "trivial-small")
    machine.closed.unlink()
    assert code == 0 and "is paused" in output and "mmace resume trivial-small" in output
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0 and "was paused or cancelled; go on with: mmace resume trivial-small" in output, output
    opened = stores()
    began = events(opened, "began")
    assert 1 <= len(began) <= 3, "what ran has ended, nothing else began"
    assert {one.replace("began", "ended") for one in began} == set(events(opened, "ended"))
    code, output = machine.mmace("status", "trivial-small")
    assert code == 0 and "trivial-small: paused" in output and "core-hours" in output
    assert "stuck: it was paused; mend with: mmace resume trivial-small" in output

    machine.closed.touch()
    run = machine.start("resume", "trivial-small", "--workers", "1")
    read_until(run, "began")
    code, output = machine.mmace("cancel", "trivial-small")
    assert code == 0 and "what is finished stays" in output
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    states = [one["state"] for one in opened.launchpad.fireworks.find()]
    assert "RUNNING" not in states and "FIZZLED" not in states and "READY" in states
    machine.closed.unlink()
    code, output = machine.mmace("resume", "trivial-small", "--workers", "2")
    assert code == 0 and "is complete" in output, output
    assert set(events(opened, "ended").values()) == {1}, "nothing that was finished ran again"
    code, output = machine.mmace("pause", "trivial-small")
    assert code == 2 and output == "error: campaign trivial-small is finished; there is nothing left to stop\n"


def test_logs_and_retry_of_one_job(machine: Machine, stores) -> None:
    mended = machine.folder / "mended"
    code, output = machine.mmace(*machine.run(f"fails_until={mended}"))
    assert code == 1, output
    number = next(one["fw_id"] for one in stores().launchpad.fireworks.find({"name": "fails: once"}))
    code, output = machine.mmace("logs", "fails", "--campaign", "trivial-small")
    assert code == 0 and f"job {number}, fails: once: failed" in output and "ValueError: no such file yet" in output
    assert "needs: cpu worker, 1 cores" in output and "attempt 1: failed" in output
    code, output = machine.mmace("status", "trivial-small")
    assert f"(mmace logs {number})" in output and "stuck: 1 job failed" in output
    for arguments, words in (
        (["logs", "99999"], "no job 99999"),
        (["retry", "trivial-small", "add: 1"], "is finished; only failed ones are retried"),
        (["cancel", "trivial-small", "add"], "give a number"),
        (["retry", "trivial"], "no campaign 'trivial'; known: trivial-small"),
    ):
        code, output = machine.mmace(*arguments)
        assert code == 2 and words in output and len(output.splitlines()) == 1, output
    mended.touch()
    code, output = machine.mmace("retry", "trivial-small", "fails")
    assert code == 0 and f"back in the queue: fails: once  (job {number})" in output
    code, output = machine.mmace("resume", "trivial-small")
    assert code == 0, output
    code, output = machine.mmace("watch", "trivial-small")
    assert code == 0 and output == "campaign trivial-small is finished\n"


def test_a_project_on_one_machine(machine: Machine, stores) -> None:
    """Two submit the same campaign at once; one worker is interrupted, the next one goes on."""
    (machine.folder / "steps.py").write_text(STEPS)
    code, output = machine.mmace("project", "init", "here", "--cores", "2", "--recipes", str(machine.folder))
    assert code == 0, output
    submit = ["submit", "steps.py", "--project", "here", "--set", "jobs=3", "--set", "steps=25"]
    code, output = machine.mmace("submit", str(machine.folder / "nosuch.py"), "--project", "here")
    assert code == 2 and "no such recipe" in output
    both = [machine.start(*submit) for _ in range(2)]
    outputs = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    assert sorted("submitted: 3 jobs" in one for one in outputs) == [False, True], outputs
    code, output = machine.mmace("status", "steps-small", "--project", "here")
    assert "stuck: 3 jobs wait for cpu workers; mend with: mmace worker cpu --project here" in output, output

    worker = machine.start("worker", "--project", "here", "--idle", "2")
    machine.environment["MMACE_DATA_DIR"] = str(machine.data / "projects" / "here" / "data")
    read_until(worker, "logs: ")

    def begun() -> bool:
        return "step " in machine.mmace("status", "steps-small")[1]

    assert wait_for(begun, 60.0)
    worker.terminate()
    output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 130 and "was cut off and is back in the queue" in output, output
    machine.environment["MMACE_DATA_DIR"] = str(machine.data)
    code, output = machine.mmace("worker", "--project", "here", "--idle", "2")
    assert code == 0 and "campaign steps-small is complete" in output, output
    code, output = machine.mmace("campaigns", "--project", "here")
    assert code == 0 and output.startswith("steps-small: finished, 3 of 3 jobs done")
