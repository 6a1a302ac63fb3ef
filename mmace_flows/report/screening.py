"""The report of a screening campaign: its ranking, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mmace_flows.report import html
from mmace_flows.report.data import ReportData
from mmace_flows.report.figures import Parity, parity_figure
from mmace_flows.report.html import Section
from mmace_flows.report.sections import duration, provenance
from mmace_flows.report.style import to_svg
from mmace_flows.schemas.screening import Ranked, ScreeningState

ROWS = 50  # of the ranking that are shown
NAMES = {"k1": "K1", "strength_mev_per_atom": "ΔE_A", "hardness": "κ"}
UNITS = {"k1": "MJ/m³", "strength_mev_per_atom": "meV/atom", "hardness": ""}


def screening_page(data: ReportData, states: Sequence[ScreeningState]) -> str:
    """The whole page as text. ``states`` by round, one at least."""
    sections = [_ranking(states[-1]), _rounds(states), _trust(states[-1]), _failed(states[-1]), provenance(data)]
    return html.page(f"{data.name}: screening report", _lead(data, states), [one for one in sections if one])


def _lead(data: ReportData, states: Sequence[ScreeningState]) -> str:
    last = states[-1]
    text = html.paragraph(
        f"{last.crystals} crystals in {last.prospects} magnetic orderings, ranked by {NAMES[last.quantity]}: that of "
        "the models until DFT has computed one.",
        "soft",
    )
    numbers = [
        (str(last.prospects), "", "orderings looked at"),
        (str(len(last.spin_orbit_keys)), "", "DFT runs with spin–orbit coupling"),
        (str(last.round), "", "rounds"),
    ]
    correlation = last.held_out.get("spearman")
    if correlation is not None:
        count = last.held_out["count"] or 0.0
        numbers.append((f"{correlation:.2f}", "", f"Spearman ρ, held-out crystals (n = {count:.0f})"))
    numbers.append((*duration(last.dft_core_seconds), "core time of DFT"))
    verdict = "Stopped" if last.decision == "stop" else "Goes on"
    note = f"<strong>{verdict} after round {last.round}.</strong> {escape(last.reason)}."
    return text + html.cards(numbers) + f'<p class="note">{note}</p>'


def _ranking(state: ScreeningState) -> Section:
    name, unit = NAMES[state.quantity], UNITS[state.quantity]
    head = f"{name} ({unit})" if unit else name
    rows = [
        [
            place,
            row.formula,
            row.ordering,
            _number(row.predicted),
            _number(row.spread),
            _number(row.computed),
            _role(row),
        ]
        for place, row in enumerate(state.ranking[:ROWS], start=1)
        if row.best is not None
    ]
    table = html.table(
        ["", "formula", "ordering", f"model {head}", "spread of K1 (MJ/m³)", f"DFT {head}", "trained on"], rows, 3
    )
    # the state keeps but a part of the ranking, so that a number of further rows would be too small
    more = len([row for row in state.ranking if row.best is not None]) > len(rows)
    body = table + (html.paragraph("More rows stand in the table: mmace query anisotropy.", "soft") if more else "")
    return Section("ranking", "Ranking", body)


def _rounds(states: Sequence[ScreeningState]) -> Section:
    rows = [
        [
            state.round,
            len(state.training_keys),
            f"{state.held_out.get('count') or 0:.0f}",
            _number(state.held_out.get("spearman")),
            _number(state.held_out.get("recall")),
            _number(state.held_out.get("relative_error")),
            "–" if state.overlap is None else f"{100 * state.overlap:.0f} %",
            f"{state.prediction_seconds:.0f}",
        ]
        for state in states
    ]
    head = [
        "round",
        "trained on",
        "held out",
        "Spearman ρ",
        "recall",
        "relative error",
        "top that stayed",
        "models (s)",
    ]
    caption = (
        "Errors are of crystals that no model was trained on. Recall: how many of the best fifth by DFT stand in the "
        "best fifth by the models. With few held-out crystals these numbers are rough."
    )
    return Section("rounds", "Rounds", html.table(head, rows) + html.paragraph(caption, "soft"))


def _trust(state: ScreeningState) -> Section | None:
    sets: dict[str, tuple[list[float], list[float]]] = {"train": ([], []), "test": ([], [])}
    for row in state.ranking:
        if row.computed is not None and row.predicted is not None:
            dft, model = sets["test" if row.held_out else "train"]
            dft.append(row.computed)
            model.append(row.predicted)
    if not any(dft for dft, _ in sets.values()):
        return None
    name, unit = NAMES[state.quantity], UNITS[state.quantity]
    parity = Parity(quantity=f"{name} ({unit})" if unit else name, sets=sets, error_scale=1.0, error_unit=unit)
    svg = to_svg(parity_figure([parity]), "screening-parity", f"{name} by the models against DFT")
    caption = "Model against DFT. Test: held-out crystals; train: crystals whose runs the models have seen."
    return Section("trust", "Model against DFT", html.figure(svg, caption))


def _failed(state: ScreeningState) -> Section | None:
    if not state.failed:
        return None
    names = {row.prospect_id: row for row in state.ranking}
    rows = [
        [names[key].formula if key in names else key, names[key].ordering if key in names else "", reason]
        for key, reason in state.failed.items()
    ]
    return Section("failed", "Set aside", html.table(["formula", "ordering", "why"], rows, 3))


def _role(row: Ranked) -> str:
    return "held out" if row.held_out else "yes" if row.computed is not None else "no"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
