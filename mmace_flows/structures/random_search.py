"""Random structure search: crystals are made, relaxed with a general potential, screened, told apart and selected.

Every attempt is a file of its own as soon as it is finished, so that a search that is killed goes on where it was. What
an attempt gives depends on its own seed only; windows, duplicates and selection are applied afterwards, to all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from mmace.errors import UserError
from mmace_flows.execution.processes import make_folder, write_file
from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.calculators import make_calculator, predicted_lengths
from mmace_flows.structures.distort import spawn_seeds
from mmace_flows.structures.moments import NONMAGNETIC_BELOW, magnetic_state
from mmace_flows.structures.random_crystals import (
    ChemicalSpace,
    atoms_volume,
    check_space,
    chosen_generator,
    random_crystal,
)
from mmace_flows.structures.screening import Screen, distinct_crystals, match_distribution, screened, symbols_of
from mmace_flows.structures.starting_moments import STARTING_MOMENTS

GPA = 160.21766208  # GPa per eV/Å³


class SearchSettings(Document):
    """A random structure search."""

    operation: Literal["random"] = "random"
    space: ChemicalSpace = Field(description="chemical space, sizes, volumes")
    attempts: int = Field(default=20, ge=1, description="crystals that are made and relaxed")
    keep: int | None = Field(
        default=None, ge=1, description="selected at the end, towards the elements' weights; none: all distinct ones"
    )
    generator: Literal["auto", "pyxtal", "buildcell"] = Field(
        default="auto", description="auto: buildcell where it is installed, else pyxtal"
    )
    calculator: str = Field(default="chgnet", description="as `make_calculator` takes it")
    steps: int = Field(default=200, ge=0, description="steps of the relaxation of cell and positions; 0: none")
    force_tolerance: float = Field(default=0.05, gt=0.0, description="where the relaxation ends, eV/Å")
    pressure: float = Field(default=0.0, description="that the relaxation is done at, GPa")
    screen: Screen = Field(default_factory=Screen, description="what is thrown away")
    moments: dict[str, float] = Field(
        default_factory=dict, description="element → first moment, μB, where the calculator predicts none"
    )
    seed: int = Field(default=0, ge=0, description="of the search; every attempt has one of its own from it")


class Attempt(Document):
    """One crystal, as it came out of the relaxation."""

    index: int
    seed: int
    error: str | None = Field(default=None, description="why there is none")
    structure: MagneticStructure | None = Field(default=None, description="with first moments along z")
    space_group: int | None = Field(default=None, description="that it was made with")
    energy: float | None = Field(default=None, description="of the calculator, eV per atom")
    max_force: float | None = Field(default=None, description="eV/Å")
    pressure: float | None = Field(default=None, description="GPa, positive when the cell wants to grow")
    steps: int = Field(default=0, description="of the relaxation")
    seconds: float = 0.0


Progress = Callable[[dict[str, Any]], None]


def random_search(
    settings: SearchSettings, folder: Path, progress: Progress | None = None, **labels: Any
) -> tuple[list[Candidate], dict[str, int]]:
    """Candidates, lowest energy first, and how many attempts went which way.

    Parameters: ``folder`` for the finished attempts: the same settings go on from what is there. ``progress`` gets
    {"done", "total", "resumed", "message"} after every attempt. ``labels`` go into the candidates.
    Raises UserError for wrong settings, a folder of another search, and if nothing is left after the screening.
    """
    attempts = list(run_attempts(settings, folder, progress))
    passed, counts = screened(attempts, settings.screen, settings.pressure)
    distinct = distinct_crystals(passed)
    counts["duplicate"] = len(passed) - len(distinct)
    kept = distinct
    if settings.keep is not None and settings.keep < len(distinct):
        chosen = match_distribution([symbols_of(one) for one in distinct], settings.space.elements, settings.keep)
        kept = [distinct[index] for index in sorted(chosen)]
    counts["not selected"] = len(distinct) - len(kept)
    counts["kept"] = len(kept)
    if not kept:
        said = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "none was made"
        first = next((attempt.error for attempt in attempts if attempt.error), None)
        also = f"; first error: {first}" if first else ""
        raise UserError(f"random search: nothing is left of {len(attempts)} attempts ({said}); widen the windows{also}")
    candidates = [
        Candidate(
            structure=one.structure,
            operation="random",
            magnetic_state=magnetic_state(one.structure.magmoms),
            seed=one.seed,
            details={
                "attempt": one.index,
                "space_group": one.space_group,
                "calculator": settings.calculator,
                "calculator_energy_per_atom": one.energy,
                "max_force": one.max_force,
                "pressure": one.pressure,
            },
            **labels,
        )
        for one in kept
        if one.structure is not None
    ]
    return candidates, counts


def run_attempts(settings: SearchSettings, folder: Path, progress: Progress | None = None) -> Iterator[Attempt]:
    """Every attempt in order: read from ``folder`` if it is there, else made, relaxed and written."""
    check_space(settings.space)
    generator = chosen_generator(settings.generator)
    _claim(settings, generator, folder)
    calculator: Any = None
    for index, seed in enumerate(spawn_seeds(settings.seed, settings.attempts)):
        path = folder / f"attempt-{index:06d}.json"
        attempt = _read(path)
        resumed = attempt is not None
        if attempt is None:
            calculator = calculator or make_calculator(settings.calculator)
            attempt = one_attempt(index, seed, settings, generator, calculator)
            write_file(path, attempt.model_dump_json())
        if progress is not None:
            summary = {"done": index + 1, "total": settings.attempts, "resumed": resumed}
            progress({**summary, "message": _message(attempt), "seconds": attempt.seconds})
        yield attempt


def one_attempt(index: int, seed: int, settings: SearchSettings, generator: str, calculator: Any) -> Attempt:
    """A crystal, relaxed. Whatever goes wrong with it is its ``error``, not an exception."""
    begin = time.monotonic()
    attempt = Attempt(index=index, seed=seed)
    try:
        made = random_crystal(settings.space, seed, generator)
        attempt = attempt.model_copy(update={"space_group": made["space_group"]})
        result = relax(made["structure"], calculator, settings)
    except UserError:
        raise
    except Exception as error:  # potentials fail on crystals that nobody has seen, each in its own way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return attempt.model_copy(update={"error": reason, "seconds": time.monotonic() - begin})
    return attempt.model_copy(update={**result, "seconds": time.monotonic() - begin})


def relax(structure: MagneticStructure, calculator: Any, settings: SearchSettings) -> dict[str, Any]:
    """Cell and positions relaxed; {structure with first moments, energy, max_force, pressure, steps}.

    It stops early where the volume leaves the screen's window by a factor of two: such a crystal falls apart.
    """
    from ase.build import niggli_reduce
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    atoms = structure.to_atoms()
    first = np.array([settings.moments.get(s, STARTING_MOMENTS.get(s, 0.0)) for s in structure.symbols])
    # moments are an input of this project's potential; general potentials do not expect vectors
    takes_moments = "magnetic_forces" in calculator.implemented_properties
    atoms.set_initial_magnetic_moments(np.outer(first, [0.0, 0.0, 1.0]) if takes_moments else None)
    atoms.calc = calculator
    low, high = settings.screen.volume_per_atom
    steps = 0
    if settings.steps:
        optimizer = FIRE(FrechetCellFilter(atoms, scalar_pressure=settings.pressure / GPA), logfile=None)
        for _ in optimizer.irun(fmax=settings.force_tolerance, steps=settings.steps):
            steps = optimizer.nsteps
            if not 0.5 * low <= atoms.get_volume() / len(atoms) <= 2.0 * high:
                break
    energy, forces = float(atoms.get_potential_energy()), np.asarray(atoms.get_forces())
    stress = np.asarray(atoms.get_stress(voigt=False))
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
        raise ValueError("energy, forces or stress are not finite")
    lengths = predicted_lengths(calculator, len(atoms))
    lengths = first if lengths is None else lengths
    lengths = np.where(lengths < NONMAGNETIC_BELOW, 0.0, lengths)
    niggli_reduce(atoms)  # grids of plane-wave codes suffer from the sharp angles that random cells have
    atoms.wrap()
    return {
        "structure": MagneticStructure.from_atoms(atoms, lengths),
        "energy": energy / len(atoms),
        "max_force": float(np.linalg.norm(forces, axis=1).max()),
        "pressure": float(-np.trace(stress) / 3.0 * GPA),
        "steps": steps,
    }


def _claim(settings: SearchSettings, generator: str, folder: Path) -> None:
    """Marks ``folder`` as this search's; raises UserError if it is another's."""
    decides = settings.model_dump(mode="json", exclude={"attempts", "keep", "screen", "operation"})
    mine = {**decides, "generator": generator, "volume_per_atom": list(settings.screen.volume_per_atom)}
    make_folder(folder, "choose another output")
    path = folder / "search.json"
    if path.exists():
        try:
            theirs = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path}: damaged; remove the folder {folder} and search again") from error
        if content_hash(theirs) != content_hash(mine):
            changed = sorted(key for key in {*theirs, *mine} if theirs.get(key) != mine.get(key))
            raise UserError(
                f"{folder}: holds attempts of a search with other settings ({', '.join(changed)}); "
                "remove it, or choose another output"
            )
        return
    write_file(path, json.dumps(mine, indent=2))


def _read(path: Path) -> Attempt | None:
    try:
        return Attempt.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(f"{path}: not an attempt of a search; remove this file") from error


def _message(attempt: Attempt) -> str:
    if attempt.structure is None or attempt.energy is None:
        return f"attempt {attempt.index}: {attempt.error}"
    formula = attempt.structure.to_atoms().get_chemical_formula()
    volume = atoms_volume(attempt.structure) / len(attempt.structure.symbols)
    return (
        f"attempt {attempt.index}: {formula}, {attempt.energy:.3f} eV/atom, {volume:.1f} Å³/atom, {attempt.steps} steps"
    )


def summary_line(counts: dict[str, int], attempts: Sequence[Any] | int) -> str:
    """What became of the attempts, in words."""
    total = attempts if isinstance(attempts, int) else len(attempts)
    parts = [f"{count} {reason}" for reason, count in counts.items() if count]
    return f"{total} attempts: {', '.join(parts)}"
