"""`mmace run` and `mmace resume`: begin or continue a campaign and bring it to its end."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from mmace.errors import UserError
from mmace_flows.execution.recipe import Recipe, load_recipe
from mmace_flows.execution.settings import Settings

if TYPE_CHECKING:
    from mmace_flows.execution.progress import Progress
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign, CostEstimate

OK, BROKEN, INTERRUPTED = 0, 1, 130  # exit codes


@dataclass(frozen=True)
class Request:
    """What the user asked `mmace run` for."""

    recipe: Path
    preset: str
    changes: Sequence[str] = ()
    name: str | None = None
    new: bool = False
    yes: bool = False


def run(request: Request, settings: Settings, console: Console) -> int:
    """Begin the campaign, or continue it if it exists; returns the exit code.

    Raises UserError for anything wrong in the request, before anything is started.
    """
    recipe = load_recipe(request.recipe)
    stores, campaign = begin(request, recipe, settings, console)
    return _bring_to_end(stores, campaign, recipe, settings, console)


def begin(request: Request, recipe: Recipe, settings: Settings, console: Console) -> tuple[Stores, Campaign]:
    """The campaign's document, made if it is new, once its cost is agreed to; and the stores. Raises UserError."""
    from mmace_flows.execution.campaign import begin_campaign, check_name, find_campaign, free_name

    recipe_settings = recipe.settings(request.preset, request.changes)
    name = check_name(request.name or f"{recipe.name}-{request.preset}")
    estimate = recipe.estimate(recipe_settings)
    stores = _open(settings)
    if request.new:
        name = free_name(stores, name)
    old = find_campaign(stores, name)
    if old is None:
        _announce_cost(name, estimate, settings.workers, request.yes, console)
    return stores, begin_campaign(stores, recipe, request.preset, recipe_settings, name, str(request.recipe))


def resume(name: str | None, settings: Settings, console: Console) -> int:
    """Continue a campaign (default: the newest unfinished one); returns the exit code. Raises UserError."""
    from mmace_flows.execution.campaign import require_campaign, require_database

    require_database(settings, name)
    stores = _open(settings)
    campaign = require_campaign(stores, name)
    if campaign.details.get("project"):
        return _back_to_project(stores, campaign, console)
    recipe = load_recipe(Path(campaign.details.get("recipe_file") or campaign.recipe))
    return _bring_to_end(stores, campaign, recipe, settings, console)


def _back_to_project(stores: Stores, campaign: Campaign, console: Console) -> int:
    """Let the workers of the campaign's project go on with it; what failed is tried once more."""
    from mmace_flows.execution.operations import reopen, retry

    name, project = campaign.campaign, campaign.details["project"]
    if campaign.finished is None:
        reopen(stores, name)
        again = retry(stores, campaign)
        jobs = f"; {len(again)} failed or cut-off jobs start again" if again else ""
        console.print(f"campaign {name} goes on{jobs}", highlight=False)
        console.print(f"its workers: mmace launch --project {project}, or mmace worker", highlight=False)
    else:
        console.print(f"campaign {name} is complete: mmace report {name} --project {project}", highlight=False)
    return OK


def report_path(stores: Stores, campaign: str) -> Path:
    """Where the report of a campaign lies."""
    return stores.campaign_folder(campaign) / "report.html"


def command(verb: str, name: str, settings: Settings) -> str:
    """The command to type, with the data folder where it is not the usual one."""
    words = ["mmace", verb, name]
    if settings.data_dir != Path("~/.mmace").expanduser():
        words += ["--data-dir", str(settings.data_dir)]
    return shlex.join(words)


def _open(settings: Settings) -> Stores:
    # jobs, report and workers open the stores by themselves: they must find the same ones
    os.environ.update(settings.environment())
    from mmace_flows.execution.connection import require_writing
    from mmace_flows.execution.stores import open_stores

    stores = open_stores(settings)
    require_writing(stores.connection)
    _ = stores.jobs  # a job store of the user's own that is not there is told before anything begins
    return stores


def _announce_cost(name: str, estimate: CostEstimate, workers: int, yes: bool, console: Console) -> None:
    """Print the estimate; ask before more than a core-day. Raises UserError if nobody can be asked."""
    from mmace_flows.execution.progress import CORE_DAY, cost_lines

    console.print(f"campaign {name}, estimated cost:", markup=False, highlight=False)
    for line in cost_lines(estimate, workers):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if estimate.core_seconds <= CORE_DAY or yes:
        return
    if not sys.stdin.isatty():
        raise UserError("that is more than a core-day; add --yes to start it all the same")
    answer = console.input("That is more than a core-day. Start it? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError("not started; choose a smaller preset, or answer y")


def _bring_to_end(stores: Stores, campaign: Campaign, recipe: Recipe, settings: Settings, console: Console) -> int:
    from pymongo.errors import PyMongoError

    from mmace_flows.execution.backoff import reason
    from mmace_flows.execution.campaign import only_runner
    from mmace_flows.execution.display import Display
    from mmace_flows.execution.operations import reopen
    from mmace_flows.execution.runner import Runner
    from mmace_flows.execution.submit import submit_once

    name = campaign.campaign
    if campaign.finished is not None:
        return _finish(stores, campaign, settings, console, rebuild=False)
    log = stores.campaign_folder(name) / "campaign.log"
    display = Display(console, name, log)
    with only_runner(stores, name), _signals_interrupt() as ignore_further:
        runner = Runner(stores, campaign, display, recipe.path.parent, settings.workers)
        try:
            reopen(stores, name)
            submit_once(stores, campaign, recipe)
            console.print(f"log: {log}", markup=False, highlight=False, soft_wrap=True)
            with display.running():
                runner.prepare()
                progress = runner.run()
        except KeyboardInterrupt:
            ignore_further()
            console.print("stopped; putting interrupted jobs back into the queue …", highlight=False)
            runner.interrupted()
            console.print(f"continue with: {command('resume', name, settings)}", highlight=False, soft_wrap=True)
            return INTERRUPTED
        except PyMongoError as error:
            raise UserError(
                f"the database stopped answering ({reason(error)}); nothing finished is lost, "
                f"continue with: {command('resume', name, settings)}"
            ) from error
        if runner.closed and not progress.complete:
            go_on = command("resume", name, settings)
            console.print(
                f"campaign {name} was paused or cancelled; go on with: {go_on}", highlight=False, soft_wrap=True
            )
            return OK
        if not progress.complete:
            return _report_broken(stores, progress, campaign, settings, console)
        from mmace_flows.execution.campaign import update_campaign

        update_campaign(stores, name, finished=datetime.now(UTC).isoformat(timespec="seconds"))
        return _finish(stores, campaign, settings, console, rebuild=True)


def _report_broken(stores: Stores, progress: Progress, campaign: Campaign, settings: Settings, console: Console) -> int:
    from mmace_flows.execution.queue import failure_message

    for job in progress.failed:
        line = f"broken: {job.name}: {failure_message(stores, job.firework)}"
        console.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)
    waiting = len(progress.jobs) - sum(stage.done + stage.failed for stage in progress.stages)
    console.print(
        f"campaign {campaign.campaign} is not complete: {len(progress.failed)} jobs failed, {waiting} wait for them; "
        f"mend the cause, then: {command('resume', campaign.campaign, settings)}",
        highlight=False,
        soft_wrap=True,
    )
    return BROKEN


def _finish(stores: Stores, campaign: Campaign, settings: Settings, console: Console, rebuild: bool) -> int:
    """Write the report if needed and say where it lies."""
    path = report_path(stores, campaign.campaign)
    if rebuild or not path.exists():
        from mmace_flows.report.build import build_report

        try:
            path = build_report(campaign.campaign, path)
        except UserError:
            raise
        except Exception as error:  # the results are safe: a fault of the report must not look like one of theirs
            console.print(
                f"campaign {campaign.campaign} is complete, but its report failed ({type(error).__name__}: {error}); "
                f"write it with: {command('report', campaign.campaign, settings)}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            return BROKEN
    console.print(f"campaign {campaign.campaign} is complete", highlight=False)
    console.print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)
    return OK


@contextmanager
def _signals_interrupt() -> Iterator[Callable[[], None]]:
    """SIGTERM and a closed terminal end a run like Ctrl-C does. Yields a function that makes it deaf to more."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}

    def ignore_further() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    try:
        yield ignore_further
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
