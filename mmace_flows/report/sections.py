"""Sections of the report: each takes the data and gives HTML, or None where there is nothing to show yet."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from mmace_flows.report import data as make
from mmace_flows.report import figures, html
from mmace_flows.report.data import GPA_PER_EV_A3, ReportData
from mmace_flows.report.html import Section
from mmace_flows.report.style import to_svg
from mmace_flows.schemas.loop import BranchErrors, LoopState
from mmace_flows.structures.base_cells import volume_per_atom

LEARNING_QUANTITIES = {
    "loss": "training loss",
    "energy_rmse": "energy RMSE (meV/atom)",
    "forces_rmse": "force RMSE (meV/Å)",
    "stress_rmse": "stress RMSE (GPa)",
}
LEARNING_SCALES = {"energy_rmse": 1000.0, "forces_rmse": 1000.0, "stress_rmse": GPA_PER_EV_A3}


def lead(data: ReportData) -> str:
    """What was done, in one sentence and a row of numbers, and the decision."""
    last = data.last
    converged = sum(label.status == "converged" for label in data.labels)
    seconds = sum(cost for _, _, cost in make.stage_costs(data))
    engines = ", ".join(make.versions(data)["engines"]) or "no engine yet"
    recipe = f"Recipe {data.campaign.recipe}, preset {data.campaign.preset}. " if data.campaign else ""
    done = f"{converged} calculations ({engines}), {len(data.states)} trained iterations."
    text = html.paragraph(recipe + done, "soft")
    numbers = [(str(len(data.states)), "", "iterations"), (str(converged), "", "DFT labels")]
    if last:
        best = min(data.states, key=lambda state: _rmse(state.test_errors.get("all"), "energy_rmse"))
        errors, path = best.test_errors.get("all"), last.bain_errors.get("all")
        if errors and errors.energy_rmse is not None:
            numbers.append(
                (f"{1000 * errors.energy_rmse:.1f}", "meV/atom", f"test energy RMSE, {_rests_on(best, errors)}")
            )
        if errors and errors.forces_rmse is not None:
            numbers.append((f"{1000 * errors.forces_rmse:.0f}", "meV/Å", f"test force RMSE, {_rests_on(best, errors)}"))
        if path and path.energy_rmse is not None:
            numbers.append(
                (f"{1000 * path.energy_rmse:.1f}", "meV/atom", f"Bain path energy RMSE, {_rests_on(last, path)}")
            )
    numbers.append((*duration(seconds), "core time"))
    text += html.cards(numbers)
    if last:
        verdict = "Stopped" if last.decision == "stop" else "Goes on"
        text += (
            f'<p class="note"><strong>{verdict} after iteration {last.iteration}.</strong> {escape(last.reason)}.</p>'
        )
    else:
        text += '<p class="note"><strong>Still running.</strong> No model has been trained yet.</p>'
    return text


def _rests_on(state: LoopState, errors: BranchErrors) -> str:
    """Which iteration a headline number is of, and on how many structures it rests."""
    return f"iteration {state.iteration} (n = {errors.count})"


def _rmse(errors: BranchErrors | None, name: str) -> float:
    value = getattr(errors, name, None) if errors else None
    return float("inf") if value is None else value


def bain(data: ReportData) -> Section | None:
    """Bain path per iteration."""
    panels = make.bain_panels(data)
    if not panels:
        return None
    caption = (
        "Energy along c/a at fixed volume per atom, from bcc (1) to fcc (√2). Lines: model, moments relaxed "
        "collinearly from the pattern of each state. Filled circles: DFT. Crosses: model at DFT's moments. Zero is the "
        "lowest ferromagnetic DFT point; no Bain-path point is ever trained on."
    )
    volumes = [volume_per_atom(label.structure) for label in data.bain_labels]
    body = html.figure(to_svg(figures.bain_figure(panels), "bain", "Bain path of model and DFT"), caption)
    body += html.paragraph(f"Volume: {sum(volumes) / len(volumes):.3f} Å³/atom.", "soft")
    rows = _lost_states(data)
    if rows:
        body += "<h3>States the model does not hold</h3>" + html.paragraph(
            "Where the model's moments did not relax, or relaxed into another magnetic state than DFT's."
        )
        body += html.table(["iteration", "state", "c/a", "model", "DFT"], rows, text_columns=2)
    return Section("bain", "Bain path", body)


def _lost_states(data: ReportData) -> list[list[object]]:
    """DFT points of the last iteration whose state the model leaves."""
    from mmace_flows.properties.bain import BainPath

    last = data.last
    if not last or not last.details.get("bain"):
        return []
    rows: list[list[object]] = []
    for point in BainPath(**last.details["bain"]).points:
        expected = point.dft_state_reached
        reached = point.state_reached if point.converged else "not converged"
        if expected and reached != expected:
            rows.append([last.iteration, point.state, f"{point.c_over_a:.3f}", reached, expected])
    return rows


def coverage(data: ReportData) -> Section | None:
    """Where the training data lie."""
    points, bain_points = make.coverage(data)
    if not points:
        return None
    svg = to_svg(figures.coverage_figure(points, bain_points), "coverage", "Volume and c/a of the labelled structures")
    caption = (
        "Each mark is one labelled structure, by what made it; distorted cells are measured by their lattice vectors."
    )
    return Section("coverage", "Coverage of volume and c/a", html.figure(svg, caption, narrow=True))


def parity(data: ReportData) -> Section | None:
    """Model against DFT, last iteration."""
    last = data.last
    panels = make.parities(last) if last else []
    if not last or not panels:
        return None
    svg = to_svg(figures.parity_figure(panels), "parity", "Model against DFT: energy, forces, stress, moments")
    caption = (
        f"Iteration {last.iteration}. Energy, force and stress at DFT's moments; moments are those the model relaxes "
        "to from DFT's, along the axis of each structure."
    )
    body = html.figure(svg, caption)
    lost = sum(part.get("moments_unconverged", 0) for part in last.details.get("parity", {}).values())
    if lost:
        body += html.paragraph(
            f"{lost} structures are missing from the moments panel: their moments did not relax.", "soft"
        )
    return Section("parity", "Parity", body)


def learning(data: ReportData) -> Section | None:
    """Learning curves of every iteration."""
    histories: dict[str, list[dict[str, float]]] = {}
    for state in data.states:
        for member, history in enumerate(state.details.get("histories", [])):
            name = f"iteration {state.iteration}" + (f", member {member + 1}" if member else "")
            histories[name] = [_scaled(row) for row in history]
    present = {
        key: title
        for key, title in LEARNING_QUANTITIES.items()
        if any(row.get(key) is not None for history in histories.values() for row in history)
    }
    if not present:
        return None
    svg = to_svg(figures.learning_figure(histories, present), "learning", "Errors against training epoch")
    caption = "Errors on the configurations that training watches, with the averaged weights, against epoch."
    return Section("learning", "Learning curves", html.figure(svg, caption))


def _scaled(row: dict[str, Any]) -> dict[str, float]:
    return {key: value * LEARNING_SCALES.get(key, 1.0) for key, value in row.items() if isinstance(value, int | float)}


def set_aside(data: ReportData) -> Section | None:
    """Labels not trained on, and states that changed."""
    aside = make.set_aside(data)
    changed = make.changed_orderings(data.labels)
    if not data.labels:
        return None
    body = "<h3>Set aside</h3>"
    if aside:
        body += html.table(
            ["label", "what", "reason"], [[key[:12], what, why] for key, what, why in aside], text_columns=3
        )
    else:
        body += html.paragraph("No label was set aside.")
    body += "<h3>Orderings that changed</h3>"
    if changed:
        body += html.paragraph(
            f"{len(changed)} of {len(data.labels)} calculations settled into another magnetic state than the one asked "
            "for. They are trained on as what they became."
        )
        rows = [
            [
                label.label_key[:12],
                make.describe(label),
                str(label.magnetic_state_asked),
                str(label.magnetic_state_reached),
            ]
            for label in changed
        ]
        body += html.table(["label", "what", "asked", "reached"], rows, text_columns=4)
    else:
        body += html.paragraph("Every calculation kept the magnetic state it was started in.")
    return Section("aside", "Set aside and changed", body)


def provenance(data: ReportData) -> Section:
    """Everything needed to know where the numbers come from, and what they cost."""
    versions = make.versions(data)
    facts: list[list[object]] = [["campaign", data.name]]
    if data.campaign:
        facts += [
            ["recipe", f"{data.campaign.recipe}, preset {data.campaign.preset}"],
            ["settings hash", data.campaign.settings_hash],
            ["started", data.campaign.created],
            ["finished", data.campaign.finished or "not yet"],
            ["mmace-flows", data.campaign.code_version],
        ]
    facts += [["engine", ", ".join(versions["engines"]) or "–"], ["hosts", ", ".join(versions["hosts"]) or "–"]]
    for state in data.states:
        facts.append([f"iteration {state.iteration}", f"data set {state.dataset_hash}, model {state.model_hash}"])
        for name, version in state.details.get("versions", {}).items() if state is data.last else ():
            facts.append([name, version])
    body = html.table(["", ""], facts, text_columns=2)
    costs = make.stage_costs(data)
    if costs:
        total = sum(seconds for _, _, seconds in costs)
        rows: list[list[object]] = [[stage, count, f"{seconds:.0f}"] for stage, count, seconds in costs]
        rows.append(["all", sum(count for _, count, _ in costs), f"{total:.0f}"])
        body += "<h3>Costs</h3>" + html.table(["stage", "runs", "core-seconds"], rows)
    if data.campaign and data.campaign.estimate:
        body += html.paragraph(
            f"Estimated before the start: {data.campaign.estimate.core_seconds:.0f} core-seconds.", "soft"
        )
    if data.jobs:
        states = sorted({state for counts in data.jobs.values() for state in counts})
        rows = [[stage, *(counts.get(state, 0) for state in states)] for stage, counts in data.jobs.items()]
        body += "<h3>Jobs</h3>" + html.table(["stage", *(state.lower() for state in states)], rows)
    if data.campaign:
        text = json.dumps(data.campaign.settings, indent=2, ensure_ascii=False, default=str)
        body += f"<details><summary>Complete settings</summary><pre>{escape(text)}</pre></details>"
    return Section("provenance", "Provenance and costs", body)


def duration(seconds: float) -> tuple[str, str]:
    """Number and unit."""
    if seconds < 90:
        return f"{seconds:.0f}", "s"
    return (f"{seconds / 60:.0f}", "min") if seconds < 5400 else (f"{seconds / 3600:.1f}", "h")
