"""The check of data before training: everything wrong with every configuration, and with the set as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmace.data.registry import iterate
from mmace.data.source import Notes, ReadOptions, ReadProgress
from mmace.data.statistics import DataStatistics
from mmace.errors import UserError
from mmace.fields import ENERGY, LABELS
from mmace.train.configuration import Configuration

LARGEST_DEVIATION = 100.0  # eV per atom off the sum of element energies; further off, the label is no energy of it
SAME_ENERGY = 1e-4  # eV per atom
NAMES_KEPT = 5  # of duplicates, for messages


def structure_digest(configuration: Configuration) -> bytes:
    """16 bytes that equal structures share: elements, positions and cell to 1e-5 Å, moments to 1e-4 μB."""
    digest = hashlib.blake2b(configuration.numbers.astype(np.int64).tobytes(), digest_size=16)
    parts = ((configuration.positions, 5), (configuration.cell, 5), (configuration.magmoms, 4))
    for values, digits in parts:
        digest.update((np.round(values, digits) + 0.0).tobytes())  # + 0.0 turns −0 into 0
    digest.update(configuration.pbc.tobytes())
    return digest.digest()


@dataclass
class DataReport:
    """What was found. ``problems`` make the data unfit to train on, ``warnings`` do not."""

    statistics: DataStatistics = field(default_factory=DataStatistics)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)  # file → configurations
    duplicates: int = 0  # configurations that were there before
    contradictions: int = 0  # of these, with another energy
    elsewhere: dict[str, str] = field(default_factory=dict)  # field → other name in a file that may hold it

    def __post_init__(self) -> None:
        self._seen: dict[bytes, tuple[int, str, float | None]] = {}  # number, name and energy of the first
        self._names: list[str] = []
        self._examples: list[str] = []

    def add(self, configuration: Configuration) -> None:
        """Counts one more configuration and looks whether it was there before."""
        self.statistics.add(configuration)
        self._names.append(configuration.name)
        digest = structure_digest(configuration)
        number = len(self._names)
        first, name, energy = self._seen.setdefault(digest, (number, configuration.name, configuration.energy))
        if first == number:
            return
        self.duplicates += 1
        differs = False
        if energy is not None and configuration.energy is not None:
            differs = abs(energy - configuration.energy) > SAME_ENERGY * len(configuration)
        self.contradictions += differs
        if len(self._examples) < NAMES_KEPT:
            self._examples.append(f"{configuration.name} as {name}" + (", with another energy" if differs else ""))

    def finish(self) -> DataReport:
        """Adds what only the whole set shows: energies far off, duplicates, labels that nothing has."""
        residuals = self.statistics.residual_energies()
        for index in np.flatnonzero(np.abs(np.nan_to_num(residuals)) > LARGEST_DEVIATION):
            self.problems.append(
                f"{self._names[index]}: energy is {residuals[index]:.4g} eV/atom off what its elements have elsewhere "
                f"in the data, more than {LARGEST_DEVIATION:g}; check unit and sign, or remove this configuration"
            )
        if self.duplicates:
            also = f", {self.contradictions} of them with another energy" if self.contradictions else ""
            self.warnings.append(
                f"{self.duplicates} configurations are there more than once{also}; the first: {self._examples[0]}"
            )
        if self.statistics.configurations and not self.statistics.labels[ENERGY.name]:
            other = self.elsewhere.get(ENERGY.name)
            mend = f"the file has '{other}': read it with the key energy={other}" if other else "label at least one"
            self.problems.append(f"{', '.join(self.files) or 'data'}: no configuration has an energy; {mend}")
        lost = [label.name for label in LABELS if not self.statistics.labels[label.name]]
        if lost and self.statistics.configurations:
            self.warnings.append(f"no configuration has {', '.join(lost)}: not trained on")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "files": self.files,
            **self.statistics.to_dict(),
            "duplicates": {
                "count": self.duplicates,
                "with_another_energy": self.contradictions,
                "first": self._examples,
            },
            "warnings": self.warnings,
            "problems": self.problems,
        }

    def short_lines(self) -> list[str]:
        """The report in a few lines, as it stands before a training."""
        s = self.statistics
        found = ", ".join(f"{name} {count}" for name, count in s.classes.most_common())
        labels = ", ".join(f"{label.name} {_share(s.labels[label.name], s.configurations)}" for label in LABELS)
        lines = [f"{s.configurations} configurations, {s.atoms} atoms; {found}; labels: {labels}"]
        forces, moments = s.per_element("force"), s.per_element("moment")
        for element, count in s.elements.items():
            m = moments[element]
            line = f"{element}: {count} atoms, |m| {m['min']:.3g} to {m['max']:.3g} μB (mean {m['mean']:.3g})"
            if element in forces:
                line += f", |F| up to {forces[element]['max']:.3g} eV/Å (mean {forces[element]['mean']:.3g})"
            lines.append(line)
        return lines + [f"warning: {line}" for line in self.warnings]


def _share(count: int, whole: int) -> str:
    return "all" if count == whole else "none" if not count else f"{count} of {whole}"


def check_configurations(configurations: Iterable[Configuration]) -> DataReport:
    """The report on configurations that are read already. Raises `UserError` for the first problem."""
    report = DataReport()
    for configuration in configurations:
        report.add(configuration)
    report.finish()
    if report.problems:
        raise UserError(summary(report.problems))
    return report


def check_files(
    paths: Iterable[Path],
    options: ReadOptions,
    progress: Callable[[Path], ReadProgress | None] = lambda path: None,
    read: Callable[..., Iterator[Configuration]] = iterate,
) -> DataReport:
    """The report on files. What is wrong with them stands in its ``problems``, one line each.

    Parameters: ``progress(path)`` gives the progress function of a file; ``read`` stands in for `iterate` where there
    are other sources than files.
    """
    report = DataReport()
    for path in paths:
        notes = Notes()
        before = len(report.problems)
        try:
            for configuration in read(
                path,
                options,
                notes=notes,
                progress=progress(path),
                on_problem=lambda problem: report.problems.append(str(problem)),
            ):
                report.add(configuration)
        except UserError as error:
            report.problems.append(str(error))
        report.files[str(path)] = notes.read
        if not notes.read and len(report.problems) == before:
            report.problems.append(f"{path}: no configurations in the file; give a file with at least one")
        report.warnings += notes.lines(path)
        report.elsewhere |= notes.elsewhere
    return report.finish()


def summary(problems: list[str]) -> str:
    """One line: the first problem, and how many more there are."""
    more = len(problems) - 1
    return problems[0] + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")
