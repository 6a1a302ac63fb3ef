"""Sets up everything in .venv: packages as pinned in constraints.txt, GPAW built from source, this project editable.

    python3 scripts/install.py [--torch-index URL] [--rebuild] [--espresso] [--browser] [--slurm]

Standard library only. Runs in no time when nothing changed since the last set-up; goes on where an interrupted one
stopped. Every error is one line, exit code 2. Environment: MMACE_TORCH_INDEX is the same as --torch-index; with
MMACE_NO_APT=1 no Debian package is installed; GPAW_CONFIG names your own siteconfig.py; CI=true is as
--espresso --browser --slurm.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import siteconfig
from console import Console, InstallError
from diagnose import cause_of, incomplete_distributions
from machine import (
    BROWSER_PACKAGES,
    ESPRESSO_PACKAGES,
    SLURM_PACKAGES,
    apt_install,
    check_machine,
    ensure_program,
)

ROOT = Path(__file__).resolve().parent.parent
CHECK = """
import importlib
names = "torch e3nn ase gpaw pymatgen.core jobflow fireworks maggma.stores fastapi uvicorn mmace mmace_flows"
for name in names.split():
    importlib.import_module(name)
import torch
print("torch", torch.__version__)
"""


def stamp_of(root: Path, siteconfig_text: str) -> str:
    """What the environment was made from: if this changes, it has to be made again."""
    digest = hashlib.sha256()
    # a virtual environment cannot be moved, so its place counts too
    for part in (str(root), (root / "pyproject.toml").read_text(), (root / "constraints.txt").read_text()):
        digest.update(part.encode() + b"\0")
    digest.update(siteconfig_text.encode())
    return digest.hexdigest()


class Installer:
    """The set-up of one checkout: ``root`` holds pyproject.toml and constraints.txt; all is made in root/.venv."""

    def __init__(self, root: Path, torch_index: str | None = None) -> None:
        self.root, self.torch_index = root, torch_index
        self.venv = root / ".venv"
        self.python = str(self.venv / "bin" / "python")
        self.stamp, self.unfinished = self.venv / "install-stamp", self.venv / "install-unfinished"
        self.siteconfig = self.venv / "siteconfig.py"
        self.console = Console(self.venv / "install.log", steps=5)
        self.lock = -1

    def up_to_date(self) -> bool:
        """Whether the environment is what pyproject.toml, constraints.txt and siteconfig.py ask for."""
        try:
            return Path(self.python).exists() and self.stamp.read_text() == stamp_of(
                self.root, self.siteconfig.read_text()
            )
        except OSError:
            return False

    def acquire(self) -> None:
        """Wait until no other set-up runs in this checkout. pip inherits the lock: it holds while pip lives."""
        self.lock = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up is at work in this folder; waiting for it", flush=True)
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks

    def install(self) -> None:
        """All steps. Raises InstallError with one line for the user."""
        begin = time.monotonic()
        print(f"Setting up {self.venv} (log: {self.console.log})", flush=True)
        with self.console.step("what is here: C++ compiler, Python, disk"):
            compiler = check_machine(self.console, self.root)
        with self.console.step("libraries for GPAW"):
            text = self.choose_siteconfig(compiler)
        with self.console.step("virtual environment"):
            self.make_venv()
            self.siteconfig.write_text(text)
        with self.console.step("packages, and GPAW from source beside them (a few minutes)"):
            self.install_packages()
        with self.console.step("check: imports, GPAW, MongoDB server"):
            torch = self.check_result()
        self.unfinished.unlink(missing_ok=True)
        self.stamp.write_text(stamp_of(self.root, self.siteconfig.read_text()))
        libraries = describe(self.siteconfig.read_text())
        print(f"Ready after {time.monotonic() - begin:.0f} s: {torch}; GPAW with {libraries}.", flush=True)
        if torch and "+cpu" not in torch:
            print("This torch is not a CPU build and brought CUDA packages; see TORCH_INDEX in docs/installation.md.")

    def choose_siteconfig(self, compiler: str) -> str:
        """GPAW's siteconfig.py: the user's own, or one made from the libraries that work here."""
        own = os.environ.get("GPAW_CONFIG")
        if own:
            if not Path(own).is_file():
                raise InstallError(f"GPAW_CONFIG names {own}, which is no file: mend it or unset it")
            return Path(own).read_text()
        found = siteconfig.probe(compiler)
        missing = [siteconfig.DEBIAN_PACKAGES[library] for library, there in found.items() if not there]
        if missing and apt_install(self.console, missing):
            found = siteconfig.probe(compiler)
        return siteconfig.siteconfig(compiler, found)

    def add_programs(self, espresso: bool, browser: bool, slurm: bool) -> int:
        """Programs beside the environment, where they are asked for. Without them everything else works: exit 0."""
        for wanted, name, program, packages in (
            (espresso, "Quantum ESPRESSO", "pw.x", ESPRESSO_PACKAGES),
            (browser, "Chromium", "chromium", BROWSER_PACKAGES),
            (slurm, "Slurm", "sbatch", SLURM_PACKAGES),
        ):
            if wanted and not ensure_program(self.console, program, packages):
                print(f"{name} is not installed (optional): apt-get install {' '.join(packages)}")
        return 0

    def make_venv(self) -> None:
        """.venv with a pip that works; what is there and works is kept."""
        pip = [self.python, "-m", "pip", "--version"]
        moved = str(self.venv) not in read(self.venv / "bin" / "activate")  # environments cannot be moved
        if not Path(self.python).exists() or moved or self.console.run(pip)[0] != 0:
            for name in ("bin", "lib", "lib64", "include", "pyvenv.cfg"):  # the log stays
                remove(self.venv / name)
            code, output = self.console.run([sys.executable, "-m", "venv", str(self.venv)])
            if code != 0:
                raise InstallError(f"no virtual environment: {cause_of(output)}")

    def pip(self, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
        """Run the environment's pip with the user's own pip configuration."""
        return self.console.run(self.pip_command(*arguments), environment, (self.lock,) if self.lock >= 0 else ())

    def pip_command(self, *arguments: str) -> list[str]:
        command, *rest = arguments
        options = ["--disable-pip-version-check", "--no-input", "-c", str(self.root / "constraints.txt")]
        return [self.python, "-m", "pip", command, *options, *rest]

    def install_packages(self) -> None:
        """Everything pinned, with GPAW compiled at the same time: pip mostly waits and unpacks."""
        broken = incomplete_distributions(self.site_packages()) if self.unfinished.exists() else []
        self.unfinished.write_text("the set-up of this environment has not ended\n")
        build = None if self.gpaw_wheel() else self.console.start(*self.gpaw_build())
        if self.torch_index:
            version = re.search(r"(?m)^torch==\S+", (self.root / "constraints.txt").read_text())
            self.must(
                *self.pip(
                    "install",
                    "--no-compile",
                    "--no-deps",
                    "--index-url",
                    self.torch_index,
                    version.group() if version else "torch",
                )
            )
        if broken:
            self.must(*self.pip("install", "--no-compile", "--no-deps", "--force-reinstall", *broken))
        self.must(*self.pip("install", "--no-compile", "-e", f"{self.root}[dev,serve]", "gpaw-data"))
        if build:
            self.finish_gpaw(*build)
        wheel = self.gpaw_wheel()
        if wheel is None:
            raise InstallError(f"GPAW's build left no wheel; its output is beside {self.console.log}")
        self.must(*self.pip("install", "--no-compile", "--no-deps", "--force-reinstall", str(wheel)))

    def finish_gpaw(self, process: subprocess.Popen[bytes], log: Path, begin: int) -> None:
        """Wait for GPAW's build. If it fails with the libraries that were found, build it without."""
        code, text = self.console.finish(process, log, begin)
        bare = siteconfig.siteconfig(siteconfig.find_compiler() or "g++", {})
        if code != 0 and not os.environ.get("GPAW_CONFIG") and self.siteconfig.read_text() != bare:
            print("\nGPAW does not build with the libraries found here; building it without", flush=True)
            self.siteconfig.write_text(bare)
            code, text = self.console.run(*self.gpaw_build())
        if code != 0:
            raise InstallError(f"GPAW does not build: {cause_of(text)}; its output is in {log}")

    def gpaw_build(self) -> tuple[list[str], dict[str, str], tuple[int, ...]]:
        """Command, environment and open files of GPAW's build. No cache: it may hold a wheel of other libraries."""
        constraints = str(self.root / "constraints.txt")
        command = self.pip_command(
            "wheel", "--no-cache-dir", "--no-deps", "--no-binary", "gpaw", "-w", str(self.wheel_folder()), "gpaw"
        )
        # older pips read the first for build requirements, newer ones the second
        environment = {
            "GPAW_CONFIG": str(self.siteconfig),
            "PIP_CONSTRAINT": constraints,
            "PIP_BUILD_CONSTRAINT": constraints,
        }
        return command, environment, (self.lock,) if self.lock >= 0 else ()

    def wheel_folder(self) -> Path:
        """Built wheels are kept per siteconfig and pins, so that an interrupted set-up does not compile twice."""
        content = self.siteconfig.read_text() + (self.root / "constraints.txt").read_text()
        return self.venv / "wheels" / hashlib.sha256(content.encode()).hexdigest()[:12]

    def gpaw_wheel(self) -> Path | None:
        return next(iter(sorted(self.wheel_folder().glob("gpaw-*.whl"))), None)

    def site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return next(iter(self.venv.glob("lib/python*/site-packages")), self.venv / "lib" / version / "site-packages")

    def must(self, code: int, output: str) -> None:
        if code != 0:
            raise InstallError(f"pip failed: {cause_of(output)}; then again, it goes on from here")

    def check_result(self) -> str:
        """torch's version, if everything can be imported. A MongoDB server that does not start is only warned about."""
        code, output = self.console.run([self.python, "-c", CHECK])
        if code != 0:
            last = output.strip().splitlines()[-1]
            raise InstallError(f"the environment does not work: {last}; remove .venv (make clean), then again")
        server = next(iter(self.site_packages().glob("fiftyone/db/bin/mongod")), None)
        if server and self.console.run([str(server), "--version"])[0] != 0:
            worked = (
                apt_install(self.console, ["libcurl4", "libssl3"])
                and self.console.run([str(server), "--version"])[0] == 0
            )
            if not worked:
                print(
                    "\nwarning: the MongoDB server does not start here (it needs libcurl4 and libssl3): "
                    "apt-get install libcurl4 libssl3, or use your own server (docs/database.md)",
                    flush=True,
                )
        return output.strip().splitlines()[-1]


def describe(siteconfig_text: str) -> str:
    """The libraries of a siteconfig, for people."""
    names = re.search(r"libraries\s*=\s*\[(.*?)\]", siteconfig_text, re.DOTALL)
    found = re.findall(r"['\"](\w+)['\"]", names.group(1)) if names else []
    return ", ".join(found) if found else "its own fallbacks (no libxc, BLAS, FFTW)"


def read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> int:
    """Command line; returns the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 - run before anything has checked the version
        print(
            f"error: Python {sys.version.split()[0]} is too old; 3.11 or newer is needed: "
            "apt-get install python3.11 python3.11-venv python3.11-dev, or make install PYTHON=…",
            file=sys.stderr,
        )
        return 2
    parser = argparse.ArgumentParser(description="Set up .venv with everything this project needs.")
    parser.add_argument(
        "--torch-index",
        default=os.environ.get("MMACE_TORCH_INDEX") or None,
        help="package index to take torch from (passed to pip as --index-url, for torch alone)",
    )
    parser.add_argument("--rebuild", action="store_true", help="probe the libraries and build GPAW again")
    parser.add_argument(
        "--espresso",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="install Quantum ESPRESSO too, from Debian's packages",
    )
    parser.add_argument(
        "--browser",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="install Chromium too, from Debian's packages, for the tests of the page",
    )
    parser.add_argument(
        "--slurm",
        action="store_true",
        default=os.environ.get("CI") == "true",
        help="install Slurm too, from Debian's packages, for the tests of workers in a batch system",
    )
    arguments = parser.parse_args()
    installer = Installer(ROOT, arguments.torch_index)
    if installer.up_to_date() and not arguments.rebuild:
        return installer.add_programs(arguments.espresso, arguments.browser, arguments.slurm)
    try:
        installer.acquire()
        if installer.up_to_date() and not arguments.rebuild:  # the one we waited for did it
            return 0
        installer.venv.mkdir(exist_ok=True)
        if arguments.rebuild:
            remove(installer.venv / "wheels")
        installer.stamp.unlink(missing_ok=True)
        installer.install()
        return installer.add_programs(arguments.espresso, arguments.browser, arguments.slurm)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.strerror}: {error.filename or installer.venv}; mend that, then again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        installer.console.stop_all()


if __name__ == "__main__":
    sys.exit(main())
