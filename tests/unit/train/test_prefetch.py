"""Batches made ahead by a thread: the same ones, never many, and no thread left behind."""

from __future__ import annotations

import threading
import time

import pytest

from mmace.errors import UserError
from mmace.train.prefetch import prefetched


def threads() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_items_come_in_order_and_are_made_ahead_but_not_far():
    made: list[int] = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    came = []
    for item in prefetched(items(), depth=2):
        time.sleep(0.002)
        assert len(made) <= item + 4  # two that are ready, and one in the making
        came.append(item)
    assert came == list(range(20))
    assert threads() == 0


def test_what_the_thread_is_refused_is_raised_here():
    def items():
        yield 1
        raise UserError("shard-000001.h5: ends early")

    came = []
    with pytest.raises(UserError, match="ends early"):
        came.extend(prefetched(items()))
    assert threads() == 0


def test_left_early_the_thread_stops():
    made: list[int] = []

    def endless():
        while True:
            made.append(len(made))
            yield made[-1]

    ahead = prefetched(endless())
    assert [next(ahead), next(ahead)] == [0, 1]
    assert threads() == 1
    ahead.close()
    assert threads() == 0
    count = len(made)
    time.sleep(0.05)
    assert len(made) == count <= 6
