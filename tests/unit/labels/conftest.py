"""What the tests of labels share."""

from __future__ import annotations

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
