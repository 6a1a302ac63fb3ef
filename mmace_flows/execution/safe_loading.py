"""What documents of the database may become when they are read: jobs of ours, plain data, and nothing else.

FireWorks and monty rebuild whatever class or function a document names: who can write to the database could run any
program on every worker. Here, before a name is imported, it must stand on a short list; a function must be a jobflow
job besides. Anything else raises `RefusedDocument`; the queue then sets the document aside (`quarantine`).
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireworks import FiretaskBase, FWAction, Launch, explicit_serialize
from fireworks.utilities import fw_serializers
from monty.json import MontyDecoder

from mmace_flows.execution.trust import EXCLUDED, FOLDERS, PACKAGES

if TYPE_CHECKING:
    from fireworks import LaunchPad

VALUES = {  # plain values, rebuilt without importing what the document names
    ("datetime", "datetime"),
    ("numpy", "array"),
    ("numpy", "generic"),
    ("pathlib", "Path"),
    ("uuid", "UUID"),
    ("bson.objectid", "ObjectId"),
}
TASKS = {"{{jobflow.managers.fireworks.JobFiretask}}", "{{mmace_flows.execution.safe_loading.RefusedTask}}"}
# what FireWorks understands and our flows use; the rest copies, reads and makes files, or runs further tasks
SPEC_KEYS = {
    "_tasks",
    "_add_launchpad_and_fw_id",
    "_allow_fizzled_parents",
    "_fizzled_parents",
    "_category",
    "_fworker",
    "_priority",
    "_exception_details",
    "_queueadapter",
}
ADAPTER_KEYS = {"ntasks", "mem", "walltime", "gres"}  # of `policy.spec`; others hold lines of shell scripts
PLAIN_DECODE, PLAIN_LOAD = MontyDecoder.process_decoded, fw_serializers._recursive_load  # as without `install`
_installed = False


class RefusedDocument(Exception):
    """A document asks for something that no document may ask for."""


def install() -> None:
    """Guard this process; a second call does nothing."""
    global _installed
    if _installed:
        return
    _installed = True
    decode, load = PLAIN_DECODE, PLAIN_LOAD

    def process_decoded(self: MontyDecoder, document: Any) -> Any:
        if not isinstance(document, dict) or "@module" not in document:
            return decode(self, document)
        if "@class" in document:
            check_class(document["@module"], document["@class"])
            return decode(self, document)
        if "@callable" in document:
            check_module(document["@module"], document["@callable"], imported=True)
            return check_callable(decode(self, document), document)
        return decode(self, document)

    def recursive_load(document: Any) -> Any:
        if isinstance(document, dict) and "_fw_name" in document and document["_fw_name"] not in TASKS:
            raise RefusedDocument(f"a document asks for the task {_short(document['_fw_name'])}; only jobflow jobs run")
        return load(document)

    MontyDecoder.process_decoded = process_decoded  # type: ignore[method-assign,assignment]
    fw_serializers._recursive_load = recursive_load


def check_class(module: Any, name: Any) -> None:
    """Raise RefusedDocument unless the class may be rebuilt."""
    if (module, name) not in VALUES and (module, name) != ("", ""):  # so jobflow marks what is kept as an array
        check_module(module, name)


def check_module(module: Any, name: Any, imported: bool = False) -> None:
    """Raise RefusedDocument unless the module may be imported. ``imported``: it also may if it is already."""
    if isinstance(module, str) and isinstance(name, str):
        if _within(module, PACKAGES) and not _within(module, EXCLUDED):
            return
        if imported and module in sys.modules:
            return  # the function still has to be a job
        if _in_trusted_folder(module):
            return
    raise RefusedDocument(
        f"a document asks for {_short(module)}.{_short(name)}, which is none of the classes and jobs that may be loaded"
    )


def check_callable(found: Any, document: dict[str, Any]) -> Any:
    """``found`` if it is a job, or the schema of a job's output. Raises RefusedDocument."""
    from pydantic import BaseModel

    if hasattr(found, "original") or (inspect.isclass(found) and issubclass(found, BaseModel)):
        return found
    name = f"{_short(document['@module'])}.{_short(document['@callable'])}"
    raise RefusedDocument(f"a document asks for {name}, which is not a job")


def check_spec(spec: dict[str, Any]) -> None:
    """Raise RefusedDocument for a job that asks FireWorks for more than to be run."""
    for key in spec:
        if key.startswith("_") and key not in SPEC_KEYS:
            raise RefusedDocument(f"a job asks for {_short(key)}, which no job of a campaign needs")
    for key, value in (spec.get("_queueadapter") or {}).items():
        if key not in ADAPTER_KEYS or not re.fullmatch(r"[\w:.-]{1,40}", str(value)):
            raise RefusedDocument(f"a job asks the batch system for {_short(key)}: {_short(value)}")


def _within(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _in_trusted_folder(module: str) -> bool:
    root = module.partition(".")[0]
    try:
        loaded = sys.modules.get(root)
        spec = getattr(loaded, "__spec__", None) if loaded is not None else importlib.util.find_spec(root)
    except (ImportError, ValueError):
        return False
    file = spec.origin if spec is not None else None
    return file is not None and any(Path(file).resolve().is_relative_to(folder) for folder in FOLDERS)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


@explicit_serialize
class RefusedTask(FiretaskBase):
    """Stands in the queue for a job whose document was refused: fails, and says why."""

    required_params = ("reason",)

    def run_task(self, fw_spec: dict[str, Any]) -> None:
        """Raise RefusedDocument."""
        raise RefusedDocument(self["reason"])


def quarantine(launchpad: LaunchPad, fw_id: int, refusal: RefusedDocument) -> None:
    """Move what is refused of a job to the collection ``refused``; its place is taken by a job that fails."""
    firework = launchpad.fireworks.find_one({"fw_id": fw_id}, {"_id": 0})
    reason = f"{refusal} (its document was moved to the collection 'refused')"
    note = {"fw_id": fw_id, "reason": str(refusal), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        check_spec(firework["spec"])
        fw_serializers._recursive_load({"spec": firework["spec"]})
    except RefusedDocument:
        launchpad.db["refused"].insert_one(note | {"firework": firework})
        spec = {key: value for key, value in firework["spec"].items() if not key.startswith("_")}
        task = {"_fw_name": RefusedTask._fw_name, "reason": reason}  # type: ignore[attr-defined]
        launchpad.fireworks.update_one({"fw_id": fw_id}, {"$set": {"spec": spec | {"_tasks": [task]}}})
    for launch in launchpad.launches.find({"launch_id": {"$in": firework["launches"] + firework["archived_launches"]}}):
        try:
            Launch.from_dict(launch)
        except RefusedDocument:
            launchpad.db["refused"].insert_one(note | {"launch": {k: v for k, v in launch.items() if k != "_id"}})
            trace = {"_stacktrace": f"RefusedDocument: {reason}", "_details": None}
            action = FWAction(stored_data={"_message": reason, "_exception": trace}, exit=True).to_dict()
            launchpad.launches.update_one(
                {"launch_id": launch["launch_id"]}, {"$set": {"state": "FIZZLED", "action": action}}
            )


def check_document(value: Any) -> None:
    """Raise RefusedDocument if anything in a document asks for a class, function or task that may not be loaded."""
    if isinstance(value, dict):
        if "_fw_name" in value:
            raise RefusedDocument(f"a document asks for the task {_short(value['_fw_name'])}")
        if "@module" in value and ("@class" in value or "@callable" in value):
            check_class(value["@module"], value.get("@class", value.get("@callable")))
        for one in value.values():
            check_document(one)
    elif isinstance(value, list):
        for one in value:
            check_document(one)
