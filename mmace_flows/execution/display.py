"""What a running campaign shows: a live table on a terminal, plain lines elsewhere; a log file in both cases."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmace_flows.execution.progress import Progress, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

RECENT_LINES = 8
LOG_TIME = "%Y-%m-%d %H:%M:%S"  # local; the live display leaves the date out


class Display:
    """Shows lines and progress. ``line`` is for things that happen, ``show`` for how things stand."""

    def __init__(self, console: Console, campaign: str, log: Path) -> None:
        self.console, self.campaign, self.log = console, campaign, log
        self._recent: deque[str] = deque(maxlen=RECENT_LINES)
        self._live: Live | None = None
        self._began = time.monotonic()
        self._logger = logging.getLogger(f"mmace.campaign.{campaign}")
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._handler: logging.Handler | None = None

    @contextmanager
    def running(self) -> Iterator[Display]:
        """Show and log while the block runs."""
        self._handler = logging.FileHandler(self.log, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", LOG_TIME))
        # a full disk must not end a campaign over a line of its log
        self._handler.handleError = lambda record: None  # type: ignore[method-assign]
        self._logger.addHandler(self._handler)
        try:
            if self.console.is_terminal:
                with Live(console=self.console, refresh_per_second=2, transient=False) as self._live:
                    yield self
            else:
                yield self
        finally:
            self._live = None
            self._logger.removeHandler(self._handler)
            self._handler.close()

    def line(self, text: str, style: str = "") -> None:
        """Something happened."""
        self._logger.info(text)
        stamped = f"{datetime.now():%H:%M:%S}  {text}"
        if self._live is not None:
            self._recent.append(stamped)
        else:
            self.console.print(Text(stamped, style=style), soft_wrap=True)

    def show(self, progress: Progress) -> None:
        """How things stand."""
        if self._live is not None:
            self._live.update(self._picture(progress))

    def _picture(self, progress: Progress) -> RenderableType:
        left = progress.seconds_left
        head = f"{self.campaign} · running for {duration(time.monotonic() - self._began)}"
        if left is not None and not progress.complete:
            head += f" · about {duration(left)} left"
        recent = Text("\n".join(self._recent), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(Text(head, style="bold"), stage_table(progress), recent, Text(f"log: {self.log}", style="dim"))


def stage_table(progress: Progress) -> Table:
    """Jobs per stage; ``to come`` counts those that wait and those that the estimate still expects."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for column in ("done", "running", "failed", "to come", "of"):
        table.add_column(column, justify="right")
    for stage in progress.stages:
        failed = Text(str(stage.failed or ""), style="bold red")
        style = "dim" if stage.left == 0 else "bold" if stage.running else ""
        to_come = stage.left - stage.running
        cells: list[Text | str] = [
            str(stage.done),
            str(stage.running or ""),
            failed,
            str(to_come or ""),
            str(stage.total),
        ]
        table.add_row(stage.name, *cells, style=style)
    return table


def event_line(event: dict[str, Any]) -> str:
    """One event as a line: its message, which is written for people; its numbers stay in the database."""
    return f"{event['stage']}: {event['message']}"


def local_time(moment: str) -> str:
    """A moment of a document (ISO 8601, UTC) on this machine's clock, in the form of the log."""
    when = datetime.fromisoformat(moment)
    return f"{(when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone():{LOG_TIME}}"
