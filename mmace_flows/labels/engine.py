"""What every engine looks like: a name, a version, settings, and a run from a structure to raw numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from mmace.errors import UserError
from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import MagneticStructure

ENGINES = ("gpaw", "espresso", "vasp")


@dataclass
class EngineResult:
    """What one structure gave. N atoms. Numbers are None unless ``converged``."""

    converged: bool = False
    attempts: list[str] = field(default_factory=list)  # one line per attempt; the last one counts
    error: str | None = None  # why it did not converge, one line
    energy: float | None = None  # eV, extrapolated to zero smearing
    free_energy: float | None = None  # eV, belongs to the forces
    forces: np.ndarray | None = None  # [N,3] eV/Å
    stress: np.ndarray | None = None  # [3,3] eV/Å³, ASE's sign: (1/V) ∂E/∂strain
    magmoms: np.ndarray | None = None  # [N,3] μB in the lab frame
    magnetic_forces: np.ndarray | None = None  # [N,3] −∂E/∂m, eV/μB, where the moments were held
    total_magmom: float | None = None  # μB along the common axis of the moments (z unless they lie along another)
    scf_iterations: int | None = None
    wall_seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)  # what the engine decided itself, such as its k-points


class Engine(Protocol):
    """A DFT code with its settings."""

    name: str

    def version(self) -> str:
        """Version of the code and of its atomic data."""

    def settings_dict(self) -> dict[str, Any]:
        """Complete settings, JSON-able: part of the label key, and enough to make the engine again."""

    def check(self, structure: MagneticStructure) -> None:
        """Raises UserError for a structure that the engine can never treat; computes nothing."""

    def run(
        self, structure: MagneticStructure, folder: Path, name: str = "run", start_attempt: int = 0
    ) -> EngineResult:
        """Compute one structure; a calculation that fails is a result, not an exception.

        ``start_attempt`` 1 goes straight to the second attempt, with its safer iterations.
        Raises UserError for a structure that the engine can never treat.
        """


def settings_class(name: str) -> type[Document]:
    """The settings of an engine, which have presets ``small`` and ``paper``. UserError for an unknown name."""
    if name == "gpaw":
        from mmace_flows.labels.gpaw_settings import GPAWSettings

        return GPAWSettings
    if name == "espresso":
        from mmace_flows.labels.espresso_settings import EspressoSettings

        return EspressoSettings
    if name == "vasp":
        from mmace_flows.labels.vasp_settings import VaspSettings

        return VaspSettings
    raise UserError(f"engine '{name}' is unknown; known: {', '.join(ENGINES)}")


S = TypeVar("S", bound="SaferSettings")


class SaferSettings(Protocol):
    """Settings that know slower, steadier iterations to the same numbers."""

    def safer(self) -> Self:
        """The same physics with steadier iterations."""


def in_attempts(settings: S, start: int, attempt: Callable[[S, int, EngineResult], str | None]) -> EngineResult:
    """The result of up to two attempts, the second one with safer iterations; ``start`` 1 goes straight to that.

    ``attempt(settings, number, result)`` fills the result and returns None, or one line that says why it failed.
    """
    result = EngineResult()
    started = time.perf_counter()
    for number in range(start, 2):
        error = attempt(settings if number == 0 else settings.safer(), number, result)
        kind = "first attempt" if number == 0 else "safer mixing"
        result.attempts.append(f"{kind}: {error or f'converged in {result.scf_iterations} iterations'}")
        result.error = error
        if error is None or not error.startswith("SCF"):  # atoms too close do not part by mixing slower
            break
    result.wall_seconds = time.perf_counter() - started
    return result


def get_engine(name: str, settings: dict[str, Any], symbols: Iterable[str] = ()) -> Engine:
    """The engine of a name, with settings as a label document has them.

    ``symbols`` are the elements to be computed, for engines whose atomic data are files that have to be found; without
    them these must stand in the settings, as in a document. UserError for an unknown name.
    """
    if settings.get("imported"):
        raise UserError(f"engine '{name}': the label was imported, and its settings are not enough to make it again")
    checked: Any = settings_class(name).model_validate(settings)
    if name == "gpaw":
        from mmace_flows.labels.gpaw_engine import GPAWEngine

        return GPAWEngine(checked)
    if name == "vasp":
        from mmace_flows.labels.vasp_engine import VaspEngine

        return VaspEngine.for_elements(checked, symbols)
    from mmace_flows.labels.espresso_engine import EspressoEngine

    return EspressoEngine.for_elements(checked, symbols)
