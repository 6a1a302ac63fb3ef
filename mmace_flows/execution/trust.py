"""Whose jobs may run: packages and folders that this machine trusts, whatever documents of the database ask for."""

from __future__ import annotations

from pathlib import Path

# packages whose jobs and data classes documents may name; ours without the rooms that start programs and hold accounts
PACKAGES = [
    "mmace_flows",
    "mmace",
    "jobflow.core.flow",
    "jobflow.core.job",
    "jobflow.core.maker",
    "jobflow.core.reference",
    "jobflow.core.schemas",
    "jobflow.core.state",
    "pymatgen.core",
    "pymatgen.electronic_structure",
    "pymatgen.symmetry",
]
EXCLUDED = ["mmace_flows.execution", "mmace_flows.cli"]
FOLDERS: list[Path] = []


def trust_folder(folder: Path) -> None:
    """Jobs that are defined in Python files of this folder may run: the recipe's."""
    folder = folder.resolve()
    if folder not in FOLDERS:
        FOLDERS.append(folder)


def trust_packages(names: str) -> None:
    """Further packages whose jobs may run, as ``mylab,atomate2``."""
    PACKAGES.extend(name for part in names.split(",") if (name := part.strip()) and name not in PACKAGES)
