"""Bring results that waited on disk into the database: by the next worker, at resume, or by `mmace deliver`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from mmace.errors import UserError
from mmace_flows.execution.backoff import directly, unreachable
from mmace_flows.execution.spool import DAMAGED, Spool
from mmace_flows.execution.stores import INDEXES

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores

FREE = frozenset({"READY", "WAITING", "FIZZLED"})  # states of a job that nobody runs


@dataclass
class Delivered:
    """What became of the files."""

    stored: int = 0
    superseded: int = 0  # ends of jobs that another worker has or had in hand by now
    damaged: int = 0  # set aside under another name

    def __bool__(self) -> bool:
        return bool(self.stored or self.superseded or self.damaged)

    def __str__(self) -> str:
        parts = [f"{self.stored} kept result{'s' if self.stored != 1 else ''} stored"]
        if self.superseded:
            parts.append(f"{self.superseded} not needed any more")
        if self.damaged:
            parts.append(f"{self.damaged} set aside")
        return ", ".join(parts)


def deliver(stores: Stores, say: Callable[[str], None] = print, apply: bool = True) -> Delivered:
    """Store everything that waits; a file goes only after the server has confirmed its content.

    ``apply``: also make the jobs ready that wait for a delivered one, for which the recipe must be importable; without
    it the next `mmace resume` does that. A result that the server refuses is set aside. Raises pymongo's errors if the
    server is gone again, UserError if another process delivers for a minute.
    """
    spool, result = Spool.of(stores.connection), Delivered()
    if not spool.waiting():
        return result
    with spool.lock(), directly():
        for path in spool.waiting():
            try:
                entry = spool.read(path)
                if entry is None:
                    result.damaged += 1
                    say(f"{path}: damaged, set aside")
                elif _store(stores, entry, apply):
                    result.stored += 1
                else:
                    result.superseded += 1
            except FileNotFoundError:
                continue  # removed by hand
            except PyMongoError as error:
                if unreachable(error):
                    raise
                # one that the server will never take must not hold up the others
                result.damaged += 1
                say(f"{path}: refused by the database ({type(error).__name__}: {error}), set aside")
                path.rename(path.with_suffix(DAMAGED))
            path.unlink(missing_ok=True)
    if result:
        say(str(result))
    return result


def _store(stores: Stores, entry: dict[str, Any], apply: bool) -> bool:
    """Do one write; False if it is not needed any more."""
    kind = entry["kind"]
    if kind == "documents":
        collection, key = entry["collection"], entry["key"]
        own = None if collection in INDEXES else key if isinstance(key, str) else key[0]
        stores.named(collection, own).update(entry["documents"], key=key)
    elif kind == "arrays":
        stores.arrays.update(entry["documents"], key=entry["key"], additional_metadata=entry["additional_metadata"])
    elif kind == "model":
        stores.save_model(entry["data"], entry["metadata"])
    elif kind == "end of job":
        return _end_job(stores, entry, apply)
    else:
        raise ValueError(f"unknown kind of kept result {kind!r}")
    return True


def _end_job(stores: Stores, entry: dict[str, Any], apply: bool) -> bool:
    """Note a job as ended with its response; False if another worker has or had it in hand in the meantime."""
    launchpad, launch_id = stores.launchpad, entry["launch_id"]
    launch = launchpad.launches.find_one({"launch_id": launch_id}, {"fw_id": 1, "state": 1})
    fields = {"launches": 1, "archived_launches": 1, "state": 1, "spec.campaign": 1}
    firework = launch and launchpad.fireworks.find_one({"fw_id": launch["fw_id"]}, fields)
    if launch is None or firework is None:
        return False
    others = [number for number in firework["launches"] if number != launch_id]
    if launch_id not in firework["launches"]:
        # somebody took the silent worker for dead and put its job back into the queue: take it from there, if it lies
        # there still, and not from whoever runs it now
        archived = [number for number in firework["archived_launches"] if number != launch_id]
        taken = launchpad.fireworks.update_one(
            {"fw_id": launch["fw_id"], "state": {"$in": sorted(FREE)}, "launches": firework["launches"]},
            {"$set": {"state": "RUNNING", "launches": [launch_id], "archived_launches": [*archived, *others]}},
        )
        if not taken.modified_count:
            return False
    if launch["state"] != entry["state"]:
        launchpad.write_end(launch_id, entry["action"], entry["state"])
    if apply:
        from mmace_flows.execution.recovery import recover

        recover(stores, firework["spec"]["campaign"], others_live=True)
    return True


def deliver_all(stores: Stores, say: Callable[[str], None]) -> str:
    """`mmace deliver`: store what waits; returns a last line."""
    if not Spool.of(stores.connection).waiting():
        return f"nothing waits in {Spool.of(stores.connection).folder}"
    result = deliver(stores, say, apply=_load_recipes(stores, say))
    return "" if result else "nothing waits any more"


def _load_recipes(stores: Stores, say: Callable[[str], None]) -> bool:
    """Import the recipes of unfinished campaigns, whose jobs a delivered job may make; False if one is not here."""
    from mmace_flows.execution.campaign import list_campaigns
    from mmace_flows.execution.recipe import load_recipe

    try:
        for campaign in list_campaigns(stores):
            if campaign.finished is None:
                load_recipe(Path(campaign.details.get("recipe_file") or campaign.recipe))
    except UserError as error:
        say(f"{error}; results are stored, and `mmace resume` goes on from there")
        return False
    return True
