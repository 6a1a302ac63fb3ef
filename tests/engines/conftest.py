"""What tests of execution have for themselves: a machine, and its stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from execution_tools import Machine, kill


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    yield found
    pid = found.mongod()
    if pid is not None:
        kill(pid)


@pytest.fixture
def stores(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    """Opens the machine's stores in this process when called."""
    from mmace_flows.execution.connection import disconnect
    from mmace_flows.execution.stores import open_stores

    for key in ("HOME", "MMACE_DATA_DIR"):
        monkeypatch.setenv(key, machine.environment[key])

    def opened():
        for key, value in machine.environment.items():
            if key.startswith("MMACE_"):
                monkeypatch.setenv(key, value)
        return open_stores()

    yield opened
    disconnect()
