"""What `mmace data` shows: tables and histograms as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from mmace.data import DataReport

GPA = 160.21766208  # of one eV/Å³
BAR = 40  # characters of the longest bar


def print_report(report: DataReport, console: Console) -> None:
    """Counts, labels, magnetic classes, ranges per element, warnings."""
    from rich.table import Table

    data = report.to_dict()
    count = data["configurations"]

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    for file, number in report.files.items():
        say(f"{file}: {number} configurations")
    sizes = data["atoms_per_configuration"]
    say(f"{count} configurations, {data['atoms']} atoms ({sizes['min']} to {sizes['max']} each)")
    say("labels: " + ", ".join(f"{name} {_of(number, count)}" for name, number in data["labels"].items()))
    classes = [f"{name} {n} ({100 * n / count:.1f} %)" for name, n in data["classes"].items() if n]
    say("magnetic classes: " + ", ".join(classes))
    for name, title, unit, factor in (
        ("energy_per_atom_off_elements", "energy off the sum of elements", "eV/atom", 1.0),
        ("volume_per_atom", "volume", "Å³/atom", 1.0),
        ("largest_stress_component", "largest stress component", "GPa", GPA),
    ):
        if data[name] is not None:
            say(f"{title}: {factor * data[name]['min']:.4g} to {factor * data[name]['max']:.4g} {unit}")
    table = Table()
    for heading in ("element", "atoms", "|m|\nμB", "|F|\neV/Å", "|magnetic force|\neV/μB"):
        table.add_column(heading, justify="left" if heading == "element" else "right")
    for element, atoms in data["elements"].items():
        cells = [_ranges(data[name].get(element)) for name in ("moments", "forces", "magnetic_forces")]
        table.add_row(element, str(atoms), *cells)
    table.caption = "least … greatest (mean) per atom"
    table.caption_justify = "left"
    console.print(table)
    if data["info_keys"]:
        say("further keys (for --group-by): " + ", ".join(data["info_keys"]))
    for warning in report.warnings:
        say(f"warning: {warning}")
    for problem in report.problems:
        say(f"wrong: {problem}")


def _of(number: int, count: int) -> str:
    return "all" if number == count else f"{number} of {count}" if number else "none"


def _ranges(values: dict[str, float] | None) -> str:
    return "–" if values is None else f"{values['min']:.3g} … {values['max']:.3g} ({values['mean']:.3g})"


def print_histograms(histograms: dict[str, dict[str, Any]], console: Console) -> None:
    """One line per bin, with a bar as long as its share."""
    for title, histogram in histograms.items():
        console.print(f"\n{title}, {histogram['unit']}", highlight=False, soft_wrap=True)
        edges, counts = histogram["edges"], histogram["counts"]
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            bar = "█" * round(BAR * count / max(counts)) or ("▏" if count else "")
            line = f"{low:>11.4g} – {high:<11.4g} {count:>8}  {bar}"
            console.print(line.rstrip(), highlight=False, soft_wrap=True)


def print_split(parts: dict[str, tuple[Path, int]], strata: dict[str, dict[str, int]], console: Console) -> None:
    """Which part has how many of each class and set of elements."""
    from rich.table import Table

    table = Table()
    table.add_column("class and elements")
    for name in parts:
        table.add_column(name, justify="right")
    for stratum, counts in strata.items():
        table.add_row(stratum, *(str(counts.get(name, 0)) for name in parts))
    table.add_section()
    table.add_row("all", *(str(count) for _, count in parts.values()))
    console.print(table)
    for file, count in parts.values():
        console.print(f"{file}: {count} configurations", highlight=False, soft_wrap=True)
