"""`mmace watch`: a campaign as it goes on, whoever runs it and wherever."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mmace_flows.execution.campaign import require_campaign
from mmace_flows.execution.display import RECENT_LINES, event_line, local_time, stage_table
from mmace_flows.execution.progress import ProgressReader, duration, pause
from mmace_flows.execution.queue import RUNNING
from mmace_flows.execution.status import row_of
from mmace_flows.execution.stuck import find_stuck

if TYPE_CHECKING:
    from mmace_flows.execution.projects import Project
    from mmace_flows.execution.settings import Settings
    from mmace_flows.execution.stores import Stores

LOOK_SECONDS = 2.0
STUCK_SECONDS = 20.0  # between looks for what holds it up


def watch(stores: Stores, name: str, settings: Settings, project: Project | None, console: Console) -> None:
    """Show the campaign until it is finished; Ctrl-C ends watching, and nothing else.

    A live table on a terminal; elsewhere a line for each thing that happens.
    """
    campaign = require_campaign(stores, name)
    reader = ProgressReader(stores, campaign.campaign, campaign.estimate, settings.workers)
    recent: deque[str] = deque(maxlen=RECENT_LINES)
    stuck, next_stuck = "", 0.0
    reader.new_events()
    with Live(console=console, refresh_per_second=2) if console.is_terminal else _Plain() as live:
        while True:
            began = time.monotonic()
            campaign = require_campaign(stores, name)
            lines = [f"{local_time(event['time'])}  {event_line(event)}" for event in reader.new_events()]
            progress = reader.read()
            # as many as run now will run on: a project's workers are not those of this machine
            reader.workers = max(1, progress.count(RUNNING)) if campaign.details.get("project") else settings.workers
            if time.monotonic() >= next_stuck:
                next_stuck = time.monotonic() + STUCK_SECONDS
                found = find_stuck(stores, campaign, row_of(stores, campaign), project)
                before, stuck = stuck, f"stuck: {found[0].what}; mend with: {found[0].mend}" if found else ""
                if stuck and stuck != before and not isinstance(live, Live):
                    lines.append(stuck)
            if isinstance(live, Live):
                recent.extend(lines)
                left = progress.seconds_left
                head = campaign.campaign + (f" · about {duration(left)} left" if left and not campaign.finished else "")
                old = Text("\n".join(recent), style="dim", no_wrap=True, overflow="ellipsis")
                live.update(Group(Text(head, style="bold"), stage_table(progress), old, Text(stuck, style="bold red")))
            else:
                for line in lines:
                    console.print(line, highlight=False, markup=False, soft_wrap=True)
            if campaign.finished is not None:
                console.print(f"campaign {campaign.campaign} is finished", highlight=False)
                return
            pause(began, LOOK_SECONDS)


class _Plain:
    """In place of a live display where there is no terminal."""

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *error: object) -> None:
        return None
