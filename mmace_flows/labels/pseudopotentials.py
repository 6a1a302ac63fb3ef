"""UPF pseudopotential files: what their headers say, which one an element gets, and their hashes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mmace.errors import UserError
from mmace_flows.execution.settings import Settings, load_settings

DEBIAN_FOLDER = Path("/usr/share/espresso/pseudo")  # of Debian's package quantum-espresso-data
HEADER_BYTES = 400_000  # a header may stand behind a long <PP_INFO>
ATTRIBUTE = r"(\w+)\s*=\s*([\"'])\s*(.*?)\s*\2"
MEND = "set MMACE_PSEUDO_DIR to a folder of UPF files (docs/espresso.md)"


@dataclass(frozen=True)
class UPFHeader:
    """What of a UPF file decides how it can be used."""

    element: str
    kind: str  # NC, US, PAW
    functional: str  # PBE, PBESOL, LDA, or the file's own words
    valence: float  # electrons
    relativistic: bool  # fully relativistic: fit for spin–orbit coupling

    @property
    def averages(self) -> bool:
        """Whether pw.x can use it without spin–orbit coupling."""
        return not self.relativistic or self.kind == "NC"


def pseudo_folder(settings: Settings | None = None) -> Path:
    """The folder of pseudopotentials: MMACE_PSEUDO_DIR, else Debian's if it is there. UserError if there is none."""
    settings = settings or load_settings()
    folder = settings.pseudo_dir
    if folder is None:
        if DEBIAN_FOLDER.is_dir():
            return DEBIAN_FOLDER
        raise UserError(
            "no pseudopotentials for Quantum ESPRESSO: MMACE_PSEUDO_DIR is not set; "
            f"{MEND}, or apt-get install quantum-espresso-data"
        )
    if not folder.is_dir():
        raise UserError(f"{settings.source('pseudo_dir') or 'pseudo_dir'}: {folder} is no folder; {MEND}")
    return folder


def read_header(path: Path) -> UPFHeader:
    """The header of a UPF file, version 1 or 2. Raises UserError for a file that has none or is cut short."""
    size = path.stat().st_size
    return _read_header(path, size, path.stat().st_mtime_ns)


@lru_cache(maxsize=2048)
def _read_header(path: Path, size: int, modified: int) -> UPFHeader:
    try:
        with open(path, "rb") as file:
            text = file.read(HEADER_BYTES).decode("utf-8", errors="replace")
            file.seek(max(0, size - 200))
            end = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    found = re.search(r"<PP_HEADER(.*?)(/>|</PP_HEADER>)", text, re.DOTALL)
    if found is None:
        raise UserError(f"{path}: not a UPF pseudopotential (it has no PP_HEADER)")
    version_2 = "</UPF>" in end
    if not version_2 and not re.search(r"</PP_\w+>\s*$", end):
        raise UserError(f"{path}: broken pseudopotential (the file is cut short); fetch it again")
    header = found.group(1)
    try:
        if "=" in header.split(">", 1)[0]:
            attributes = {name: text for name, _, text in re.findall(ATTRIBUTE, header, re.DOTALL)}
            kind, spin_orbit = attributes["pseudo_type"], attributes.get("has_so", "F")[:1].upper() == "T"
            element, functional = attributes["element"], attributes["functional"]
            valence = _number(attributes["z_valence"])
        else:
            rows = [line.split() for line in header.splitlines() if line.strip() and line.strip() != ">"]
            element, kind, valence = rows[1][0], rows[2][0], _number(rows[5][0])
            functional, spin_orbit = " ".join(rows[4][:4]), "<PP_ADDINFO>" in _tail(path)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"{path}: broken pseudopotential (its PP_HEADER cannot be understood: {error})") from error
    kinds = {"US": "US", "USPP": "US", "PAW": "PAW"}
    return UPFHeader(element.capitalize(), kinds.get(kind, "NC"), _functional(functional), valence, spin_orbit)


def _number(text: str) -> float:
    return float(text.lower().replace("d", "e"))


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")


def _functional(text: str) -> str:
    words = text.upper().split()
    if words[:2] == ["SLA", "PW"] and words[2:4] in (["PBX", "PBC"], ["PBE", "PBE"]):
        return "PBE"
    if words[:2] == ["SLA", "PW"] and words[2:4] == ["PSX", "PSC"]:
        return "PBESOL"
    if words[:1] == ["SLA"] and words[2:4] == ["NOGX", "NOGC"]:
        return "LDA"
    return {"PZ": "LDA"}.get(" ".join(words), " ".join(words))


def file_hash(path: Path) -> str:
    """SHA-256 of a file. Raises UserError if it cannot be read."""
    try:
        stat = path.stat()
        return _file_hash(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=256)
def _file_hash(path: Path, size: int, modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def choose(folder: Path, element: str, functional: str, spin_orbit: bool) -> Path:
    """The file that ``element`` gets where the settings name none.

    Of those made for ``functional``: fully relativistic ones with spin–orbit coupling and scalar relativistic ones
    without (where there is none, a fully relativistic norm-conserving one, which pw.x averages); then the one with most
    electrons, so that semicore states count; then the first by name. Raises UserError if none fits.
    """
    fitting: list[tuple[bool, float, str]] = []
    seen: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".upf":
            continue
        try:
            header = read_header(path)
        except UserError as error:
            if re.match(rf"{element}(?![a-z])", path.name, re.IGNORECASE):
                seen.append(str(error).removeprefix(f"{folder}/"))
            continue
        if header.element != element:
            continue
        seen.append(f"{path.name} ({header.functional}{', fully' if header.relativistic else ', scalar'})")
        usable = header.relativistic if spin_orbit else header.averages
        if header.functional == functional.upper() and usable:
            fitting.append((header.relativistic and not spin_orbit, -header.valence, path.name))
    if not fitting:
        wanted = f"{'fully' if spin_orbit else 'scalar'} relativistic {functional}"
        there = f"there: {', '.join(seen)}" if seen else "no file there is of this element"
        raise UserError(f"{folder}: no {wanted} pseudopotential for {element} ({there}); {MEND}")
    return folder / min(fitting)[2]


def check_file(path: Path, element: str, functional: str, spin_orbit: bool) -> UPFHeader:
    """The header of a file that the settings name. Raises UserError if it is missing, broken or does not fit."""
    if not path.is_file():
        raise UserError(f"{path}: no such pseudopotential for {element}; correct the name, or {MEND}")
    header = read_header(path)
    if header.element != element:
        raise UserError(f"{path}: is a pseudopotential of {header.element}, not of {element}; correct pseudopotentials")
    if header.functional != functional.upper():
        raise UserError(f"{path}: made for {header.functional}, but xc is {functional}; take another file or change xc")
    if spin_orbit and not header.relativistic:
        raise UserError(f"{path}: not fully relativistic, but spin_orbit is on; take a fully relativistic file")
    if not spin_orbit and not header.averages:
        raise UserError(f"{path}: fully relativistic, but spin_orbit is off; take a scalar relativistic file")
    return header
