"""Counting jobs by stage, time left, words."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from mmace_flows.execution import progress
from mmace_flows.execution.display import Display, event_line, local_time
from mmace_flows.execution.progress import cost_lines, duration, summarise
from mmace_flows.execution.queue import QueuedJob
from mmace_flows.execution.runner import resume_line
from mmace_flows.schemas.campaign import CostEstimate, StageEstimate

ESTIMATE = CostEstimate(
    stages=[
        StageEstimate(stage="label", jobs=10, core_seconds_per_job=40.0),
        StageEstimate(stage="train", jobs=2, core_seconds_per_job=100.0),
    ]
)
JOBS = [
    QueuedJob(1, "label: a", "COMPLETED"),
    QueuedJob(2, "label: b", "COMPLETED"),
    QueuedJob(3, "label: c", "RUNNING"),
    QueuedJob(4, "label: d", "FIZZLED"),
    QueuedJob(5, "label: e", "READY"),
    QueuedJob(6, "select", "WAITING"),
]


def test_stages_count_what_exists_and_what_is_expected() -> None:
    progress = summarise(JOBS, ESTIMATE, {1: 50.0, 2: 70.0}, workers=2)
    label, train, select = progress.stages
    assert (label.name, label.done, label.running, label.failed, label.waiting, label.total) == (
        "label",
        2,
        1,
        1,
        1,
        10,
    )
    assert label.left == 7
    assert (train.total, train.left, select.total) == (2, 2, 1)
    assert not progress.complete and [job.name for job in progress.failed] == ["label: d"]
    # 7 labels left, one of them half done, at the measured 60 s, two at a time; training takes 60/40 of its estimate
    assert progress.seconds_left == pytest.approx(6.5 * 60 / 2 + 2 * 150 / 2)


def test_complete_only_if_every_job_ended_well() -> None:
    done = [QueuedJob(1, "a: 1", "COMPLETED"), QueuedJob(2, "a: 2", "DEFUSED")]
    assert summarise(done, None, {1: 1.0}, 1).complete
    assert not summarise([*done, QueuedJob(3, "a: 3", "WAITING")], None, {1: 1.0}, 1).complete
    assert not summarise([], None, {}, 1).complete
    assert summarise(done, None, {1: 1.0}, 1).seconds_left is None


def test_words() -> None:
    assert [duration(x) for x in (3.2, 120, 11100, 190000)] == ["3 s", "2 min", "3 h 05 min", "2 days 4 h"]
    lines = cost_lines(ESTIMATE, 2)
    assert len(lines) == 3 and "12 jobs, 0.17 core-hours" in lines[-1] and "about 5 min with 2 workers" in lines[-1]
    event = {"stage": "train", "message": "epoch 5", "data": {"energy_rmse": 0.0123456, "epoch": 5, "list": [1]}}
    assert event_line(event) == "train: epoch 5"


def test_times_are_of_this_machines_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert local_time("2026-11-22T21:16:20+00:00") == "2026-11-22 22:16:20"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_a_resumed_campaign_says() -> None:
    assert resume_line(1, 0) == "1 job is done already"
    assert resume_line(2, 1) == "2 jobs are done already, 1 interrupted job starts again"
    assert resume_line(0, 3) == "0 jobs are done already, 3 interrupted jobs start again"


def test_plain_lines_and_log(tmp_path: Path) -> None:
    stream, log = io.StringIO(), tmp_path / "campaign.log"
    display = Display(Console(file=stream, force_terminal=False, width=40), "c", log)
    with display.running():
        display.line("label: a [odd brackets]: " + "long " * 20)
        display.show(summarise(JOBS, ESTIMATE, {}, 2))
    assert len(stream.getvalue().splitlines()) == 1 and "[odd brackets]" in stream.getvalue()
    assert "[odd brackets]" in log.read_text() and "\x1b" not in stream.getvalue()


def test_terminal_shows_the_table(tmp_path: Path) -> None:
    stream = io.StringIO()
    display = Display(Console(file=stream, force_terminal=True, width=100), "c", tmp_path / "c.log")
    with display.running():
        display.line("label: a: done")
        display.show(summarise(JOBS, ESTIMATE, {1: 50.0, 2: 70.0}, 2))
    text = stream.getvalue()
    assert all(word in text for word in ("stage", "running", "label", "about 6 min left", "label: a: done", "log: "))


@pytest.mark.parametrize(("took", "slept"), [(0.01, 0.5), (1.5, 13.5), (120.0, 20.0)])
def test_long_looks_are_rare_but_a_hung_one_delays_nothing(
    monkeypatch: pytest.MonkeyPatch, took: float, slept: float
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(progress.time, "monotonic", lambda: 1000.0 + took)
    monkeypatch.setattr(progress.time, "sleep", pauses.append)
    progress.pause(1000.0, least=0.5)
    assert pauses == [pytest.approx(slept)]
