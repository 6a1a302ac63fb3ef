"""The table in a real MongoDB: answers against brute force, plans without reading all, a build that is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from anisotropy_samples import prediction, structure

from mmace_flows.execution.connection import disconnect
from mmace_flows.execution.settings import load_settings
from mmace_flows.execution.stores import Stores, open_stores
from mmace_flows.screening.query import AnisotropyQuery
from mmace_flows.screening.table import COUNTED, count, find, find_page
from mmace_flows.structures.files import read_candidates

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]
ENTRIES = 3000


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("query_benchmark", ROOT / "benchmarks" / "query.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCHMARK = load_benchmark()


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    monkeypatch.delenv("MMACE_DATABASE", raising=False)
    yield open_stores(load_settings(data_dir=tmp_path))
    disconnect()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """A collection of entries, and the same entries as a list."""
    collection = open_stores(load_settings(data_dir=tmp_path_factory.mktemp("table"))).anisotropy._collection
    BENCHMARK.fill(collection, ENTRIES)
    yield collection, list(collection.find({}))
    disconnect()


def value_at(entry: dict[str, Any], path: str) -> Any:
    for part in path.split("."):
        entry = entry[part]
    return entry


def matches(entry: dict[str, Any], query: AnisotropyQuery) -> bool:
    """The filters once more, in plain Python."""
    values, ehull = entry["values"], entry["energy_above_hull"]
    ranges = [
        (query.min_k1, values["k1"], 1), (query.max_k1, values["k1"], -1), (query.min_ms, values["polarization"], 1),
        (query.max_ms, values["polarization"], -1), (query.min_hardness, values["hardness"], 1),
        (query.max_ehull, ehull, -1), (query.max_atoms, entry["num_atoms"], -1),
    ]  # fmt: skip
    return (
        all(limit is None or (value is not None and way * value >= way * limit) for limit, value, way in ranges)
        and query.allows(entry["elements"])
        and (not query.formula or entry["formula"] in query.formula)
        and (not query.ordering or entry["ordering"] in query.ordering)
        and query.level in (None, entry["level"])
        and query.space_group in (None, entry["space_group_number"])
        and (query.campaign is None or query.campaign in entry["campaigns"])
    )


@pytest.mark.parametrize("name", list(BENCHMARK.QUESTIONS))
def test_pages_are_those_of_brute_force_and_no_plan_reads_the_whole_table(
    filled: tuple[Any, list[dict[str, Any]]], name: str
) -> None:
    collection, entries = filled
    query = AnisotropyQuery(**BENCHMARK.QUESTIONS[name] | {"page": 1, "limit": 100})
    expected = [entry for entry in entries if matches(entry, query)]
    (path, way), _ = query.order()
    # what is not known counts as smallest
    expected.sort(
        key=lambda one: (value_at(one, path) is not None, value_at(one, path), one["entry_id"]), reverse=way < 0
    )
    page = find_page(collection, query)
    assert [row.entry_id for row in page.rows] == [entry["entry_id"] for entry in expected[:100]]
    assert count(collection, query) == min(len(expected), COUNTED + 1)
    second = find_page(collection, query.model_copy(update={"page": 2}))
    assert [row.entry_id for row in second.rows] == [entry["entry_id"] for entry in expected[100:200]]
    said = find(collection, query).limit(100).explain()["executionStats"]
    plan = BENCHMARK.stages(said["executionStages"])
    assert {one["stage"] for one in plan} & {"IXSCAN", "EOF"} and "COLLSCAN" not in {one["stage"] for one in plan}
    if said["nReturned"] == 100:  # a full page is found without reading much more than it shows
        assert said["totalDocsExamined"] <= ENTRIES // 2


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mmace_flows.cli.app", *arguments, "--data-dir", str(folder)]
    return subprocess.run(line, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_a_build_that_is_killed_is_finished_by_the_same_command(stores: Stores, tmp_path: Path) -> None:
    given = [structure(["Fe", "Pt"], a=2.5 + 0.001 * step) for step in range(400)]
    stores.predictions.update(
        [prediction(one, k1=1.0 + 0.01 * step).model_dump(mode="json") for step, one in enumerate(given)]
    )
    line = [sys.executable, "-m", "mmace_flows.cli.app", "build", "anisotropy", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    table = stores.anisotropy._collection
    while table.estimated_document_count() == 0 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = table.estimated_document_count()
    assert 0 < written <= 400
    done = command(tmp_path, "build", "anisotropy", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["made"]  # the server still finishes the hundred that it was sent before the kill
    assert 300 - written < made <= 400 - written and table.count_documents({}) == 400
    again = json.loads(command(tmp_path, "build", "anisotropy", "--json").stdout)
    assert (again["made"], again["unchanged"], again["removed"]) == (0, 400, 0)
    out = tmp_path / "best.extxyz"
    asked = command(tmp_path, "query", "anisotropy", "--elements", "Fe,Pt", "--min-k1", "4.9", "-o", str(out), "--all")
    assert asked.returncode == 0, asked.stderr
    best = read_candidates(out)
    assert [round(one.details["k1"], 2) for one in best] == [round(4.99 - 0.01 * step, 2) for step in range(10)]
    assert "FePt" in command(tmp_path, "query", "anisotropy", "--limit", "2").stdout
