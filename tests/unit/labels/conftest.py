"""What the tests of labels share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from analytic_engine import AnalyticEngine
from maggma.stores import MemoryStore


@pytest.fixture
def engine():
    return AnalyticEngine()


@pytest.fixture
def labels():
    store = MemoryStore(key="label_key")
    store.connect()
    return store


@pytest.fixture
def job_stores(labels, tmp_path, monkeypatch):
    """The stores that a job opens: ``labels``, a folder, and ``events`` (campaign, stage, message, data)."""
    events = []
    fake = SimpleNamespace(
        labels=labels,
        scratch=lambda campaign, key: tmp_path / campaign / key,
        event=lambda campaign, stage, message, **data: events.append((campaign, stage, message, data)),
        events=events,
    )
    monkeypatch.setattr("mmace_flows.execution.stores.open_stores", lambda: fake)
    return fake
