"""Section of the report: errors per magnetic branch and iteration, and what was decided by them."""

from __future__ import annotations

from mmace_flows.report import data as make
from mmace_flows.report import html
from mmace_flows.report.data import GPA_PER_EV_A3, ReportData
from mmace_flows.report.html import Section
from mmace_flows.schemas.loop import BranchErrors

NO_TEST = "–*"  # in place of an error that symmetry keeps at zero


def errors(data: ReportData) -> Section | None:
    """Errors per branch and iteration."""
    if not data.states:
        return None
    body = html.paragraph(
        "Root mean square errors at DFT's moments; energies are free energies per atom, forces and stress by component."
    )
    header = ["set", "branch", "iteration", "structures", "energy (meV/atom)", "force (meV/Å)", "stress (GPa)",
              "magnetic force (meV/μB)"]  # fmt: skip
    rows: list[list[object]] = []
    sets = (("test", "test_errors", "test_keys"), ("Bain path", "bain_errors", "bain_keys"),
            ("train", "train_errors", "training_keys"))  # fmt: skip
    for title, name, keys in sets:
        forceless = {id(state): make.branches_without_forces(data, getattr(state, keys)) for state in data.states}
        branches = list(dict.fromkeys(branch for state in data.states for branch in getattr(state, name)))
        for branch in sorted(branches, key=lambda branch: ("all", "NM", "FM", "AFM", "non-collinear").index(branch)):
            for state in data.states:
                found = getattr(state, name).get(branch)
                if found:
                    cells = _error_cells(found, branch in forceless[id(state)], branch == "NM")
                    rows.append([title, branch, state.iteration, found.count, *cells])
    body += html.table(header, rows, text_columns=2, group=True)
    if any(NO_TEST in row for row in rows):
        body += html.paragraph(
            f"{NO_TEST} zero by symmetry, in DFT and in every model: forces in undistorted cells, magnetic forces "
            "without moments.",
            "soft",
        )
    body += html.table(
        ["iteration", "decision", "reason", "trained on", "symmetry error (meV/atom)"],
        [
            [
                state.iteration, state.decision, state.reason, len(state.training_keys),
                "–" if state.symmetry_error is None else f"{1000 * state.symmetry_error:.3f}",
            ]
            for state in data.states
        ],
        text_columns=3,
    )  # fmt: skip
    body += html.paragraph(
        "Symmetry error: change of the energy when all moments turn together against the lattice; DFT without "
        "spin–orbit coupling has none. Magnetic force errors are taken against zero, its value in an unconstrained "
        "self-consistent state, where the engine gives no other.",
        "soft",
    )
    return Section("errors", "Errors per magnetic branch", body)


def _error_cells(found: BranchErrors, no_forces: bool, no_moments: bool) -> list[str]:
    """Energy, force, stress and magnetic-force error; an error that symmetry keeps at zero is not a merit."""

    def cell(value: float | None, scale: float, digits: int, zero: bool = False) -> str:
        if value is not None and zero and value < make.NO_FORCE:
            return NO_TEST
        return "–" if value is None else f"{value * scale:.{digits}f}"

    return [
        cell(found.energy_rmse, 1000.0, 1),
        cell(found.forces_rmse, 1000.0, 0, no_forces),
        cell(found.stress_rmse, GPA_PER_EV_A3, 2),
        cell(found.magnetic_forces_rmse, 1000.0, 1, no_moments),
    ]
