"""One row of the table from everything that is known of one parent and ordering: force-theorem runs and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import prod
from typing import Any

import numpy as np

import mmace_flows
from mmace_flows.schemas.anisotropy_entry import (
    AnisotropyEntry,
    AnisotropyPrediction,
    AnisotropyValues,
    Level,
    entry_id,
)
from mmace_flows.schemas.document import content_hash
from mmace_flows.schemas.kpoints import kpoint_grid
from mmace_flows.schemas.spin_orbit import SpinOrbitDocument
from mmace_flows.schemas.structure import MagneticState, MagneticStructure

SYMMETRY_TOLERANCE = 0.01  # Å: relaxed atoms are at their places to about this

ValuesOf = Callable[[SpinOrbitDocument], AnisotropyValues | None]


def dft_method(engine: str, settings: Mapping[str, Any]) -> str:
    """Energies of equal engine and settings of the ground state can be compared; the directions play no part."""
    return content_hash(["dft", engine, settings])


def model_method(model: str) -> str:
    """Energies of one model can be compared."""
    return f"model-{model}"


def make_entry(
    parent: str,
    ordering: MagneticState,
    runs: Sequence[SpinOrbitDocument],
    predictions: Sequence[AnisotropyPrediction],
    values_of: ValuesOf,
    hull: Callable[[str, MagneticStructure, float | None], float | None],
    became: MagneticState | None = None,
) -> AnisotropyEntry:
    """The row: DFT on top where there is a run, else the newest model. At least one of both lists holds something.

    Of several runs the one with the highest cutoff, then the finest k-points, then the newest counts. ``hull`` gives
    the energy above the hull (eV per atom) of method, structure and energy per atom. ``became``: the ordering in
    which DFT ended that was started in this one.
    Raises UserError where a run's directions are too few, or the structure has no symmetry that can be found.
    """
    run = max(runs, key=_quality, default=None)
    prediction = max(predictions, key=lambda one: one.values.created, default=None)
    dft = None if run is None else values_of(run)
    model = None if prediction is None else prediction.values
    level: Level
    if run is not None and dft is not None:
        level, best, structure = "DFT", dft, _at_rest(run, dft)
        method = dft_method(run.engine, run.settings["dft"])
    elif prediction is not None:
        level, best, structure = "model", prediction.values, prediction.structure
        method = model_method(prediction.model)
    else:
        raise ValueError(f"nothing is known of {parent} {ordering}")
    campaigns = [*(one.campaign for one in runs), *(one.campaign for one in predictions)]
    symbol, number, system = crystal_symmetry(structure)
    cell = np.asarray(structure.cell, dtype=float)
    elements = sorted(set(structure.symbols))
    return AnisotropyEntry(
        entry_id=entry_id(parent, ordering),
        parent=parent,
        ordering=ordering,
        formula=reduced_formula(structure.symbols),
        chemical_system="-".join(elements),
        elements=elements,
        num_elements=len(elements),
        num_atoms=len(structure.symbols),
        space_group=symbol,
        space_group_number=number,
        crystal_system=system,
        volume_per_atom=abs(float(np.linalg.det(cell))) / len(structure.symbols),
        structure=structure,
        magnetization=float(np.linalg.norm(np.sum(structure.magmoms, axis=0))) / len(structure.symbols),
        energy_above_hull=hull(method, structure, best.energy_per_atom),
        level=level,
        values=best,
        dft=dft,
        model=model,
        became=became if level == "model" else None,
        campaigns=sorted({name for name in campaigns if name}),
        code_version=mmace_flows.__version__,
        updated=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def reduced_formula(symbols: Sequence[str]) -> str:
    """As pymatgen writes it."""
    from pymatgen.core import Composition

    return str(Composition("".join(symbols)).reduced_formula)


def crystal_symmetry(structure: MagneticStructure) -> tuple[str, int, str]:
    """Hermann–Mauguin symbol, number and crystal system of the crystal without its moments."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    from mmace_flows.structures.adapters import to_pymatgen
    from mmace_flows.structures.symmetry import require_crystal

    require_crystal(structure, "symmetry")
    crystal = to_pymatgen(structure)
    crystal.remove_site_property("magmom")
    found = SpacegroupAnalyzer(crystal, symprec=SYMMETRY_TOLERANCE)
    return found.get_space_group_symbol(), found.get_space_group_number(), str(found.get_crystal_system())


def _at_rest(run: SpinOrbitDocument, values: AnisotropyValues) -> MagneticStructure:
    """The run's geometry with its converged moments along the easy direction."""
    moments = np.outer(run.lengths, values.easy) + 0.0  # no -0.0
    return run.structure.model_copy(update={"magmoms": moments.tolist()})


def _quality(run: SpinOrbitDocument) -> tuple[float, int, str]:
    settings = run.settings.get("dft", {})
    grid = settings.get("kpoints")
    if grid is None and settings.get("kpoint_spacing"):
        grid = kpoint_grid(run.structure.cell, settings["kpoint_spacing"])
    # all runs of a row have the same cell: more points are a finer grid
    return float(settings.get("cutoff") or 0.0), prod(grid) if grid else 0, run.created
