"""Ctrl-C and SIGTERM wait for the end of a step, so that nothing that was computed is lost."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """Within the ``with`` block a signal is only noted; the block asks for ``pending`` and calls `deliver`.

    A second signal takes effect at once. What a signal does in the end is what it would have done without the block:
    a signal that is ignored stays ignored. Outside the main thread nothing is deferred, since Python delivers no
    signals there.
    """

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.noted: int | None = None

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    self.before[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._restore()
        if self.pending and kind is None:
            self.deliver()

    @property
    def pending(self) -> bool:
        """Has a signal arrived that has not been delivered?"""
        return self.noted is not None

    def deliver(self, message: str = "") -> None:
        """Lets the noted signal do what it does; a KeyboardInterrupt that it raises carries ``message``."""
        number, self.noted = self.noted, None
        if number is None:
            return
        try:
            self._act(number, None)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(*([message] if message else [])) from None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            self._act(number, frame)
        self.noted = number

    def _act(self, number: int, frame: FrameType | None) -> None:
        handler = self.before[number]
        if callable(handler):
            handler(number, frame)
        else:  # the system's own action, which ends the process
            signal.signal(number, handler)
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
