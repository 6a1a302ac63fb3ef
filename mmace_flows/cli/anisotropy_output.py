"""Anisotropy in a few lines for people: the same for labels of DFT and for predictions of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mmace_flows.cli.learning_output import print_json

if TYPE_CHECKING:
    import numpy as np

    from mmace_flows.schemas.anisotropy_entry import AnisotropyPrediction, AnisotropyValues
    from mmace_flows.schemas.structure import MagneticStructure


@dataclass
class Result:
    """Anisotropy of one structure, from a model or from a run of DFT."""

    where: str
    values: AnisotropyValues
    structure: MagneticStructure
    prediction: AnisotropyPrediction | None = None  # of a model
    points: tuple[np.ndarray, np.ndarray] | None = None  # directions [D,3] and energies [D] of a run, eV per cell
    check: dict[str, float] | None = None  # of a model's fit against a scan, eV per cell


def value_lines(found: AnisotropyValues, atoms: int) -> list[str]:
    """Ends, constants and the magnet's figures of a structure of N = ``atoms`` atoms."""
    kinds = {
        "axis": "easy axis",
        "plane": "easy plane, in it",
        "cone": "easy cone, on it",
        "none": "no anisotropy; easy",
    }
    strength = found.strength_mev_per_atom
    spread = "" if found.spread is None else f" ± {found.spread:.2g}"
    about = "cubic" if found.symmetry == "cubic" else f"about {vector(found.axis)}"
    figures = [f"μ0Ms {found.polarization:.3f} T"]
    if found.anisotropy_field is not None and found.hardness is not None:
        figures += [f"anisotropy field {found.anisotropy_field:.2f} T", f"hardness κ {found.hardness:.2f}"]
    return [
        f"{kinds[found.easy_kind]} {vector(found.easy)}, hard {vector(found.hard)}, "
        f"ΔE_A {strength:.4g} meV per atom, {strength * atoms:.4g} meV per cell",
        f"K1 {found.k1:.4g}{spread} MJ/m³, K2 {found.k2:.4g} MJ/m³ {about}; "
        f"K1 {found.k1_mev_per_atom:.4g} meV per atom, {found.k1_mev_per_formula:.4g} meV per formula unit",
        ", ".join(figures),
    ]


def vector(values: Sequence[float]) -> str:
    """(0.00 0.71 0.71)"""
    return "(" + " ".join(f"{round(value, 2) + 0.0:.2f}" for value in values) + ")"


def mev(energy: float) -> str:
    """An energy of eV in meV."""
    return f"{1000 * energy:.3g}"


def print_results(results: Sequence[Result], as_json: bool) -> None:
    """Results of `mmace anisotropy`: a few lines each, or JSON."""
    if as_json:
        print_json(
            {
                "count": len(results),
                "results": [
                    {
                        "structure": one.where,
                        "anisotropy": one.values.model_dump(mode="json"),
                        "prediction": None
                        if one.prediction is None
                        else one.prediction.model_dump(mode="json", exclude={"values"}),
                        "check": one.check,
                    }
                    for one in results
                ],
            }
        )
        return
    for one in results:
        lines = value_lines(one.values, len(one.structure.symbols))
        typer.echo("\n  ".join([_headline(one), *lines, *_errors(one)]))


def _headline(one: Result) -> str:
    import numpy as np

    made = one.prediction
    if made is None:
        return f"{one.where}: DFT"
    along = np.array(made.structure.magmoms) @ np.array(made.values.easy)
    lengths = " ".join(f"{length:+.2f}" for length in along)
    trouble = "" if made.converged else f"; moments {made.message}"
    return f"{one.where}: {made.ordering} ({lengths} μB){trouble}"


def _errors(one: Result) -> list[str]:
    lines = [f"error of the fit {mev(one.values.fit_error)} meV per cell (degree {one.values.degree})"]
    if one.values.symmetry_error is not None:
        lines[0] += f"; of symmetry {mev(one.values.symmetry_error)}"
    if one.check is not None:
        checked = one.check
        count, strength = checked["directions"], mev(checked["strength"])
        lines.append(
            f"scan of {count:.0f} directions: ΔE_A {strength} meV per cell; the fit is off "
            f"by {mev(checked['rms'])} (RMS), {mev(checked['largest'])} at most"
        )
    return lines
