"""VASP as an engine: atomate2 writes its input and runs it under custodian, its output becomes a label."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmace.errors import UserError
from mmace_flows.labels.engine import EngineResult, in_attempts
from mmace_flows.labels.vasp_input import magnetism_of, static_maker, to_pymatgen
from mmace_flows.labels.vasp_output import VaspNumbers, VaspOutputError, fill, read_folder
from mmace_flows.labels.vasp_settings import ISMEAR, Potcar, VaspSettings
from mmace_flows.schemas.structure import MagneticStructure

KEPT = ("INCAR", "KPOINTS", "POSCAR", "OUTCAR", "OSZICAR", "vasprun.xml", "custodian.json", "vasp.out", "std_err.txt")
WATCHING = {"polling_time_step": 1, "monitor_freq": 30}  # custodian's own 10 s would be lost with every small cell
# handlers of custodian that mend by other smearing or k-points: energies of another calculation than was asked for
OTHER_PHYSICS = ("IncorrectSmearingHandler", "LargeSigmaHandler", "KspacingMetalHandler")


@dataclass
class VaspEngine:
    """VASP for structures of the elements whose POTCARs stand in the settings: see `for_elements`."""

    settings: VaspSettings
    name: str = field(default="vasp", init=False)
    seen: str | None = field(default=None, init=False)  # VASP's version, which only a run tells

    @classmethod
    def for_elements(cls, settings: VaspSettings, symbols: Iterable[str] = ()) -> VaspEngine:
        """The engine for structures of these elements, each with its POTCAR and the file's hash.

        Raises UserError if VASP or a POTCAR is missing, or is not the one whose hash stands in the settings.
        """
        vasp_command(False)
        resolved = {}
        for element in sorted(set(symbols) or set(settings.potcars)):
            given = settings.potcars.get(element) or Potcar(symbol=_default_potcar(element))
            digest = _potcar_hash(given.symbol, settings.potcar_functional)
            if given.sha256 not in (None, digest):
                raise UserError(
                    f"POTCAR {settings.potcar_functional}/{given.symbol}: is not the file that the settings mean "
                    f"(SHA-256 {digest[:12]}…, not {str(given.sha256)[:12]}…); set PMG_VASP_PSP_DIR to its folder"
                )
            resolved[element] = Potcar(symbol=given.symbol, sha256=digest)
        return cls(settings.model_copy(update={"potcars": resolved}))

    def version(self) -> str:
        """Version of VASP, once it has run, and of atomate2. UserError if VASP is not there."""
        from importlib.metadata import version

        vasp_command(False)
        return f"{self.seen or 'VASP'} (atomate2 {version('atomate2')})"

    def settings_dict(self) -> dict[str, Any]:
        """Complete settings with the POTCARs' hashes, JSON-able."""
        return self.settings.model_dump(mode="json")

    def check(self, structure: MagneticStructure) -> None:
        """Raises UserError for a structure that VASP can never treat with these settings."""
        volume = float(np.linalg.det(np.asarray(structure.cell, dtype=float)))
        if not all(structure.pbc) or abs(volume) < 1e-6:
            raise UserError("structure: VASP needs a cell that is periodic in three directions; put the atoms in a box")
        if volume < 0:
            raise UserError("structure: the cell vectors are left-handed, which VASP refuses; exchange two of them")
        magnetism = magnetism_of(structure, self.settings)
        vasp_command(magnetism.kind == "noncollinear")

    def run(
        self, structure: MagneticStructure, folder: Path | str, name: str = "vasp", start_attempt: int = 0
    ) -> EngineResult:
        """Compute one structure; a second attempt with steadier iterations if the first does not converge.

        Files of each attempt stay in ``folder/<name>.<attempt>``, apart from the large ones and the POTCAR.
        Raises UserError for a structure that VASP can never treat, and if VASP is not there.
        """
        self.check(structure)
        folder = Path(folder).absolute()

        def attempt(settings: VaspSettings, number: int, result: EngineResult) -> str | None:
            return self._attempt(structure, settings, folder / f"{name}.{number}", result)

        return in_attempts(self.settings, start_attempt, attempt)

    def _attempt(
        self, structure: MagneticStructure, settings: VaspSettings, folder: Path, result: EngineResult
    ) -> str | None:
        """One run; fills ``result`` and returns None, or returns one line that says why it failed."""
        import warnings

        from atomate2.vasp.files import write_vasp_input_set
        from atomate2.vasp.run import DEFAULT_HANDLERS, run_vasp
        from custodian.custodian import CustodianError

        magnetism = magnetism_of(structure, settings)
        maker = static_maker(structure, settings, shlex.join(vasp_command(magnetism.kind == "noncollinear")))
        shutil.rmtree(folder, ignore_errors=True)  # what a kill has left
        folder.mkdir(parents=True)
        error: str | None = None
        try:
            with contextlib.chdir(folder), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the choice of smearing, which is the user's
                write_vasp_input_set(to_pymatgen(structure, magnetism), maker.input_set_generator)
                handlers = [one for one in DEFAULT_HANDLERS if type(one).__name__ not in OTHER_PHYSICS]
                run_vasp(**maker.run_vasp_kwargs, handlers=handlers, custodian_kwargs=WATCHING)
        except CustodianError as failure:
            error = f"VASP: {' '.join(str(failure).split())[:200] or type(failure).__name__}"
        try:
            numbers = read_folder(folder)
            self.seen = numbers.version
            if not numbers.converged:
                return f"SCF not converged in {numbers.iterations} iterations"
            error = error or _changed(numbers, settings, structure)
            if error is None:
                fill(result, numbers, structure, magnetism)
        except VaspOutputError as failure:
            return error or f"VASP: {failure}"
        finally:
            _tidy(folder)
        return error


def vasp_command(noncollinear: bool) -> tuple[str, ...]:
    """How VASP is run: atomate2's own setting VASP_CMD or, for non-collinear moments, VASP_NCL_CMD.

    These are ATOMATE2_VASP_CMD and ATOMATE2_VASP_NCL_CMD of the environment. Raises UserError if that is no program.
    """
    from atomate2.settings import Atomate2Settings

    settings: Any = Atomate2Settings()  # type: ignore[call-arg]
    name = "VASP_NCL_CMD" if noncollinear else "VASP_CMD"
    text = os.path.expandvars(str(getattr(settings, name)))
    words = tuple(shlex.split(text))
    program = next((word for word in reversed(words) if "vasp" in Path(word).name.lower()), words[-1] if words else "")
    missing = [word for word in dict.fromkeys((*words[:1], program)) if shutil.which(word) is None]
    if not words or missing:
        raise UserError(
            f"VASP: '{missing[0] if missing else text}' is not a program on PATH; set ATOMATE2_{name} to your own, "
            f"such as 'mpirun -n 4 {'vasp_ncl' if noncollinear else 'vasp_std'}', or use --engine gpaw or espresso"
        )
    return words


def _changed(numbers: VaspNumbers, settings: VaspSettings, structure: MagneticStructure) -> str | None:
    """One line if custodian mended the run by changing what decides its numbers."""
    asked = {"ENCUT": settings.cutoff, "SIGMA": settings.smearing_width, "ISMEAR": ISMEAR[settings.smearing]}
    for tag, value in asked.items():
        used = numbers.incar.get(tag)
        if used is not None and abs(float(used) - value) > 1e-6:
            return f"VASP: custodian changed {tag} from {value:g} to {float(used):g}"
    grid = list(settings.grid(structure.cell))
    if numbers.kpoint_grid and numbers.kpoint_grid != grid:
        return f"VASP: custodian changed the k-points from {grid} to {numbers.kpoint_grid}"
    return None


def _default_potcar(element: str) -> str:
    """The POTCAR that atomate2 takes for an element. UserError if it has none."""
    from atomate2.vasp.sets.base import VaspInputGenerator

    known: dict[str, Any] = VaspInputGenerator().config_dict["POTCAR"]
    if element not in known:
        raise UserError(f"potcars: atomate2 has no choice for {element}; name one in the settings")
    chosen = known[element]
    return str(chosen["symbol"] if isinstance(chosen, dict) else chosen)


def _potcar_hash(symbol: str, functional: str) -> str:
    """SHA-256 of a POTCAR in PMG_VASP_PSP_DIR. UserError if it is not there."""
    import warnings

    from pymatgen.io.vasp.inputs import PotcarSingle

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hashes that pymatgen does not know
            found = PotcarSingle.from_symbol_and_functional(symbol, functional)
    except KeyError as error:
        raise UserError(f"potcar_functional: pymatgen knows no '{functional}'") from error
    except Exception as error:  # its own classes, and OSError
        raise UserError(
            f"POTCAR {functional}/{symbol}: not found; set PMG_VASP_PSP_DIR in ~/.pmgrc.yaml to your folder of POTCARs "
            f"({' '.join(str(error).split())[:120]})"
        ) from error
    return hashlib.sha256(found.data.encode()).hexdigest()


def _tidy(folder: Path) -> None:
    """Leaves what tells how it went: not the POTCAR, which may not be passed on, and not the large files."""
    for path in folder.iterdir():
        if path.name not in KEPT and path.is_file():
            path.unlink(missing_ok=True)
