"""Energies of isolated atoms as a file, both fits of E0_mag [25, A1] and their plots; and the job that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobflow import Job, Maker, job

from mmace.errors import UserError
from mmace_flows.schemas.label import LabelDocument

METHODS = ("spline", "chebyshev")
# Energies of atoms have kinks at whole moments, and the spin-paired atom lies off the curve: a fit that meets each
# point swings between them. Chosen by the error of points that are left out (Fe, Co, Ni, Mn).
SMOOTHING: dict[str, dict[str, Any]] = {"spline": {"smoothness": 1e-1}, "chebyshev": {"strength": 1e-6}}
NAME = "atoms.extxyz"


def write_atom_curves(
    documents: Sequence[LabelDocument], output: Path, overwrite: bool = False
) -> tuple[list[str], list[str]]:
    """Writes ``output`` and beside it, for each fit, its curves as JSON and a plot.

    Returns the files written, and why a fit could not be made. Labels that did not converge are left out; without any
    nothing is written. Raises UserError if the file is there already and must not be replaced.
    """
    from mmace.data import open_writer
    from mmace.one_body_data import read_atom_grids
    from mmace.one_body_file import FitOptions, fit_one_body, save_one_body
    from mmace.plots.one_body import one_body_figure
    from mmace.plots.training import write_figure
    from mmace_flows.labels.isolated_atoms import atom_configuration

    good = [document for document in documents if document.status == "converged"]
    if not good:
        return [], []
    with open_writer(output, overwrite=overwrite) as writer:
        for document in good:
            writer.add(atom_configuration(document))
    written, problems = [str(output)], []
    grids = read_atom_grids(output, {})
    for method in METHODS:
        try:
            fits = {
                element: fit_one_body(grid, FitOptions(method, **SMOOTHING[method]), f"{output}: {element}")
                for element, grid in grids.items()
            }
        except UserError as error:
            problems.append(f"{method} fit: {error}")
            continue
        file = output.with_name(f"{output.name.split('.')[0]}-{method}.json")
        save_one_body(fits, file)
        drawn = write_figure(partial(one_body_figure, fits), file.with_suffix(".png"))
        written += [str(one) for one in (file, drawn) if one]
    return written, problems


@dataclass
class AtomCurvesMaker(Maker):
    """Job: the files of `write_atom_curves` in the campaign's folder, and a line per element and fit."""

    name: str = "atom curves"
    stage: str = "fit"

    def make(self, summaries: Sequence[Any], campaign: str) -> Job:
        """``summaries``: outputs of the label jobs of all elements and moments."""
        made: Job = self.run(list(summaries), campaign)
        made.name = f"{self.stage}: {' and '.join(METHODS)}"
        return made

    @job
    def run(self, summaries: list[dict[str, Any]], campaign: str) -> dict[str, Any]:
        """What a worker does: read labels, fit, write, tell. Its output has ``files``, ``problems`` and ``curves``."""
        from mmace.one_body_file import load_one_body
        from mmace_flows.execution.stores import open_stores
        from mmace_flows.learning.dataset import read_labels

        stores = open_stores()
        documents = read_labels(stores.labels, [summary["label_key"] for summary in summaries])
        files, problems = write_atom_curves(documents, stores.scratch(campaign, "atoms") / NAME, overwrite=True)
        curves = {Path(file).stem: load_one_body(file) for file in files if file.endswith(".json")}
        for line in [*ground_state_lines(documents), *problems, f"written: {', '.join(files) or 'nothing'}"]:
            stores.event(campaign, self.stage, line)
        return {"files": files, "problems": problems, "curves": curves}


def ground_state_lines(documents: Sequence[LabelDocument]) -> list[str]:
    """Per element: the total moment of the lowest energy, and how far that lies below the atom without a moment."""
    found: dict[str, dict[float, float]] = {}
    failed: dict[str, int] = {}
    for one in documents:
        element = one.structure.symbols[0]
        energies = found.setdefault(element, {})
        if one.free_energy is None:
            failed[element] = failed.get(element, 0) + 1
        else:
            energies[round(float(one.total_magmom or 0.0), 3) + 0.0] = one.free_energy
    lines = []
    for element, energies in found.items():
        if energies:
            lowest = min(energies, key=lambda moment: energies[moment])
            below = f", {energies[0.0] - energies[lowest]:.3f} eV below no moment" if 0.0 in energies else ""
            missed = f"; {failed[element]} moments did not converge" if element in failed else ""
            lines.append(f"{element}: lowest at {lowest:g} μB{below}{missed}")
    return lines
