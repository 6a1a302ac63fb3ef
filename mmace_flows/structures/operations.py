"""Every way to make structures behind one function: a settings document says which, `generate` does it.

The command line and the flows' Maker both go through here, so that they give the same structures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate
from mmace_flows.structures.calculators import make_calculator
from mmace_flows.structures.distort import DistortSettings, distort, spawn_seeds
from mmace_flows.structures.enumeration import EnumerateSettings, enumerate_orderings
from mmace_flows.structures.metropolis import MetropolisSettings, metropolis_candidates
from mmace_flows.structures.moment_changes import MomentChange, change_candidate_moments
from mmace_flows.structures.noncollinear import NonCollinearSettings, noncollinear
from mmace_flows.structures.paths import PathSettings, path_between
from mmace_flows.structures.random_search import SearchSettings, random_search, summary_line
from mmace_flows.structures.selection import SelectSettings, select
from mmace_flows.structures.starting_moments import with_lengths
from mmace_flows.structures.symmetry import require_crystal
from mmace_flows.structures.turned import SupercellSettings, turned_supercells

EVERY_RATIO = (1e-3, 1e3)  # c/a means something for layered cells only


class DistortOperation(Document):
    """Random distortions of every parent: geometry first, then moments."""

    operation: Literal["distort"] = "distort"
    count: int = Field(default=10, ge=1, description="distortions of each parent")
    geometry: DistortSettings = Field(default_factory=DistortSettings, description="volume, strain, displacements")
    change: MomentChange = Field(default_factory=MomentChange, description="what happens to the moments")
    moments: dict[str, float] | None = Field(
        default=None, description="element → length, μB, to begin with; none: the parent's own moments as they are"
    )
    seed: int = Field(default=0, ge=0)


class RattleOperation(Document):
    """A Metropolis walk from every parent, and of its samples those furthest apart."""

    operation: Literal["rattle"] = "rattle"
    count: int = Field(default=10, ge=1, description="structures kept of each walk, spread over c/a, volume, moments")
    calculator: str = Field(default="chgnet", description="as `make_calculator` takes it")
    walk: MetropolisSettings = Field(
        default_factory=lambda: MetropolisSettings(ratio_range=EVERY_RATIO), description="moves, guards, length"
    )
    volume_factor: tuple[float, float] = Field(
        default=(0.7, 1.3), description="guard on the volume, relative to the parent's; walk.volume_range is not used"
    )
    moments: dict[str, float] | None = Field(default=None, description="as of distort")
    seed: int = Field(default=0, ge=0)


Operation = Annotated[
    EnumerateSettings
    | SearchSettings
    | DistortOperation
    | RattleOperation
    | PathSettings
    | SupercellSettings
    | NonCollinearSettings
    | SelectSettings,
    Field(discriminator="operation"),
]
Progress = Callable[[dict[str, Any]], None]


def generate(
    parents: Sequence[Candidate],
    settings: Any,
    folder: Path | None = None,
    progress: Progress | None = None,
    **labels: Any,
) -> tuple[list[Candidate], list[str]]:
    """Candidates of ``settings`` (one of `Operation`), and lines worth telling about how they came about.

    Parameters: ``folder`` for a random search's finished attempts [default: one that is removed afterwards];
    ``progress`` gets {"done", "total", "message"}; ``labels`` (group, iteration) go into new candidates.
    Raises UserError as the operations do, and where one needs parents and there are none.
    """
    if isinstance(settings, SearchSettings):
        if folder is not None:
            found, counts = random_search(settings, folder, progress, **labels)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                found, counts = random_search(settings, Path(temporary), progress, **labels)
        return found, [summary_line(counts, settings.attempts)]
    if not parents:
        raise UserError(f"{settings.operation}: there is no structure to begin with; give at least one")
    if isinstance(settings, SelectSettings):
        found, counts = select(parents, settings)
        return found, [summary_line({**counts, "selected": len(found)}, len(parents)).replace("attempts", "structures")]
    if isinstance(settings, PathSettings):
        if len(parents) != 2:
            raise UserError(f"path: {len(parents)} structures are given; a path has two ends")
        return path_between(parents[0].structure, parents[1].structure, settings, **labels), []
    if isinstance(settings, RattleOperation):
        return _rattle(parents, settings, progress, labels)
    if isinstance(settings, DistortOperation):
        return _distort(parents, settings, labels), []
    makers: dict[type, Callable[..., list[Candidate]]] = {
        EnumerateSettings: enumerate_orderings,
        SupercellSettings: turned_supercells,
        NonCollinearSettings: noncollinear,
    }
    found, lines = [], []
    for number, parent in enumerate(parents):
        new = makers[type(settings)](parent.structure, settings, **labels)
        left_out = int(new[0].details.get("found", len(new))) - len(new)
        if left_out:
            lines.append(f"structure {number}: {left_out} more orderings are left out by max_orderings")
        found += new
        if progress is not None:
            progress({"done": number + 1, "total": len(parents), "message": f"{len(found)} structures"})
    return found, lines


def _distort(parents: Sequence[Candidate], settings: DistortOperation, labels: dict[str, Any]) -> list[Candidate]:
    seeds = spawn_seeds(settings.seed, 2 * len(parents) * settings.count)
    found = []
    for number in range(len(parents) * settings.count):
        parent = parents[number // settings.count].structure
        require_crystal(parent, "distort")
        start = parent if settings.moments is None else with_lengths(parent, settings.moments)
        candidate = distort(start, seeds[2 * number], settings.geometry, **labels)
        if not settings.change.nothing:
            candidate = change_candidate_moments(candidate, settings.change, seeds[2 * number + 1])
        found.append(candidate.model_copy(update={"parent": parent.hash()}))
    return found


def _rattle(
    parents: Sequence[Candidate], settings: RattleOperation, progress: Progress | None, labels: dict[str, Any]
) -> tuple[list[Candidate], list[str]]:
    calculator = make_calculator(settings.calculator)
    found: list[Candidate] = []
    lines = []
    for number, (parent, seed) in enumerate(zip(parents, spawn_seeds(settings.seed, len(parents)), strict=True)):
        structure = parent.structure
        require_crystal(structure, "rattle")
        start = structure if settings.moments is None else with_lengths(structure, settings.moments)
        volume = abs(float(np.linalg.det(np.asarray(structure.cell)))) / len(structure.symbols)
        low, high = settings.volume_factor
        walk = settings.walk.model_copy(update={"volume_range": (low * volume, high * volume)})

        def tell(event: dict[str, Any], before: int = number) -> None:
            if progress is not None:
                message = f"acceptance {event['acceptance']:.0%}, {event['energy']:.3f} eV/atom"
                done = before * settings.walk.steps + event["step"]
                progress({"done": done, "total": len(parents) * settings.walk.steps, "message": message})

        try:
            new, statistics = metropolis_candidates(
                [start], calculator, settings.count, seed, walk, progress=tell, **labels
            )
        except ValueError as error:
            raise UserError(f"rattle: structure {number}: {error}; check the structure and the calculator") from error
        found += [candidate.model_copy(update={"parent": structure.hash()}) for candidate in new]
        one = statistics[0]
        lines.append(
            f"structure {number}: {one.accepted} of {one.tried} moves accepted, {one.guarded} stopped by a guard, "
            f"volume {one.volume_range[0]:.1f} to {one.volume_range[1]:.1f} Å³/atom, {len(new)} kept"
        )
    return found, lines
