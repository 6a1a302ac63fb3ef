"""Machines, servers and stores for tests that break things."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from execution_tools import Machine, kill
from fault_tools import FAULT_RECIPE, Server


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    (tmp_path / "faulty.py").write_text(FAULT_RECIPE)
    found.recipe = tmp_path / "faulty.py"
    yield found
    pid = found.mongod()
    if pid is not None:
        kill(pid)


@pytest.fixture
def server(tmp_path: Path, machine: Machine) -> Iterator[Server]:
    """A server that nobody but the test starts and stops; the machine uses it."""
    own = Server(tmp_path / "server")
    machine.environment |= own.describe(tmp_path / "server.yaml", own.port)
    yield own
    own.kill()


@pytest.fixture
def stores(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Opens the machine's stores in this process when called."""
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.stores import open_stores
    from mmace_flows.execution.trust import trust_folder

    def opened() -> Any:
        for key, value in machine.environment.items():
            if key.startswith("MMACE_") or key in ("HOME", "FAULT_PASSWORD"):
                monkeypatch.setenv(key, value)
        monkeypatch.syspath_prepend(machine.folder)
        trust_folder(machine.folder)
        return open_stores()

    yield opened
    disconnect()
    sys.modules.pop("faulty", None)  # the next test has one of its own
