"""The next batches are read and joined by a thread while the accelerator works on this one.

On a CPU there is nothing to gain: the thread and the model would share the same cores.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")

DEPTH = 2  # items that are made ahead


def prefetched(items: Iterator[Item], depth: int = DEPTH) -> Iterator[Item]:
    """The items in their order, made by a thread up to ``depth`` ahead.

    What the thread is refused is raised here. Left before the end, the thread stops after the item it is making.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def hand_over(more: bool, item: Item | BaseException | None) -> None:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((more, item), timeout=0.1)
                return

    def make() -> None:
        try:
            for item in items:
                hand_over(True, item)
                if left.is_set():
                    return
            hand_over(False, None)
        except BaseException as error:  # raised again where somebody hears it
            hand_over(False, error)

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if more:
                yield item  # type: ignore[misc]
            elif isinstance(item, BaseException):
                raise item
            else:
                return
    finally:
        left.set()
        thread.join()
