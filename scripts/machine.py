"""What the machine must have before anything is installed; root on Debian gets what is missing from its packages."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import siteconfig
from console import Console, InstallError

ESPRESSO_PACKAGES = ("quantum-espresso", "quantum-espresso-data")  # optional: a second DFT engine
BROWSER_PACKAGES = ("chromium",)  # optional: tests of the page of `mmace serve`
SLURM_PACKAGES = ("slurm-wlm", "munge")  # optional: tests of workers in a batch system
NEEDED_GB = 4.0  # the environment is 2 GB with a CPU build of torch; pip unpacks in the temporary folder


def check_machine(console: Console, root: Path) -> str:
    """The C++ compiler; checks Python's venv and headers and the disk, installing Debian's packages where it may."""
    free = shutil.disk_usage(root).free / 1e9
    if free < NEEDED_GB and not (root / ".venv" / "bin" / "mmace").exists():
        raise InstallError(f"only {free:.1f} GB free in {root}; the set-up needs {NEEDED_GB:.0f} GB: free some")
    compiler = siteconfig.find_compiler()
    if compiler is None:
        raise InstallError(
            "no C++ compiler that builds C++17 programs, which GPAW needs: apt-get install g++ (or set CXX), then again"
        )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for package, missing in ((f"{version}-venv", lacks_venv), (f"{version}-dev", lacks_headers)):
        if missing():
            apt_install(console, [package])
        if missing():
            raise InstallError(
                f"{sys.executable} comes without a part that is needed: apt-get install {package}, then again"
            )
    return compiler


def ensure_program(console: Console, program: str, packages: tuple[str, ...]) -> bool:
    """An optional program from Debian's packages, if it is not there yet; whether it is there now."""
    if shutil.which(program) is None:
        apt_install(console, list(packages))
    return shutil.which(program) is not None


def apt_install(console: Console, packages: list[str]) -> bool:
    """Install Debian packages if this is root on a Debian system; whether it worked."""
    if os.geteuid() != 0 or not shutil.which("apt-get") or os.environ.get("MMACE_NO_APT"):
        return False
    console.log.parent.mkdir(exist_ok=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2"]
    console.run(["apt-get", "update", *options], quiet)
    code, _ = console.run(["apt-get", "install", "-y", "--no-install-recommends", *options, *packages], quiet)
    importlib.invalidate_caches()
    return code == 0


def lacks_venv() -> bool:
    return importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None


def lacks_headers() -> bool:
    return not Path(sysconfig.get_path("include"), "Python.h").exists()
