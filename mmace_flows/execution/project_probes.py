"""Probes of `mmace project check`: a document through each store, one atom through an engine."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError

if TYPE_CHECKING:
    from mmace_flows.execution.stores import Stores


def probe_stores(stores: Stores) -> dict[str, str | None]:
    """Write, read and delete a document in each store; store → what went wrong, None if nothing did."""
    names = ("labels", "events", "fireworks", "launches", "workflows")
    probes: dict[str, Callable[[], None]] = {name: _collection(stores, name) for name in names}
    probes["jobs and their arrays"] = lambda: _job_store(stores.jobs)
    probes["models"] = lambda: _models(stores)
    found: dict[str, str | None] = {}
    for name, probe in probes.items():
        try:
            probe()
            found[name] = None
        except Exception as error:  # each store has errors of its own: botocore's, gridfs', pymongo's
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found


def _collection(stores: Stores, name: str) -> Callable[[], None]:
    def probe() -> None:
        collection = stores.connection.database[name]
        mark = f"probe-{uuid.uuid4().hex}"
        # unique indexes lie over these keys: a probe needs a value of its own that nothing else looks for
        keys: dict[str, Any] = {"labels": "label_key", "events": "event_id"}
        numbers = {"fireworks": "fw_id", "launches": "launch_id", "workflows": "nodes"}
        own = {keys[name]: mark} if name in keys else {numbers[name]: -uuid.uuid4().int % 2**31 - 2**31}
        identifier = collection.insert_one({"probe": mark, **own}).inserted_id
        try:
            _same(collection.find_one({"_id": identifier}), mark)
        finally:
            collection.delete_one({"_id": identifier})

    return probe


def _job_store(store: Any) -> None:
    mark = f"probe-{uuid.uuid4().hex}"
    document = {"uuid": mark, "index": 1, "output": {"array": [1.5, -2.5]}, "probe": mark}
    try:
        store.update(document, save={"data": ["array"]} if "data" in store.additional_stores else None)
        found = store.query_one({"uuid": mark}, load=True)
        if found is None or found["output"]["array"] != [1.5, -2.5]:
            raise UserError("what was written does not come back")
    finally:
        kept = store.query_one({"uuid": mark}, load=False) or {}
        blob = kept.get("output", {}).get("array") if isinstance(kept.get("output"), dict) else None
        if isinstance(blob, dict) and "blob_uuid" in blob:
            store.additional_stores["data"].remove_docs({"blob_uuid": blob["blob_uuid"]})
        store.docs_store.remove_docs({"uuid": mark})


def _models(stores: Stores) -> None:
    from gridfs import GridFS

    files = GridFS(stores.connection.database, "models")
    mark = f"probe-{uuid.uuid4().hex}"
    identifier = files.put(mark.encode(), filename=mark)
    try:
        _same({"probe": files.get(identifier).read().decode()}, mark)
    finally:
        files.delete(identifier)


def _same(document: dict[str, Any] | None, mark: str) -> None:
    if document is None or document.get("probe") != mark:
        raise UserError("what was written does not come back")


def run_one_atom(name: str, folder: Path) -> str:
    """One atom in a box through an engine; what came out, in words. Raises UserError."""
    from ase import Atoms

    from mmace_flows.labels.engine import get_engine
    from mmace_flows.schemas.structure import MagneticStructure

    element, settings = _espresso() if name == "espresso" else _gpaw()
    atoms = Atoms(element, cell=[4.0, 4.0, 4.0], pbc=True)
    structure = MagneticStructure.from_atoms(atoms, [1.0])
    result = get_engine(name, settings, [element]).run(structure, folder)
    if not result.converged or result.free_energy is None or result.magmoms is None:
        raise UserError(f"one atom of {element} does not converge ({result.error}); see docs/troubleshooting.md")
    moment = abs(result.total_magmom if result.total_magmom is not None else float(result.magmoms[0][2]))
    return f"one atom of {element}: {result.free_energy:.2f} eV, {moment:.2f} μB, {result.wall_seconds:.0f} s"


def _gpaw() -> tuple[str, dict[str, Any]]:
    # not for numbers: as coarse as the engine still converges
    return "H", {"cutoff": 200.0, "kpoints": [1, 1, 1], "smearing_width": 0.05, "density_convergence": 1e-3}


def _espresso() -> tuple[str, dict[str, Any]]:
    from ase.data import atomic_numbers

    from mmace_flows.labels.pseudopotentials import pseudo_folder, read_header

    headers = [read_header(path) for path in pseudo_folder().iterdir() if path.suffix.lower() == ".upf"]
    elements = {header.element for header in headers if header.functional == "PBE"}
    if not elements:
        raise UserError("no PBE pseudopotential for Quantum ESPRESSO; see docs/espresso.md")
    return min(elements, key=lambda one: atomic_numbers[one]), {"cutoff": 300.0, "kpoints": [1, 1, 1]}
