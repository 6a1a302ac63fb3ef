"""The table's builder: ``spin_orbit`` and ``predictions`` → ``anisotropy``, one row per parent and ordering.

What a row was made from is kept with it as a hash over keys and dates of its sources. A build makes the rows whose
sources changed, mends energies above the hull that new energies elsewhere have moved, and removes rows whose sources
are gone. Rows are written whole, so a build that is killed has done a part, and the next one does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from maggma.builders import Builder
from maggma.core import Store
from maggma.utils import grouper
from pydantic import ValidationError
from pymatgen.symmetry.analyzer import SymmetryUndeterminedError
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from mmace.errors import UserError
from mmace_flows.properties.anisotropy_values import values_from_document
from mmace_flows.schemas.anisotropy_entry import AnisotropyPrediction, entry_id
from mmace_flows.schemas.document import content_hash
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticState, MagneticStructure
from mmace_flows.screening.entries import ValuesOf, dft_method, make_entry, model_method
from mmace_flows.screening.hull import Hulls
from mmace_flows.structures.moments import magnetic_state

BUILDER_VERSION = 3  # raise it when rows come out otherwise: all are made again
BUILT_FROM = "built_from"  # field of a row beside those of AnisotropyEntry
HULL_TOLERANCE = 1e-9  # eV per atom
DUPLICATE_KEY = 11000

Progress = Callable[[int, int], None]  # rows done, of how many


@dataclass
class Sources:
    """What belongs to one row: keys in ``spin_orbit`` and ``predictions``."""

    parent: str
    ordering: str
    runs: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    became: MagneticState | None = None  # where DFT was started in this ordering and ended in another
    stamps: list[tuple[str, str]] = field(default_factory=list)

    @property
    def built_from(self) -> str:
        """Changes when a source comes, goes or is written again."""
        return content_hash([BUILDER_VERSION, sorted(self.stamps)])


@dataclass
class BuildSummary:
    """What a build did."""

    made: int = 0
    unchanged: int = 0
    hulls_mended: int = 0
    removed: int = 0
    set_aside: list[tuple[str, str]] = field(default_factory=list)  # parent and ordering; why


class AnisotropyBuilder(Builder):  # type: ignore[misc]
    """maggma's Builder; `build` is its `run` with progress and without touching the root logger.

    Parameters: stores of `mmace_flows.execution.stores.Stores`; ``labels``, if given, add DFT energies to the hull;
    ``values_of`` reads a force-theorem run.
    """

    def __init__(
        self,
        spin_orbit: Store,
        predictions: Store,
        anisotropy: Store,
        labels: Store | None = None,
        values_of: ValuesOf = values_from_document,
        chunk_size: int = 100,
    ) -> None:
        self.spin_orbit, self.predictions, self.anisotropy, self.labels = spin_orbit, predictions, anisotropy, labels
        self.values_of = values_of
        self.hulls = Hulls()
        self.summary = BuildSummary()
        self._groups: dict[str, Sources] = {}
        self._methods: dict[str, str] = {}  # key of a source → method of its energy
        sources = [spin_orbit, predictions, *([labels] if labels is not None else [])]
        super().__init__(sources, [anisotropy], chunk_size)

    def build(self, progress: Progress | None = None) -> BuildSummary:
        """Bring the table up to date."""
        self.connect()
        done = 0
        for chunk in grouper(self.get_items(), self.chunk_size):
            made = [self.process_item(item) for item in chunk]
            self.update_targets([row for row in made if row is not None])
            done += len(made)
            if progress is not None:
                progress(done, self.total or done)
        self.finalize()
        return self.summary

    def get_items(self) -> Iterator[dict[str, Any]]:
        """Rows to be made, each with its source documents."""
        self.summary, self.hulls = BuildSummary(), Hulls()
        self._groups = self._look()
        known = {
            row["entry_id"]: row.get(BUILT_FROM)
            for row in self.anisotropy.query({}, properties=["entry_id", BUILT_FROM])
        }
        wanted = [key for key, group in self._groups.items() if known.get(key) != group.built_from]
        self.total = len(wanted)
        self.summary.unchanged = len(self._groups) - len(wanted)
        for keys in grouper(wanted, self.chunk_size):
            groups = [self._groups[key] for key in keys]
            runs = self._read(self.spin_orbit, [key for group in groups for key in group.runs])
            predictions = self._read(self.predictions, [key for group in groups for key in group.predictions])
            for group in groups:
                yield {
                    "sources": group,
                    "runs": [runs[key] for key in group.runs if key in runs],
                    "predictions": [predictions[key] for key in group.predictions if key in predictions],
                }

    def process_item(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """The row as it is stored; None, and a line in the summary, where the sources make none."""
        group: Sources = item["sources"]
        try:
            entry = make_entry(
                group.parent,
                group.ordering,  # type: ignore[arg-type]
                [SpinOrbitDocument.from_store(one) for one in item["runs"]],
                [AnisotropyPrediction.from_store(one) for one in item["predictions"]],
                self.values_of,
                self._above_hull,
                group.became,
            )
        except (UserError, ValidationError, ValueError, KeyError, SymmetryUndeterminedError) as error:
            reason = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
            self.summary.set_aside.append((f"{group.parent} {group.ordering}", " ".join(reason.split())))
            return None
        self.summary.made += 1
        return entry.model_dump(mode="json") | {
            BUILT_FROM: group.built_from,
            self.anisotropy.last_updated_field: datetime.now(UTC),
        }

    def update_targets(self, items: list[dict[str, Any]]) -> None:
        """Write rows, each whole."""
        if not items:
            return
        try:
            self.anisotropy.update(items)
        except BulkWriteError as error:
            if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]):
                raise
            self.anisotropy.update(items)  # another build made the same row at the same moment; it is there now

    def finalize(self) -> None:
        """Mend hull energies and remove rows without sources. The stores stay open: others of this process use them."""
        fields = ["entry_id", "structure.symbols", "values.energy_per_atom", "values.source", "energy_above_hull"]
        changes, orphans = [], []
        for row in self.anisotropy.query({}, properties=fields):
            if row["entry_id"] not in self._groups:
                orphans.append(row["entry_id"])
                continue
            values = row["values"]
            method = self._methods.get(values["source"])
            if method is None:
                continue  # made from what has changed since this build looked: the next one sees to it
            now = self.hulls.above(method, row["structure"]["symbols"], values["energy_per_atom"])
            if not _close(row.get("energy_above_hull"), now):
                changes.append(UpdateOne({"entry_id": row["entry_id"]}, {"$set": {"energy_above_hull": now}}))
        if changes:
            self.anisotropy._collection.bulk_write(changes, ordered=False)  # type: ignore[attr-defined]
        if orphans:
            self.anisotropy.remove_docs({"entry_id": {"$in": orphans}})
        self.summary.hulls_mended, self.summary.removed = len(changes), len(orphans)

    def _look(self) -> dict[str, Sources]:
        """Every row there should be, by entry_id; collects all known energies on the way. Reads no large arrays."""
        groups: dict[str, Sources] = {}
        left: list[tuple[str, MagneticState, tuple[str, str]]] = []  # row that DFT left, for which ordering, stamp
        self._methods = {}

        def group_of(parent: str, ordering: str) -> Sources:
            return groups.setdefault(entry_id(parent, ordering), Sources(parent, ordering))

        def stamp(document: dict[str, Any], store: Store, created: str) -> tuple[str, str]:
            return document[store.key], str(document.get(store.last_updated_field) or created)

        fields = ["spin_orbit_key", "parent", "magnetic_state_reached", "free_energy", "structure.symbols", "engine"]
        fields += ["settings.dft", "created", "structure.magmoms", self.spin_orbit.last_updated_field]
        for one in self.spin_orbit.query({"status": "converged"}, properties=fields):
            method = dft_method(one["engine"], one.get("settings", {}).get("dft", {}))
            self._methods[one["spin_orbit_key"]] = method
            self._add_energy(method, one)
            reached, said = one.get("magnetic_state_reached"), stamp(one, self.spin_orbit, one["created"])
            if reached:
                group = group_of(one["parent"], reached)
                group.runs.append(one["spin_orbit_key"])
                group.stamps.append(said)
                asked = magnetic_state(one["structure"]["magmoms"])
                if asked != reached:
                    left.append((entry_id(one["parent"], asked), reached, said))
        fields = ["prediction_key", "parent", "ordering", "model", "structure.symbols", "values.energy_per_atom"]
        fields += ["values.created", self.predictions.last_updated_field]
        for one in self.predictions.query({}, properties=fields):
            method = model_method(one["model"])
            self._methods[one["prediction_key"]] = method
            self.hulls.add(method, one["structure"]["symbols"], one["values"].get("energy_per_atom"))
            group = group_of(one["parent"], one["ordering"])
            group.predictions.append(one["prediction_key"])
            group.stamps.append(stamp(one, self.predictions, one["values"]["created"]))
        for key, reached, said in left:
            if key in groups and not groups[key].runs:
                groups[key].became = reached
                groups[key].stamps.append(said)
        if self.labels is not None:
            fields = ["free_energy", "structure.symbols", "engine", "settings"]
            for one in self.labels.query({"status": "converged"}, properties=fields):
                self._add_energy(dft_method(one["engine"], one["settings"]), one)
        return groups

    def _add_energy(self, method: str, document: dict[str, Any]) -> None:
        symbols = document["structure"]["symbols"]
        if document.get("free_energy") is not None:
            self.hulls.add(method, symbols, document["free_energy"] / len(symbols))

    def _above_hull(self, method: str, structure: MagneticStructure, energy_per_atom: float | None) -> float | None:
        return self.hulls.above(method, structure.symbols, energy_per_atom)

    @staticmethod
    def _read(store: Store, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        if not keys:
            return {}
        return {one[store.key]: one for one in store.query({store.key: {"$in": list(keys)}})}


def build_anisotropy(stores: Any, progress: Progress | None = None) -> BuildSummary:
    """Bring the table of `mmace_flows.execution.stores.Stores` up to date."""
    builder = AnisotropyBuilder(stores.spin_orbit, stores.predictions, stores.anisotropy, stores.labels)
    return builder.build(progress)


def _close(stored: float | None, now: float | None) -> bool:
    if stored is None or now is None:
        return stored is now
    return abs(stored - now) <= HULL_TOLERANCE
