"""The one list of formats, and the one way in: every configuration of a file, whatever its format."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mmace.data import deepmd_spin, extxyz, matpes_json, mlip_cfg
from mmace.data.source import Notes, Problem, ReadOptions, ReadProgress
from mmace.errors import UserError, unknown_key_message
from mmace.train.configuration import Configuration
from mmace.train.sanity import check_sanity

logger = logging.getLogger("mmace")

FORMATS: dict[str, ModuleType] = {module.NAME: module for module in (extxyz, mlip_cfg, deepmd_spin, matpes_json)}


def format_of(path: Path, name: str | None = None) -> ModuleType:
    """The format of ``path``: the one named, or the one its name or its first characters tell.

    Raises `UserError` for an unknown name, and where nothing tells the format.
    """
    if name is not None:
        if name not in FORMATS:
            raise UserError(unknown_key_message(name, FORMATS, "format").replace("unknown setting", "unknown format"))
        return FORMATS[name]
    if path.is_dir():
        if deepmd_spin.is_folder(path):
            return deepmd_spin
        raise UserError(f"{path}: is a folder; give the path of an extended-XYZ file, or of a DeePMD folder (type.raw)")
    found = format_of_name(path)
    if found is None:
        found = _format_of_content(path)
    if found is None:
        raise UserError(f"{path}: format not recognised; say it with --format ({', '.join(FORMATS)})")
    return found


def format_of_name(path: Path) -> ModuleType | None:
    """The format that the end of the file's name tells, .gz aside."""
    name = path.name.lower().removesuffix(".gz")
    return next((module for module in FORMATS.values() if name.endswith(module.SUFFIXES or ("\0",))), None)


def _format_of_content(path: Path) -> ModuleType | None:
    try:
        with open(path, "rb") as file:
            head = file.read(2)
        with gzip.open(path, "rb") if head == b"\x1f\x8b" else open(path, "rb") as stream:
            begin = stream.read(4096).lstrip()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of an extended-XYZ file") from None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "damaged"
        raise UserError(f"{path}: cannot be read ({reason}); give a readable file") from None
    if begin.startswith(b"BEGIN_CFG"):
        return mlip_cfg
    if begin[:1] in (b"{", b"["):
        return matpes_json
    return extxyz if begin.split(b"\n")[0].strip().isdigit() else None


def iterate(
    path: str | Path,
    options: ReadOptions | None = None,
    *,
    notes: Notes | None = None,
    progress: ReadProgress | None = None,
    on_problem: Problem | None = None,
) -> Iterator[Configuration]:
    """Every configuration of a file, one at a time.

    Parameters: ``notes`` takes what is seen in passing; ``progress(done, all)`` in bytes; ``on_problem`` is told of a
    configuration that is wrong, and the next one follows; without it the first problem is raised.
    Raises `UserError`, one line with file, configuration, line, field and mend.
    """
    path, options, notes = Path(path), options or ReadOptions(), notes if notes is not None else Notes()
    for block in format_of(path, options.format).blocks(path, options, notes, progress):
        try:
            configuration = block.build()
            check_sanity(configuration)
        except UserError as problem:
            if on_problem is None:
                raise
            on_problem(problem)
            continue
        notes.read += 1
        yield configuration
    if notes.read == 0 and on_problem is None:
        raise UserError(f"{path}: no configurations in the file; give an extended-XYZ file with at least one")


def log_notes(notes: Notes, path: Path) -> None:
    """Says what was seen in passing, once per file."""
    for line in notes.lines(path):
        logger.warning("%s", line)
