"""`mmace doctor`: what is installed on this machine, what is missing, and what mends it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from mmace.errors import UserError
from mmace_flows.execution.settings import Settings, available_cores

PACKAGES = (
    "torch", "e3nn", "ase", "numpy", "scipy", "pymatgen", "jobflow", "fireworks", "maggma", "pymongo",
    "pydantic", "rich", "typer", "safetensors", "vesin", "matplotlib", "atomate2",
)  # fmt: skip
NEEDED_MEMORY_GB = 3.0  # two workers with one small GPAW calculation each, and mongod
NEEDED_DISK_GB = 2.0

# asked in a process of its own: a broken build must not take the doctor with it
GPAW_QUESTIONS = """
import json, gpaw, gpaw.fftw, gpaw.cgpaw
from gpaw.setup_data import search_for_file
from gpaw import GPAW
def found(name):
    try:
        return bool(search_for_file(name)[0])
    except Exception:
        return False
print(json.dumps({"version": gpaw.__version__, "libxc": gpaw.get_libraries()["libxc"] or None,
    "fftw": gpaw.fftw.have_fftw(), "mpi": bool(gpaw.cgpaw.have_mpi), "blas": hasattr(gpaw.cgpaw, "mmm"),
    "setups": {name: found(name + ".PBE") for name in ("Fe", "Ni")}}))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    state: Literal["ok", "missing", "warning"]
    detail: str
    mend: str = ""
    needed: bool = False  # by the small FeNi campaign

    @property
    def ok(self) -> bool:
        """Whether nothing needs to be done for the small FeNi campaign."""
        return self.state != "missing"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; no check stops the others."""
    checks: list[Callable[[Settings], Iterator[Finding]]] = [
        _python, _packages, _gpaw, _espresso, _pseudopotentials, _database, _compiler, _gpu, _hardware,
    ]  # fmt: skip
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check(settings))
        except Exception as error:
            name = check.__name__.strip("_")
            findings.append(Finding(name, "warning", f"cannot be checked ({type(error).__name__}: {error})"))
    return findings


def _python(settings: Settings) -> Iterator[Finding]:
    ok = sys.version_info >= (3, 11)
    mend = "" if ok else "install Python 3.11 or newer"
    yield Finding("python", "ok" if ok else "missing", f"{platform.python_version()} ({sys.executable})", mend, True)


def _packages(settings: Settings) -> Iterator[Finding]:
    for name in ("mmace-flows", *PACKAGES):
        try:
            yield Finding(name, "ok", metadata.version(name), needed=name != "atomate2")
        except metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed", "make install", needed=name != "atomate2")


def _gpaw(settings: Settings) -> Iterator[Finding]:
    result = subprocess.run(
        [sys.executable, "-c", GPAW_QUESTIONS], capture_output=True, text=True, timeout=120, check=False
    )
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"ends with code {result.returncode}"
        yield Finding("gpaw", "missing", reason, "make install (needs a C++ compiler)", needed=True)
        return
    answers = json.loads(result.stdout.splitlines()[-1])
    parts = [f"libxc {answers['libxc']}" if answers["libxc"] else "without libxc"]
    parts += [name if answers[name] else f"without {name}" for name in ("fftw", "blas", "mpi")]
    slower = not (answers["libxc"] and answers["fftw"] and answers["blas"])
    mend = "same numbers, slower; apt-get install libxc-dev libopenblas-dev libfftw3-dev, then make install"
    yield Finding("gpaw", "ok", f"{answers['version']}, {', '.join(parts)}", mend if slower else "", needed=True)
    lacking = [element for element, found in answers["setups"].items() if not found]
    if lacking:
        detail = f"no PBE setup for {', '.join(lacking)}"
        yield Finding("paw setups", "missing", detail, "pip install gpaw-data, or set GPAW_SETUP_PATH", needed=True)
    else:
        yield Finding("paw setups", "ok", "PBE setups for Fe and Ni found", needed=True)


def _espresso(settings: Settings) -> Iterator[Finding]:
    from mmace_flows.labels.espresso_program import espresso_command, espresso_version

    try:
        command = " ".join(espresso_command(settings))
        yield Finding("quantum espresso", "ok", f"{espresso_version(settings)} ({command})")
    except UserError as error:
        said, _, mend = str(error).removeprefix("Quantum ESPRESSO: ").partition("; ")
        yield Finding("quantum espresso", "missing", said, f"{mend} (not needed for FeNi)".lstrip())


def _pseudopotentials(settings: Settings) -> Iterator[Finding]:
    from mmace_flows.labels.pseudopotentials import pseudo_folder, read_header

    try:
        folder = pseudo_folder(settings)
    except UserError as error:
        said, _, mend = str(error).removeprefix("no pseudopotentials for Quantum ESPRESSO: ").partition("; ")
        yield Finding("pseudopotentials", "missing", said, f"{mend} (not needed for FeNi)".lstrip())
        return
    elements: set[str] = set()
    relativistic: set[str] = set()
    broken: list[str] = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".upf"):
        try:
            header = read_header(path)
        except UserError:
            broken.append(path.name)
            continue
        if header.functional == "PBE":
            elements.add(header.element)
            relativistic |= {header.element} if header.relativistic else set()
    if not elements:
        yield Finding("pseudopotentials", "missing", f"no PBE files (*.UPF) in {folder}", "correct MMACE_PSEUDO_DIR")
        return
    detail = f"PBE for {_elements(elements)}; fully relativistic for {_elements(relativistic)}; in {folder}"
    yield Finding("pseudopotentials", "ok", detail)
    if broken:
        listed = ", ".join(broken[:3]) + (" …" if len(broken) > 3 else "")
        yield Finding(
            "pseudopotentials", "warning", f"{len(broken)} files cannot be read: {listed}", "fetch them again"
        )


def _elements(symbols: set[str]) -> str:
    return f"{len(symbols)} elements" if len(symbols) > 12 else ", ".join(sorted(symbols)) or "none"


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database is not None:
        from mmace_flows.execution.connection import connect

        try:
            name = connect(settings).database.name
        except UserError as error:
            yield Finding("database", "missing", str(error), needed=True)
        else:
            yield Finding("database", "ok", f"your own server answers, database '{name}'", needed=True)
        return
    from mmace_flows.execution.embedded import EmbeddedDatabase
    from mmace_flows.execution.mongod import find_mongod, mongod_version

    try:
        program = find_mongod(settings.mongod)
        yield Finding("mongod", "ok", f"{mongod_version(program)} ({program})", needed=True)
    except UserError as error:
        yield Finding("mongod", "missing", str(error), needed=True)
    status = EmbeddedDatabase(settings).status()
    state = f"running on port {status.port}" if status.running else "not running, starts when needed"
    yield Finding("database", "ok", f"embedded, {state}; folder {settings.data_dir / 'mongo'}")


def _compiler(settings: Settings) -> Iterator[Finding]:
    # GPAW needs it once, to be built; a campaign does not
    for name in ("g++", "c++", "clang++"):
        path = shutil.which(name)
        if path:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                result = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
                yield Finding("c++ compiler", "ok", (result.stdout.splitlines() or [path])[0])
                return
    yield Finding("c++ compiler", "missing", "none on PATH", "apt-get install g++ (to build GPAW)")


def _gpu(settings: Settings) -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("gpu", "ok", "none; training runs on the processor")
        return
    question = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    result = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False)
    if result.returncode != 0:
        yield Finding("gpu", "warning", "nvidia-smi does not answer", "check the driver")
        return
    names = "; ".join(result.stdout.split("\n")).strip("; ")
    build = metadata.version("torch")
    import torch

    if torch.cuda.is_available():
        yield Finding("gpu", "ok", names)
    else:
        yield Finding("gpu", "warning", f"{names}, but torch {build} does not use it", "install a CUDA build of torch")


def _hardware(settings: Settings) -> Iterator[Finding]:
    given = f" ({settings.source('workers')})" if "workers" in settings.model_fields_set else ""
    yield Finding("cores", "ok", f"{available_cores()}, {settings.workers} jobs at a time{given}")
    with contextlib.suppress(ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
        enough = memory >= NEEDED_MEMORY_GB
        mend = "" if enough else f"the small FeNi campaign wants {NEEDED_MEMORY_GB:.0f} GB; use --workers 1"
        yield Finding("memory", "ok" if enough else "warning", f"{memory:.1f} GB", mend)
    folder: Path = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1024**3
    enough = free >= NEEDED_DISK_GB and os.access(folder, os.W_OK)
    mend = "" if enough else f"{NEEDED_DISK_GB:.0f} GB in a folder of yours are needed; choose another with --data-dir"
    yield Finding("disk", "ok" if enough else "missing", f"{free:.1f} GB free in {folder}", mend, needed=True)
