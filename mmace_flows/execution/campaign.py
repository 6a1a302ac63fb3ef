"""Campaign documents: begin one, find one again, and make sure that only one process runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pymongo.errors import PyMongoError

from mmace.errors import UserError
from mmace_flows.execution import backoff
from mmace_flows.execution.connection import on_this_machine
from mmace_flows.execution.processes import FileLock, ProcessName
from mmace_flows.execution.recipe import Recipe
from mmace_flows.schemas.campaign import Campaign
from mmace_flows.schemas.document import content_hash

if TYPE_CHECKING:
    from mmace_flows.execution.settings import Settings
    from mmace_flows.execution.stores import Stores

SIGN_OF_LIFE = timedelta(seconds=60)  # a runner on another machine that is silent for longer is dead


def check_name(name: str) -> str:
    """A campaign's name is a folder's name too. Raises UserError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise UserError(f"--name {name!r}: use letters, digits, '-', '_' and '.', at most 80, like feni-small")
    return name


def settings_hash(recipe: Recipe, settings: BaseModel) -> str:
    """Hash of the recipe's name and its complete settings, without ``needs``: where jobs run decides no number."""
    return content_hash([recipe.name, settings.model_dump(mode="json", exclude={"needs"})])


def find_campaign(stores: Stores, name: str) -> Campaign | None:
    """The campaign of this name, or None."""
    found = backoff.reading(lambda: stores.collection("campaigns").find_one({"campaign": name}))
    return None if found is None else Campaign.from_store(found)


def list_campaigns(stores: Stores) -> list[Campaign]:
    """All campaigns, the newest last."""
    found = backoff.reading(lambda: list(stores.collection("campaigns").find().sort("created", 1)))
    return [Campaign.from_store(one) for one in found]


def require_database(settings: Settings, name: str | None) -> None:
    """Raise UserError if there never was a database, rather than start one in which nothing can be found."""
    from mmace_flows.execution.embedded import EmbeddedDatabase

    if settings.database is None and not EmbeddedDatabase(settings).exists():
        what = "no campaign" if name is None else f"no campaign '{name}'"
        raise UserError(f"{what}: there is no database in {settings.data_dir}; another folder: --data-dir")


def require_campaign(stores: Stores, name: str | None) -> Campaign:
    """The campaign of this name; without a name the newest unfinished one, else the newest. Raises UserError."""
    campaigns = list_campaigns(stores)
    if not campaigns:
        what = "no campaign" if name is None else f"no campaign '{name}', nor any other,"
        raise UserError(f"{what} in this database yet; begin one with `mmace run workflows/feni.py --preset small`")
    if name is None:
        unfinished = [one for one in campaigns if one.finished is None]
        return (unfinished or campaigns)[-1]
    for one in campaigns:
        if one.campaign == name:
            return one
    raise UserError(f"no campaign '{name}'; known: {', '.join(one.campaign for one in campaigns)}")


def begin_campaign(stores: Stores, recipe: Recipe, preset: str, settings: BaseModel, name: str, given: str) -> Campaign:
    """The campaign of this name, made if it is new. ``given``: the recipe's path as the user gave it.

    Raises UserError if a campaign of this name has other settings.
    """
    digest = settings_hash(recipe, settings)
    old = find_campaign(stores, name)
    if old is not None:
        if old.settings_hash != digest:
            raise UserError(
                f"campaign '{name}' exists with other settings ({_difference(old, recipe, settings)}); "
                f"choose another --name, or --new, or continue it with `mmace resume {name}`"
            )
        return old
    from mmace_flows import __version__

    campaign = Campaign(
        campaign=name,
        recipe=given,
        preset=preset,
        settings=settings.model_dump(mode="json"),
        settings_hash=digest,
        code_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        estimate=recipe.estimate(settings),
        details={"recipe_file": str(recipe.path)},
    )
    # whoever comes second at the same moment changes nothing
    document = campaign.model_dump(mode="json")
    stores.collection("campaigns").update_one({"campaign": name}, {"$setOnInsert": document}, upsert=True)
    written = find_campaign(stores, name)
    assert written is not None
    if written.settings_hash != digest:
        raise UserError(f"campaign '{name}' was begun by somebody else just now, with other settings; choose a --name")
    return written


def free_name(stores: Stores, name: str) -> str:
    """``name``, or ``name-2``, ``name-3``, … : the first that no campaign has."""
    taken = {one.campaign for one in list_campaigns(stores)}
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def update_campaign(stores: Stores, name: str, **fields: Any) -> None:
    """Set fields of the campaign document (dots reach into nested ones)."""
    stores.collection("campaigns").update_one({"campaign": name}, {"$set": fields})


def _difference(old: Campaign, recipe: Recipe, settings: BaseModel) -> str:
    """The first few settings that differ, in words."""
    if str(old.details.get("recipe_file", "")).rpartition("/")[2] != recipe.path.name:
        return f"its recipe is {old.recipe}"
    found = _leaves(old.settings, settings.model_dump(mode="json"))
    shown = [f"{key}: {_short(there)} there, {_short(here)} here" for key, there, here in found[:2]]
    return "; ".join(shown) + (f"; and {len(found) - 2} more" if len(found) > 2 else "")


def _leaves(there: Any, here: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted key, value there, value here) of everything that differs in nested settings."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return [] if there == here else [(key, there, here)]
    return [
        leaf
        for name in {**there, **here}
        for leaf in _leaves(there.get(name), here.get(name), f"{key}.{name}" if key else str(name))
    ]


def _short(value: Any) -> str:
    """A value, cut to a length that fits into a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


@contextmanager
def only_runner(stores: Stores, name: str) -> Iterator[None]:
    """While the block runs, no other process runs this campaign. Raises UserError that names the other process.

    On this machine the kernel decides (a lock that dies with its holder); between machines that share a server, a sign
    of life in the campaign document, see `sign_of_life`.
    """
    lock = FileLock(stores.campaign_folder(name) / "run.lock")
    if not lock.acquire(timeout=0.0):
        raise UserError(
            f"campaign '{name}' is being run by process {lock.holder()}; watch it with `mmace status {name}`"
        )
    try:
        _refuse_other_machine(stores, name)
        sign_of_life(stores, name)
        try:
            yield
        finally:
            with suppress(PyMongoError):  # a server that is gone is reported by whoever needed it
                update_campaign(stores, name, **{"details.runner": None})
    finally:
        lock.release()


def _refuse_other_machine(stores: Stores, name: str) -> None:
    """Raise UserError if a process on another machine, or over another data folder, runs the campaign."""
    runner = (stores.campaigns.query_one({"campaign": name}) or {}).get("details", {}).get("runner") or {}
    other = ProcessName.parse(runner.get("process", ""))
    if other is None or other == ProcessName.this():
        return
    if on_this_machine(stores.connection, other):
        alive = other.alive()
    else:
        alive = stores.now() - datetime.fromisoformat(runner["seen"]) < SIGN_OF_LIFE
    if alive:
        raise UserError(f"campaign '{name}' is being run by process {other.pid} on {other.host}; stop that first")


def sign_of_life(stores: Stores, name: str) -> None:
    """Say in the campaign document that this process runs it. To be called every few seconds."""
    seen = stores.now().isoformat(timespec="seconds")
    update_campaign(stores, name, **{"details.runner": {"process": str(ProcessName.this()), "seen": seen}})
