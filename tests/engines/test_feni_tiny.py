"""The whole FeNi campaign at its smallest: real mongod, real queue, real DFT, training, report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from execution_tools import descendants

pytest.importorskip("gpaw")
pytestmark = [pytest.mark.engine, pytest.mark.slow]

RECIPE = Path(__file__).parents[2] / "workflows" / "feni.py"
CAMPAIGN = "feni-tiny"


def mmace(data_dir: Path, *arguments: str, code: int = 0) -> str:
    """Run the command line as a user does; returns what it printed. ``code``: the exit code to expect."""
    environment = {**os.environ, "MMACE_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mmace_flows.cli.app", *arguments],
        env=environment, cwd=data_dir, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the finished campaign."""
    folder = tmp_path_factory.mktemp("data")
    mmace(folder, "run", str(RECIPE), "--preset", "tiny", "--yes", "--workers", "2")
    return folder


@pytest.fixture(scope="module")
def stores(data_dir: Path) -> Iterator[Any]:
    """The stores it left behind."""
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMACE_DATA_DIR", str(data_dir))
        yield open_stores(load_settings())
        disconnect()


def test_two_iterations_with_a_decision_and_errors_per_branch(stores: Any) -> None:
    from mmace_flows.learning.state import read_states

    first, second = read_states(stores.loop_states, CAMPAIGN)
    assert (first.decision, second.decision) == ("continue", "stop")
    assert second.reason
    assert first.dataset_hash != second.dataset_hash
    assert first.model_hash != second.model_hash
    assert len(second.training_keys) > len(first.training_keys)
    assert second.test_keys == first.test_keys
    assert not set(second.bain_keys) & set(second.training_keys)
    assert {"all", "NM", "FM"} <= set(second.bain_errors)
    assert second.bain_errors["all"].count == len(second.bain_keys) == 4
    for state in (first, second):
        assert len(stores.load_model(state.model_hash)) > 1000


def test_every_label_is_the_engines_own_and_can_be_made_again(stores: Any, tmp_path: Path) -> None:
    from mmace_flows.labels.labelling import find_label, recompute_label

    labels = list(stores.labels.query({}))
    assert {label["engine"] for label in labels} == {"gpaw"}
    operations = {label["candidate"]["operation"] for label in labels}
    assert operations == {"bain", "distort", "fixed moment", "relax", "metropolis", "perturb"}
    for label in labels:
        held = label["candidate"]["operation"] == "fixed moment"
        assert (label["magnetic_forces"] is not None) == held
        if held:
            assert label["total_magmom"] == pytest.approx(label["candidate"]["details"]["total_magmom"], abs=1e-3)
    key = next(label["label_key"] for label in labels if label["magnetic_state_reached"] == "NM")
    label = find_label(key, stores.labels)
    assert label is not None and label.free_energy is not None
    assert recompute_label(label, tmp_path).free_energy == pytest.approx(label.free_energy, abs=1e-5)


def test_the_report_shows_both_iterations(data_dir: Path, tmp_path: Path) -> None:
    automatic = data_dir / "campaigns" / CAMPAIGN / "report.html"
    assert "Stopped after iteration 2" in automatic.read_text(encoding="utf-8")
    mmace(data_dir, "report", CAMPAIGN, "-o", str(tmp_path / "r.html"), "--figures", str(tmp_path / "figures"))
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    for section in ("bain", "coverage", "errors", "parity", "learning", "aside", "provenance"):
        assert f'<section id="{section}">' in page
    assert (tmp_path / "figures" / "bain.png").stat().st_size > 10_000


def test_a_report_of_nothing_or_nowhere_is_one_clear_line(data_dir: Path, tmp_path: Path) -> None:
    assert mmace(data_dir, "report", "nowhere", code=2).strip().startswith("error: no campaign 'nowhere'")
    (tmp_path / "file").write_text("not a folder")
    message = mmace(data_dir, "report", CAMPAIGN, "-o", str(tmp_path / "file" / "report.html"), code=2).strip()
    assert message.startswith("error:") and "\n" not in message


def test_the_same_command_again_computes_nothing(data_dir: Path, stores: Any) -> None:
    before = {label["label_key"]: label["created"] for label in stores.labels.query({})}
    mmace(data_dir, "run", str(RECIPE), "--preset", "tiny", "--yes")
    assert {label["label_key"]: label["created"] for label in stores.labels.query({})} == before


def test_a_new_campaign_finds_the_first_ones_labels(data_dir: Path, stores: Any) -> None:
    """The initial data and the reference of a second campaign come from the store."""
    from mmace_flows.execution.queue import stage_of

    before = stores.labels.count()
    one_iteration = ["--set", "stop_rule.min_iterations=1", "--set", "stop_rule.max_iterations=1"]
    mmace(data_dir, "run", str(RECIPE), "--preset", "tiny", "--yes", "--name", "again", *one_iteration)
    assert stores.labels.count() == before
    outputs = stores.jobs.docs_store.query({"metadata.campaign": "again"}, properties=["name", "output"])
    labelled = [one["output"] for one in outputs if stage_of(one["name"]) in ("label", "reference")]
    assert len(labelled) == 13
    assert not any(output["computed"] for output in labelled)


def test_workers_and_database_killed_on_the_way_change_no_result(stores: Any, tmp_path: Path) -> None:
    """Another data folder, where nothing is known yet: the same labels, data sets and models, to the last bit."""
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.mongod import running_mongod
    from mmace_flows.execution.settings import Settings
    from mmace_flows.execution.stores import open_stores

    environment = {**os.environ, "MMACE_DATA_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mmace_flows.cli.app", "run", str(RECIPE), "--preset", "tiny", "--yes"]
    with (tmp_path / "output.txt").open("w") as output:
        run = subprocess.Popen([*command, "--workers", "2"], env=environment, stdout=output, stderr=output)
    random, kills = Random(0), 0  # a job that dies five times is given up
    try:
        while run.poll() is None:
            time.sleep(random.uniform(6.0, 14.0))
            workers = [one for one in descendants(run.pid) if b"execution.worker" in command_line(one)]
            server = running_mongod(tmp_path / "mongo")
            victims = [server[0]] if server and kills == 2 else workers
            if kills < 5 and victims and run.poll() is None:
                os.kill(random.choice(victims), signal.SIGKILL)
                kills += 1
    finally:
        run.kill()
    assert run.returncode == 0 and kills > 2, (tmp_path / "output.txt").read_text()
    other = open_stores(Settings(data_dir=tmp_path))
    try:
        assert fingerprint(other) == fingerprint(stores)
    finally:
        disconnect()


def fingerprint(stores: Any) -> dict[str, Any]:
    """What a campaign found out, without when and where."""
    from mmace_flows.learning.state import read_states

    states = read_states(stores.loop_states, CAMPAIGN)
    keys = {key for state in states for key in (*state.training_keys, *state.test_keys, *state.bain_keys)}
    labels = stores.labels.query({"label_key": {"$in": sorted(keys)}})
    return {
        "labels": {one["label_key"]: (one["free_energy"], one["forces"], one["magmoms"]) for one in labels},
        "states": [(one.dataset_hash, one.model_hash, sorted(one.training_keys), one.decision) for one in states],
    }


def command_line(pid: int) -> bytes:
    """Of a process; empty if it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
