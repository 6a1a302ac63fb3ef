"""Labels of many candidates one after the other through one store, with any engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmace.errors import UserError
from mmace_flows.labels.engine import Engine, get_engine
from mmace_flows.labels.labelling import LabelStore, find_or_compute
from mmace_flows.schemas.label import LabelDocument
from mmace_flows.schemas.structure import Candidate

OnLabel = Callable[[int, LabelDocument, bool], None]  # position, label, whether it was computed now


class EngineSet:
    """One engine per set of elements: pseudopotentials of other elements are no part of a label's key."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name, self.settings = name, settings
        self._engines: dict[tuple[str, ...], Engine] = {}

    def of(self, symbols: Iterable[str]) -> Engine:
        """The engine for structures of these elements. UserError if its atomic data are not there."""
        elements = tuple(sorted(set(symbols)))
        if elements not in self._engines:
            self._engines[elements] = get_engine(self.name, self.settings, elements)
        return self._engines[elements]

    def check(self, candidates: Sequence[tuple[str, Candidate]]) -> None:
        """Raises UserError, with the candidate's name, for what can never be computed: before anything is."""
        for where, candidate in candidates:
            engine = self.of(candidate.structure.symbols)
            engine.version()  # outside, for it is no fault of the structure
            try:
                engine.check(candidate.structure)
            except UserError as error:
                raise UserError(f"{where}: {str(error).removeprefix('structure: ')}") from error


def label_all(
    candidates: Sequence[Candidate],
    engines: EngineSet,
    labels: LabelStore,
    folder: Path,
    campaign: str | None = None,
    retry_failed: bool = False,
    on_label: OnLabel | None = None,
) -> list[LabelDocument]:
    """The labels of all candidates, in their order; each is stored before the next begins.

    Raises what the machine is to blame for (`Engine.run`); the same call goes on from there.
    """
    documents = []
    for position, candidate in enumerate(candidates):
        engine = engines.of(candidate.structure.symbols)
        document, computed = find_or_compute(candidate, engine, labels, folder, campaign, retry_failed)
        documents.append(document)
        if on_label is not None:
            on_label(position, document, computed)
    return documents
