"""Labels of VASP calculations that were run elsewhere: from atomate2's task documents, or from a folder of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.labels.engine import EngineResult
from mmace_flows.labels.labelling import make_document
from mmace_flows.labels.vasp_input import VaspMagnetism, magnetism_of
from mmace_flows.labels.vasp_output import VaspNumbers, VaspOutputError, fill, foreign_structure, read_folder, read_task
from mmace_flows.labels.vasp_settings import VaspSettings
from mmace_flows.schemas.label import LabelDocument, label_key
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.moments import magnetic_state


@dataclass
class _RanElsewhere:
    """The part of an engine that a document asks for."""

    settings: dict[str, Any]
    vasp: str
    name: str = "vasp"

    def version(self) -> str:
        return self.vasp

    def settings_dict(self) -> dict[str, Any]:
        return self.settings


def label_of_task(
    candidate: Candidate, task: Any, settings: VaspSettings, campaign: str | None = None
) -> LabelDocument:
    """The label of a candidate from the task document of its VASP job (TaskDoc, or its dictionary).

    ``settings`` are those that its input was made with. Raises UserError for a document that is not of this candidate.
    """
    try:
        numbers = read_task(task)
        return _document(
            candidate, numbers, settings.model_dump(mode="json"), magnetism_of(candidate.structure, settings), campaign
        )
    except VaspOutputError as error:
        raise UserError(str(error)) from error


def label_of_folder(folder: Path | str, campaign: str | None = None) -> LabelDocument:
    """The label of a VASP run that was not ours, from its vasprun.xml and OUTCAR.

    Atoms are in VASP's order, collinear moments along z. Its settings are the INCAR, the k-points and the titles of the
    POTCARs, which is not enough to make the number again: `recompute_label` refuses it. Raises UserError for files that
    are not complete.
    """
    folder = Path(folder)
    try:
        numbers = read_folder(folder)
        moments = numbers.incar.get("MAGMOM")
        structure = foreign_structure(numbers, None if moments is None else _flat(moments))
        candidate = Candidate(
            structure=structure,
            operation="file",
            magnetic_state=magnetic_state(structure.magmoms),
            details={"file": folder.name},
        )
        kind: Any = "none" if numbers.magmoms is None else "collinear" if numbers.magmoms.ndim == 1 else "noncollinear"
        magnetism = VaspMagnetism(kind, np.asarray(structure.magmoms), np.array([0.0, 0.0, 1.0]))
        settings = {
            "imported": True,
            "incar": _plain(numbers.incar),
            "kpoints": numbers.kpoint_grid,
            "potcars": numbers.potcars,
        }
        return _document(candidate, numbers, settings, magnetism, campaign, keep_order=True)
    except VaspOutputError as error:
        raise UserError(str(error)) from error


def _document(
    candidate: Candidate,
    numbers: VaspNumbers,
    settings: dict[str, Any],
    magnetism: VaspMagnetism,
    campaign: str | None,
    keep_order: bool = False,
) -> LabelDocument:
    result = EngineResult(attempts=[f"run elsewhere: {numbers.iterations} iterations"])
    if not numbers.converged:
        result.error = f"SCF not converged in {numbers.iterations} iterations"
    else:
        fill(result, numbers, candidate.structure, magnetism, keep_order)
    engine: Any = _RanElsewhere(settings, numbers.version)
    key = label_key(candidate.structure, engine.name, settings)
    return make_document(key, candidate, engine, result, campaign)


def _flat(moments: Any) -> list[float]:
    return [float(part) for one in moments for part in (one if isinstance(one, list | tuple) else [one])]


def _plain(tags: dict[str, Any]) -> dict[str, Any]:
    return {key: _flat(value) if key == "MAGMOM" else value for key, value in tags.items()}
