"""Writing labelled structures: one at a time into a temporary name beside the target, renamed when complete."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mmace.data import deepmd_spin, extxyz, mlip_cfg
from mmace.data.registry import FORMATS, format_of_name
from mmace.data.source import Writer
from mmace.errors import UserError, unknown_key_message
from mmace.train.configuration import Configuration

WRITTEN = (extxyz.NAME, mlip_cfg.NAME, deepmd_spin.NAME)
SET_SIZE = 2000  # configurations of one set of a DeePMD system


def target_format(path: Path, name: str | None = None) -> ModuleType:
    """The format that a file is written in: the one named, or the one that the file's name tells.

    A name without suffix is a DeePMD folder only if that is said. Raises `UserError` for formats that are only read.
    """
    if name is not None and name not in FORMATS:
        raise UserError(unknown_key_message(name, WRITTEN, "format").replace("unknown setting", "unknown format"))
    module = FORMATS[name] if name is not None else format_of_name(path)
    if module is None:
        raise UserError(f"{path}: which format? end the name with .extxyz or .cfg, or give --to {deepmd_spin.NAME}")
    if module.NAME not in WRITTEN:
        raise UserError(f"{path}: {module.NAME} is only read; write {', '.join(WRITTEN)}")
    return module


def check_target(path: Path, overwrite: bool) -> None:
    """Raises `UserError` if something is at ``path`` that must not be lost."""
    if path.exists() and not overwrite:
        raise UserError(f"{path}: is there already; choose another name, or replace it with --overwrite")
    if path.is_dir() and overwrite and not deepmd_spin.is_folder(path) and any(path.iterdir()):
        raise UserError(f"{path}: is a folder that holds something else than a DeePMD system; choose another name")


@contextlib.contextmanager
def open_writer(
    path: str | Path, format: str | None = None, *, overwrite: bool = False, elements: tuple[str, ...] = ()
) -> Iterator[Writer]:
    """A file to `add` configurations to; in its place, complete, when the ``with`` block ends without an error.

    Parameters: ``elements`` gives the order of types in formats that number them; others follow as they come.
    Raises `UserError` if something is at ``path`` (unless ``overwrite``), for a format that is only read, for a
    configuration that the format cannot hold, and for a full disk.
    """
    path = Path(path)
    module = target_format(path, format)
    check_target(path, overwrite)
    types = {atomic_numbers[symbol]: index for index, symbol in enumerate(elements)}
    writer: Writer
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if module is deepmd_spin:
            writer = _FolderWriter(path, types)
        else:
            to_text = extxyz.to_text if module is extxyz else lambda c: mlip_cfg.to_text(c, types)
            writer = _TextWriter(path, to_text)
    try:
        yield writer
        with _disk(path):
            writer.close()
    except BaseException:
        writer.abandon()
        raise


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); an older file is untouched") from error


class _TextWriter:
    def __init__(self, path: Path, to_text: Callable[[Configuration], str]) -> None:
        self.path, self.to_text = path, to_text
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        self.temporary = Path(name)
        self._raw = os.fdopen(handle, "wb")
        os.fchmod(handle, 0o666 & ~_UMASK)  # mkstemp makes it private
        compressed = path.name.endswith(".gz")
        self._stream = gzip.GzipFile(fileobj=self._raw, mode="wb", filename="", mtime=0) if compressed else self._raw
        self._text = io.TextIOWrapper(cast(Any, self._stream), encoding="utf-8", newline="\n")

    def add(self, configuration: Configuration) -> None:
        text = self.to_text(configuration)
        with _disk(self.path):
            self._text.write(text)

    def close(self) -> None:
        self._text.flush()
        if self._stream is not self._raw:
            self._stream.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        os.replace(self.temporary, self.path)

    def abandon(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._text.detach()
        with contextlib.suppress(OSError, ValueError):
            self._raw.close()
        self.temporary.unlink(missing_ok=True)


class _FolderWriter:
    """Systems of equal composition, boundary and labels, each with sets of at most `SET_SIZE` configurations."""

    def __init__(self, path: Path, types: dict[int, int]) -> None:
        self.path, self.types = path, types
        self.temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        self.temporary.chmod(0o777 & ~_UMASK)
        self._waiting: dict[tuple[Any, ...], list[dict[str, np.ndarray]]] = defaultdict(list)
        self._systems: dict[tuple[Any, ...], int] = {}
        self._sets: dict[tuple[Any, ...], int] = defaultdict(int)

    def add(self, configuration: Configuration) -> None:
        rows = deepmd_spin.to_rows(configuration)
        for number in configuration.numbers.tolist():
            self.types.setdefault(number, len(self.types))
        key = (tuple(configuration.numbers.tolist()), bool(configuration.pbc.all()), tuple(sorted(rows)))
        self._systems.setdefault(key, len(self._systems))
        self._waiting[key].append(rows)
        if len(self._waiting[key]) == SET_SIZE:
            self._flush(key)

    def _system(self, key: tuple[Any, ...]) -> Path:
        symbols = [chemical_symbols[number] for number in key[0]]
        formula = "".join(f"{symbol}{symbols.count(symbol)}" for symbol in dict.fromkeys(symbols))
        return self.temporary / f"{self._systems[key]:04d}_{formula[:60]}"

    def _flush(self, key: tuple[Any, ...]) -> None:
        with _disk(self.path):
            folder = self._system(key) / f"set.{self._sets[key]:03d}"
            folder.mkdir(parents=True)
            for name in key[2]:
                with open(folder / f"{name}.npy", "wb") as file:
                    np.save(file, np.stack([rows[name] for rows in self._waiting[key]]), allow_pickle=False)
                    os.fsync(file.fileno())
        self._sets[key] += 1
        self._waiting[key].clear()

    def close(self) -> None:
        for key in [key for key, rows in self._waiting.items() if rows]:
            self._flush(key)
        names = [chemical_symbols[number] for number, _ in sorted(self.types.items(), key=lambda item: item[1])]
        for key in self._systems:
            system = self._system(key)
            (system / "type.raw").write_text("".join(f"{self.types[number]}\n" for number in key[0]))
            (system / "type_map.raw").write_text("".join(f"{name}\n" for name in names))
            if not key[1]:
                (system / "nopbc").touch()
        old = None
        if self.path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.old.", dir=self.path.parent)) / self.path.name
            os.replace(self.path, old)
        os.replace(self.temporary, self.path)
        if old is not None:
            shutil.rmtree(old.parent)

    def abandon(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()
