"""Making a folder of shards from files: in parallel, with progress, and going on where a kill has stopped it.

The plan is written first, each shard whole or not at all, the index last: what is there is right, and what is missing
is made by the same call again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmace.checkpoint import write_atomically
from mmace.data.registry import format_of, log_notes
from mmace.data.source import Block, Notes, ReadOptions
from mmace.errors import UserError
from mmace.train.configuration import Configuration
from mmace.train.files import locked
from mmace.train.sanity import check_sanity
from mmace.train.shard_format import ShardSummary, is_sound, read_summary, write_shard
from mmace.train.shards import INDEX, ShardedConfigurations, open_shards, write_index
from mmace.train.state import data_hash

PLAN = "plan.json"
VERSION = 1
STRUCTURES_PER_SHARD = 1000
SMALL = 20_000_000  # bytes of files that are done before more processes have started

ShardProgress = Callable[[dict[str, Any]], None]
Sources = Sequence[str | Path] | Iterable[Configuration]


@dataclass
class Piece:
    """What one shard is made from."""

    number: int
    source_hash: str
    blocks: list[Block] = field(default_factory=list)  # of a file, not yet understood
    configurations: list[Configuration] = field(default_factory=list)
    notes: dict[Path, Notes] = field(default_factory=dict)  # of each file, what its blocks note while they are built
    part: float = 0.0  # of the sources, in bytes; 0 where that is not known

    @property
    def name(self) -> str:
        """File name of the shard."""
        return f"shard-{self.number:06d}.h5"

    def __len__(self) -> int:
        return len(self.blocks) + len(self.configurations)


def write_shards(
    sources: Sources,
    folder: str | Path,
    elements: Sequence[str] | None = None,
    r_max: float = 5.0,
    processes: int | None = None,
    progress: ShardProgress | None = None,
    *,
    options: ReadOptions | None = None,
    structures_per_shard: int = STRUCTURES_PER_SHARD,
    overwrite: bool = False,
) -> ShardedConfigurations:
    """Writes labelled structures with their neighbour lists into ``folder``, or finishes what is there.

    Parameters: ``sources`` paths of files in any format of `mmace.data`, or configurations; ``elements`` the allowed
    ones, None: all; ``r_max`` cutoff radius, Å; ``processes`` None: as many as CPUs; ``progress`` is called after each
    shard with shards, structures, done (part of the files that is read, None where unknown), seconds and left
    (estimated seconds, None where unknown). With several processes a script must guard its own start by
    ``if __name__ == "__main__"``, as always with `multiprocessing`.

    Raises `UserError` for what `mmace.data.iterate` refuses, elements that are not allowed, energies of directions,
    which shards do not keep, a folder that holds shards of other sources or settings (unless ``overwrite``) or is in
    use, and a full disk.
    """
    folder, options = Path(folder), options or ReadOptions()
    if r_max <= 0 or structures_per_shard < 1 or (processes is not None and processes < 1):
        raise UserError("shards: r_max must be positive, structures per shard and processes at least 1; correct them")
    items = iter(sources)
    first = next(items, None)
    if first is None:
        raise UserError("shards: no data; give at least one file with structures")
    everything: Iterable[Any] = itertools.chain([first], items)
    settings: dict[str, Any] = {
        "version": VERSION,
        "r_max": float(r_max),
        "elements": None if elements is None else sorted(elements),
        "structures_per_shard": structures_per_shard,
        "reading": {"keys": options.keys, "elements": list(options.elements), "zero_moments": options.zero_moments},
    }
    with locked(folder, "another process makes shards here; wait for it or choose another folder"):
        paths: list[Path] = []
        if isinstance(first, Configuration):
            plan = {**settings, "sources": None}
            pieces = _pieces_of_configurations(everything, settings, structures_per_shard)
        else:
            paths = [Path(str(path)) for path in everything]
            hashes = [[path.name, file_hash(path)] for path in paths]
            plan = {**settings, "sources": hashes}
            pieces = _pieces_of_files(paths, options, plan, structures_per_shard)
        _claim(folder, plan, overwrite)
        if plan["sources"] is not None and (folder / INDEX).exists():
            try:
                return open_shards(folder)
            except UserError:  # a shard is missing or damaged: it is made again
                (folder / INDEX).unlink()
        few = plan["sources"] is not None and sum(map(_bytes_of, paths)) < SMALL
        count = processes or (1 if few else len(os.sched_getaffinity(0)))
        names = _write_all(pieces, folder, float(r_max), elements, count, progress)
        if not names:
            raise UserError("shards: no structures in the data; give at least one file with structures")
        for path in folder.glob("shard-*.h5"):
            if path.name not in names:  # of a longer run before
                path.unlink()
        write_index(folder, names, float(r_max), plan)
    return open_shards(folder)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names. Raises `UserError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        parts = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for part in parts:
            if part != path:
                digest.update(str(part.relative_to(path)).encode() + b"\0")
            with open(part, "rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of labelled structures") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a readable file") from error
    return digest.hexdigest()


def _claim(folder: Path, plan: dict[str, Any], overwrite: bool) -> None:
    """Makes ``folder`` the home of ``plan``. Raises `UserError` if there is another one, naming what differs."""
    plan = json.loads(json.dumps(plan))
    for leftover in [*folder.glob(".shard-*"), *folder.glob(f".{INDEX}.*"), *folder.glob(f".{PLAN}.*")]:
        leftover.unlink(missing_ok=True)  # of a writer that was killed
    there = folder / PLAN
    shards = [*folder.glob("shard-*.h5"), *folder.glob(INDEX)]
    if there.exists() or shards:
        try:
            old = json.loads(there.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            old = {}
        different = [name for name in plan if old.get(name) != plan[name]]
        if not different and plan["sources"] is not None:
            return
        if different and not overwrite:
            what = ", ".join(f"{n} ({old.get(n)} there, {plan[n]} now)" if n == "r_max" else n for n in different)
            raise UserError(
                f"{folder}: holds shards of other {what}; choose another folder, or replace them (--overwrite)"
            )
        (folder / INDEX).unlink(missing_ok=True)  # first, so that nobody takes what follows for complete
        if different:
            for path in shards:
                path.unlink(missing_ok=True)
    write_atomically(there, (json.dumps(plan, indent=2, sort_keys=True) + "\n").encode())


def _source_hash(settings: dict[str, Any], what: Any) -> str:
    return hashlib.sha256(json.dumps([settings, what], sort_keys=True).encode()).hexdigest()[:32]


def _pieces_of_files(paths: Sequence[Path], options: ReadOptions, plan: dict[str, Any], size: int) -> Iterator[Piece]:
    """Blocks of all files in order, ``size`` to a piece. Raises `UserError` where a file cannot be divided."""
    total = sum(_bytes_of(path) for path in paths)
    before, place, given = 0, [0.0], 0.0
    piece = Piece(0, _source_hash(plan, 0))
    for path in paths:
        notes = Notes()

        def told(done: int, of: int, before: int = before) -> None:
            place[0] = (before + done) / max(total, 1)

        empty = True
        for block in format_of(path, options.format).blocks(path, options, notes, told):
            empty = False
            piece.blocks.append(block)
            piece.notes[path] = notes
            notes.read += 1
            if len(piece) == size:
                piece.part, given = place[0] - given, place[0]
                yield piece
                piece = Piece(piece.number + 1, _source_hash(plan, piece.number + 1))
        if empty:
            raise UserError(f"{path}: no configurations in the file; give one with at least one")
        before += _bytes_of(path)
    if len(piece):
        piece.part = 1.0 - given
        yield piece


def _bytes_of(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def _pieces_of_configurations(
    configurations: Iterable[Configuration], settings: dict[str, Any], size: int
) -> Iterator[Piece]:
    remaining = iter(configurations)
    for number in itertools.count():
        chunk = list(itertools.islice(remaining, size))
        if not chunk:
            return
        for configuration in chunk:
            if configuration.directions is not None:
                raise UserError(
                    f"{configuration.name}: shards do not keep energies of directions; train on the configurations "
                    "themselves"
                )
        yield Piece(number, _source_hash(settings, data_hash(chunk)), configurations=chunk)


def _write_all(
    pieces: Iterator[Piece],
    folder: Path,
    r_max: float,
    elements: Sequence[str] | None,
    processes: int,
    progress: ShardProgress | None,
) -> list[str]:
    """Writes the shards that are missing; the names of all, in order."""
    began = time.monotonic()
    names: list[str] = []
    shards = structures = 0
    done = skipped = 0.0  # parts of the sources; shards that are there say nothing about the time that is left

    def tell(count: int, part: float) -> None:
        nonlocal shards, structures, done
        shards, structures, done = shards + 1, structures + count, done + part
        seconds = time.monotonic() - began
        left = seconds * (1 - done) / (done - skipped) if done > skipped else None
        event = {"shards": shards, "structures": structures, "done": done or None, "seconds": seconds, "left": left}
        if progress is not None:
            progress(event)

    with _Workers(processes) as workers:
        for piece in pieces:
            names.append(piece.name)
            if _is_there(folder / piece.name, piece.source_hash):
                skipped += piece.part
                tell(len(piece), piece.part)
                continue
            for finished in workers.give(piece, folder, r_max, elements):
                tell(*finished)
        for finished in workers.rest():
            tell(*finished)
    for path, notes in workers.notes.items():
        log_notes(notes, path)
    return names


def _is_there(path: Path, source_hash: str) -> bool:
    try:
        return path.exists() and read_summary(path).source_hash == source_hash and is_sound(path)
    except UserError:  # damaged: it is made anew
        return False


class _Workers:
    """Processes that make shards, or this one; no more pieces are on the way than they can work on."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.notes: dict[Path, Notes] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._waiting: dict[Future[tuple[ShardSummary, dict[Path, Notes]]], Piece] = {}

    def __enter__(self) -> _Workers:
        if self.count > 1:
            context = multiprocessing.get_context("spawn")  # torch has threads: a fork of it may hang
            self._pool = ProcessPoolExecutor(self.count, context, _begin_worker, (os.getpid(),))
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def give(
        self, piece: Piece, folder: Path, r_max: float, elements: Sequence[str] | None
    ) -> Iterator[tuple[int, float]]:
        """Hands out a piece; structures and part of those that are finished meanwhile."""
        arguments = (piece, folder / piece.name, r_max, elements)
        if self._pool is None:
            yield self._finished(piece, *make_shard(*arguments))
            return
        self._waiting[self._pool.submit(make_shard, *arguments)] = piece
        while len(self._waiting) > 2 * self.count:
            yield from self._some()

    def rest(self) -> Iterator[tuple[int, float]]:
        """Those that are not finished yet."""
        while self._waiting:
            yield from self._some()

    def _some(self) -> Iterator[tuple[int, float]]:
        finished, _ = wait(self._waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            piece = self._waiting.pop(future)
            try:
                result = future.result()
            except BrokenProcessPool as error:
                raise UserError(
                    "shards: a process that makes them was killed (too little memory?); start the same command again, "
                    "with fewer processes if need be: it goes on from there"
                ) from error
            yield self._finished(piece, *result)

    def _finished(self, piece: Piece, summary: ShardSummary, notes: dict[Path, Notes]) -> tuple[int, float]:
        for path, own in piece.notes.items():
            self.notes[path] = own  # one object for all pieces of a file
            noted = notes[path]
            if noted is not own:  # made in another process, which has counted from zero
                own.collinear += noted.collinear
                own.without_moments += noted.without_moments
                own.elsewhere |= noted.elsewhere
        return summary.count, piece.part


def make_shard(
    piece: Piece, path: Path, r_max: float, elements: Sequence[str] | None
) -> tuple[ShardSummary, dict[Path, Notes]]:
    """Builds the configurations of ``piece`` and writes their shard; the notes that were made in this process.

    Raises `UserError` for the first wrong one.
    """
    if multiprocessing.parent_process() is not None:  # a copy: what the parent has noted so far is noted there
        for notes in piece.notes.values():
            notes.collinear = notes.without_moments = 0
    configurations = list(piece.configurations)
    for block in piece.blocks:
        configuration = block.build()
        check_sanity(configuration)
        configurations.append(configuration)
    return write_shard(path, configurations, r_max, piece.source_hash, elements), piece.notes


def _begin_worker(parent: int) -> None:
    """Ctrl-C is the parent's to handle, and a parent that was killed leaves nobody behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("mmace").setLevel(logging.ERROR)
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
