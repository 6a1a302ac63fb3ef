"""What a worker offers, what it is given, until when."""

from __future__ import annotations

import time

import pytest

from mmace.errors import UserError
from mmace_flows.execution.allocation_plan import END_SECONDS, Plan, end_here, gpus_here, memory_here, parse_walltime
from mmace_flows.execution.needs import Offer


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45", 45), ("2:30", 150), ("02:00:00", 7200), ("1-12:00:00", 129600), ("1-12", 129600), ("0:59", 59)],
)
def test_wall_times_as_slurm_writes_them(text: str, seconds: float) -> None:
    assert parse_walltime(text, "--walltime") == seconds


@pytest.mark.parametrize("text", ["2h", "", "1:2:3:4", "-5", "a:b"])
def test_other_wall_times_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected hours:minutes:seconds"):
        parse_walltime(text, "--walltime")


def test_outside_of_slurm_a_worker_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert end_here(None) is None
    until = end_here("60")
    assert until is not None and 55 < until - time.time() <= 60


def test_memory_and_gpus_of_an_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "4096")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert memory_here() == 4.0 and gpus_here() == ("0", "1")
    plan = Plan(processes=4, gpus=gpus_here(), cores=3, espresso_command="mpirun -n {cores} pw.x")
    assert [plan.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in (1, 2, 3, 4)] == ["0", "1", "0", "1"]
    assert plan.environment(1)["MMACE_ESPRESSO_COMMAND"] == "mpirun -n 3 pw.x"
    assert "CUDA_VISIBLE_DEVICES" not in Plan(processes=1, gpus=gpus_here()).environment(1), "one job has them all"


def test_an_empty_offer_takes_everything() -> None:
    assert Offer().query() == {}
    assert Plan().options() == ["--idle", "60.0"]


def fits(offer: Offer, spec: dict) -> bool:
    """Ask a real query engine: maggma's in-memory Mongo."""
    from maggma.stores import MemoryStore

    store = MemoryStore(key="k")
    store.connect()
    store.update([{"k": 1, "spec": spec}])
    return store.count(offer.query()) == 1


def test_jobs_that_fit() -> None:
    job = {"_category": "cpu", "needs": {"cores": 2, "memory_gb": 3.0, "least_seconds": 100.0}}
    assert fits(Offer(), job) and fits(Offer(("cpu",)), job) and not fits(Offer(("gpu",)), job)
    assert fits(Offer(cores=2, memory_gb=3.0), job)
    assert not fits(Offer(cores=1), job) and not fits(Offer(memory_gb=2.0), job)
    # 100 s with a fifth and 20 s to spare: 140 s must be left
    assert fits(Offer(until=time.time() + 150), job) and not fits(Offer(until=time.time() + 130), job)
    assert fits(Offer(("gpu",), cores=1, until=time.time() + 1), {}), "jobs without needs were not made by us"


def test_workers_stop_before_the_wall_time() -> None:
    plan = Plan(until=1000.0, categories=("cpu",), cores=2)
    assert plan.stop_at == 1000.0 - END_SECONDS
    assert plan.options() == ["--category", "cpu", "--cores", "2", "--until", str(plan.stop_at), "--idle", "60.0"]
