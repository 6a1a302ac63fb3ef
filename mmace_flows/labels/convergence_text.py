"""A convergence study in words and numbers for people, and as settings that `mmace label --settings` takes."""

from __future__ import annotations

from typing import Any

import yaml

from mmace_flows.labels.convergence import ConvergencePoint, ConvergenceScan, ConvergenceStudy
from mmace_flows.labels.convergence_settings import QUANTITIES, UNITS, ConvergenceSettings, Parameter, Quantity

TITLES: dict[Parameter, str] = {"cutoff": "cutoff", "kpoints": "k-points", "smearing": "smearing"}


def value_text(parameter: Parameter, value: Any, grid: list[int] | None = None) -> str:
    """A value with its unit: ``400 eV``, ``0.06 Å⁻¹ (4×4×3)``, ``4×4×2``."""
    if parameter != "kpoints":
        return f"{value:g} eV"
    if isinstance(value, tuple | list):
        return "×".join(str(number) for number in value)
    return f"{value:g} Å⁻¹" + (f" ({'×'.join(str(number) for number in grid)})" if grid else "")


def amount(quantity: Quantity, value: float) -> str:
    """A number in the quantity's unit for people, without the unit."""
    shown = value * UNITS[quantity][1]
    return f"{shown:.0f}" if shown >= 1000 else f"{shown:.3g}"


def shown_quantities(scan: ConvergenceScan) -> list[Quantity]:
    """Quantities that a scan has errors of."""
    return [name for name in QUANTITIES if any(name in point.errors for point in scan.points)]


def cells(settings: ConvergenceSettings, scan: ConvergenceScan, point: ConvergencePoint) -> list[str]:
    """One row of a scan's table: value, an error per quantity (* beyond its tolerance), seconds."""
    row = [value_text(scan.parameter, point.value, point.grid)]
    good = [one for one in scan.points if one.failed is None]
    for name in shown_quantities(scan):
        if point.failed is not None:
            row.append("failed")
        elif point is good[-1]:
            row.append("finest")
        else:
            beyond = point.errors[name] > settings.tolerances[name]
            row.append(amount(name, point.errors[name]) + ("*" if beyond else ""))
    return [*row, f"{point.seconds:.0f}"]


def headings(scan: ConvergenceScan) -> list[str]:
    """Headings of a scan's table, unit in the second line."""
    middle = [f"{'differences' if name == 'energy' else name}\n{UNITS[name][0]}" for name in shown_quantities(scan)]
    return [TITLES[scan.parameter], *middle, "time\ns"]


def tolerance_text(settings: ConvergenceSettings) -> str:
    """``2 meV/atom (energy), 10 meV/Å (forces)``, those that decide."""
    return ", ".join(
        f"{amount(name, settings.tolerances[name])} {UNITS[name][0]} ({name})" for name in settings.quantities
    )


def scan_line(settings: ConvergenceSettings, scan: ConvergenceScan) -> str:
    """What a scan says."""
    best = value_text(scan.parameter, scan.best.value, scan.best.grid)
    title = TITLES[scan.parameter]
    if not scan.shown:
        return (
            f"{title}: only the finest value, {best}, is left for {tolerance_text(settings)}; "
            f"nothing shows that it is enough: scan finer ones"
        )
    errors = ", ".join(f"{amount(name, scan.best.errors[name])} {UNITS[name][0]}" for name in settings.quantities)
    return f"{title}: {best}, the coarsest within {tolerance_text(settings)}; off the finest by {errors}"


def warning_lines(study: ConvergenceStudy) -> list[str]:
    """What a reader has to know beside the numbers."""
    lines = []
    for scan in study.scans:
        for point in scan.points:
            where = f"{TITLES[scan.parameter]} {value_text(scan.parameter, point.value)}"
            if point.failed is not None:
                lines.append(f"{where}: not converged: {point.failed}")
            if point.other_state:
                names = ", ".join(study.structures[number] for number in point.other_state)
                lines.append(f"{where}: moments of another state than at the finest value, or far from them: {names}")
    return lines


def study_lines(study: ConvergenceStudy) -> list[str]:
    """The recommendation."""
    chosen = study.recommended
    grid = chosen["kpoints"] or chosen["kpoint_spacing"]
    words = [
        f"cutoff {chosen['cutoff']:g} eV",
        f"k-points {value_text('kpoints', grid)}",
        f"smearing {chosen['smearing_width']:g} eV",
    ]
    errors = ", ".join(f"{name} {amount(name, value)} {UNITS[name][0]}" for name, value in study.errors.items())
    lines = [f"recommended: {', '.join(words)}", f"errors of all scans together: {errors}"]
    if not study.converged:
        open_ends = [TITLES[scan.parameter] for scan in study.scans if not scan.shown]
        lines.append(f"not shown to be within tolerance: {', '.join(open_ends)}; scan finer values")
    return lines


def settings_file(study: ConvergenceStudy) -> str:
    """The recommended settings as YAML, complete, with what they are good for as comments."""
    head = [
        f"settings of {study.settings.engine} for `mmace label --settings`, by `mmace converge`",
        f"tolerance: {tolerance_text(study.settings)}",
        *study_lines(study)[1:],
        f"engine: {study.settings.engine} {study.engine_version}",
        f"structures: {'; '.join(study.structures)}",
    ]
    text = "".join(f"# {line}\n" for line in head)
    text += yaml.safe_dump(study.recommended, sort_keys=False, allow_unicode=True, default_flow_style=None)
    if study.settings.engine == "gpaw" and study.cutoff_slope is not None:
        slope = f"cutoff_slope: {study.cutoff_slope:.3g}"
        text += f"# measured, for stresses that belong to energies at a fixed cutoff: {slope}\n"
    return text
