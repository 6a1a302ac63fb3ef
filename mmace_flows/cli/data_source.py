"""Where labelled structures come from on the command line: files of every format, or the label store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace_flows.cli.learning_settings import STORE

if TYPE_CHECKING:  # these take long to import; `mmace --help` must not wait for them
    from mmace.data import ReadOptions
    from mmace.train import Configuration

SHOW_AFTER = 2.0  # seconds of reading before progress is shown
SAY_EVERY = 10.0  # seconds between lines where there is no terminal


def read_options(
    keys: dict[str, str] | None = None, format: str | None = None, elements: str | None = None, zero: bool = False
) -> ReadOptions:
    """Options of the command line or the settings file. ``elements`` is "Fe,Al", of type 0, 1, …"""
    from mmace.data import ReadOptions

    symbols = tuple(symbol for symbol in (elements or "").replace(",", " ").split())
    return ReadOptions(dict(keys or {}), symbols, format, zero)


def iterate_source(source: str | Path, options: ReadOptions, **more: Any) -> Iterator[Configuration]:
    """Every configuration of a file, or of the store where ``source`` begins with "store:".

    Parameters: ``more`` as `mmace.data.iterate` takes it. Raises `UserError`.
    """
    if str(source).startswith(STORE):
        from mmace_flows.learning.label_source import store_configurations

        notes = more.pop("notes", None)
        for configuration in store_configurations(str(source), **more):
            if notes is not None:
                notes.read += 1
            yield configuration
        return
    from mmace.data import iterate

    yield from iterate(source, options, **more)


def read_source(source: str | Path, options: ReadOptions, console: Any) -> Sequence[Configuration]:
    """All configurations of a file or of the store, with progress where it takes long; shards stay on disk.

    Raises `UserError`."""
    if Path(source).is_dir():
        from mmace.train.shards import is_shard_folder, open_shards

        if is_shard_folder(Path(source)):
            return open_shards(source)
    with reading_progress(console) as progress:
        if str(source).startswith(STORE):
            return list(iterate_source(source, options, progress=progress(Path(source))))
        from mmace.train import read_configurations

        return read_configurations(
            source,
            options.keys,
            format=options.format,
            elements=options.elements,
            zero_moments=options.zero_moments,
            progress=progress(Path(source)),
        )


@contextmanager
def reading_progress(console: Any, verb: str = "reading") -> Iterator[Callable[[Path], Callable[[int, int], None]]]:
    """A function that gives the progress function of a file: a bar on a terminal, else a line now and then."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    shown = [False]

    def of_file(path: Path) -> Callable[[int, int], None]:
        begin = said = time.monotonic()
        task: list[TaskID] = []

        def show(done: int, total: int) -> None:
            nonlocal said
            now = time.monotonic()
            if now - begin < SHOW_AFTER or not total:
                return
            if console.is_terminal:
                if not shown[0]:
                    bar.start()
                    shown[0] = True
                if not task:
                    task.append(bar.add_task(f"{verb} {path.name}", total=total))
                bar.update(task[0], completed=done, total=total)
            elif now - said > SAY_EVERY:
                said = now
                left = (now - begin) * (total - done) / max(done, 1)
                console.print(
                    f"{verb} {path}: {100 * done / total:.0f} %, {left:.0f} s left", highlight=False, soft_wrap=True
                )

        return show

    try:
        yield of_file
    finally:
        if shown[0]:
            bar.stop()
