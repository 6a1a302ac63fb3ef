"""A real server over a real database, and a real Chromium in front of it."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anisotropy_samples import prediction, run, structure

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START_SECONDS = 120.0
PATIENCE = 60_000  # ms: a machine that does other work too is slow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="no Chromium here: apt-get install chromium (or make install ARGS=--browser)")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(skip)


def documents() -> list[Any]:
    """Predictions of 54 crystals in up to two orderings, and three force-theorem runs; the same every time."""
    chance = random.Random(3)
    metals = ["Al", "Mn", "Fe", "Co", "Ni", "Y", "Pt"]
    made: list[Any] = [prediction(structure([one]), k1=chance.gauss(0, 0.1), energy=-5.0) for one in metals]
    for first, second in itertools.combinations(metals, 2):
        given = structure([first, second], a=chance.uniform(2.6, 2.9), c=chance.uniform(3.4, 3.9))
        polarization = chance.uniform(0.3, 2.0)
        k1 = chance.gauss(1.5, 3)
        hardness = (abs(k1) * 1.2566) ** 0.5 / polarization
        changes = {"polarization": polarization, "hardness": hardness, "energy": -5.0 - chance.uniform(-0.2, 0.3)}
        made.append(prediction(given, k1=k1, **changes))
        turned = given.model_copy(update={"magmoms": [[0.0, 0.0, 1.5], [0.0, 0.0, -1.5]]})
        made.append(
            prediction(turned, k1=0.6 * k1, ordering="AFM", **changes | {"polarization": 0.0, "hardness": None})
        )
        if (first, second) in (("Fe", "Pt"), ("Co", "Pt"), ("Fe", "Ni")):
            made.append(run(given, k1_volume=max(0.0004, k1 * 1.7e-4)))
    for three in itertools.combinations(metals, 3):
        made.append(
            prediction(
                structure([*three, three[0]], c=7.0), k1=chance.gauss(0.5, 2), polarization=chance.uniform(0.2, 1.8)
            )
        )
    return made


@pytest.fixture(scope="session")
def table_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data folder with a built table, and with campaigns."""
    folder = tmp_path_factory.mktemp("table")
    with database(folder) as stores:
        from mmace_flows.screening.builder import build_anisotropy

        for one in documents():
            store = stores.spin_orbit if hasattr(one, "spin_orbit_key") else stores.predictions
            store.update([one.model_dump(mode="json")])
        assert not build_anisotropy(stores).set_aside
        for name, finished in (("fe-co-pt", None), ("feni-small", "2026-11-20T10:00:00+00:00")):
            stores.campaigns.update(campaign(name, finished))
        stores.event("fe-co-pt", "screen", "<b>17</b> of 40 candidates kept")
        report = stores.campaign_folder("feni-small") / "report.html"
        report.write_text("<!doctype html><h1>Report of feni-small</h1><script>document.title='ran'</script>")
        yield folder


def campaign(name: str, finished: str | None) -> dict[str, Any]:
    from mmace_flows.schemas.campaign import Campaign

    return Campaign(
        campaign=name, recipe="workflows/mca_screening.py", preset="small", settings={"elements": ["Fe", "Co", "Pt"]},
        settings_hash="0" * 32, code_version="0", created="2026-11-20T08:00:00+00:00", finished=finished,
        estimate={"stages": [{"stage": "screen", "jobs": 4, "core_seconds_per_job": 60.0}]},
    ).model_dump(mode="json")  # fmt: skip


@contextmanager
def database(folder: Path) -> Iterator[Any]:
    """Stores over the embedded server of a folder."""
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.settings import load_settings
    from mmace_flows.execution.stores import open_stores

    before = os.environ.get("MMACE_DATA_DIR")
    os.environ["MMACE_DATA_DIR"] = str(folder)
    try:
        yield open_stores(load_settings(data_dir=folder))
    finally:
        disconnect()
        os.environ.pop("MMACE_DATA_DIR")
        if before is not None:
            os.environ["MMACE_DATA_DIR"] = before


Server = Callable[..., str]


@pytest.fixture(scope="session")
def serve() -> Iterator[Server]:
    """Starts `mmace serve` over a data folder; gives its address."""
    running: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *options: str, **environment: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "mmace_flows.cli.app", "serve", "--data-dir", str(folder), "--port", str(port)]
        process = subprocess.Popen([*command, *options], env=os.environ | environment)
        running.append(process)
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                return address
            except OSError:
                assert process.poll() is None and time.monotonic() < end, "mmace serve does not start"
                time.sleep(0.1)

    yield start
    for process in running:
        process.terminate()
        assert process.wait(30) == 130, "a server that is told to end puts its database away, as after Ctrl-C"


@pytest.fixture(scope="session")
def address(serve: Server, table_folder: Path) -> str:
    return serve(table_folder)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # without a sandbox of its own: CI runs as root; software WebGL, for there is no graphics card
        options = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A page of its own; whatever it complains about in the console fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    made = context.new_page()
    made.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    made.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.complaints = complaints
    yield made
    context.close()
    # answers that the test asked for on purpose are logged by the browser too
    assert [one for one in complaints if "Failed to load resource" not in one] == []
