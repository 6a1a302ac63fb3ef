"""Tests of execution leave the process as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fireworks.utilities import fw_serializers
from monty.json import MontyDecoder

from mmace_flows.execution import safe_loading


@pytest.fixture(autouse=True)
def guard_put_back() -> Iterator[None]:
    """The guard against documents of strangers stays in a process for good; other tests load classes of their own."""
    yield
    MontyDecoder.process_decoded = safe_loading.PLAIN_DECODE  # type: ignore[method-assign]
    fw_serializers._recursive_load = safe_loading.PLAIN_LOAD
    safe_loading._installed = False
