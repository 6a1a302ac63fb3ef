"""Tables and learning curves from the results of the accuracy benchmark."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmace.checkpoint import write_atomically

BRANCHES = ("all", "NM", "FM", "AFM", "non-collinear")
MODELS = ("soc", "nonsoc", "paper", "none", "mace", "labels")
TITLES = {"none": "none (ours, no moments)", "mace": "mace-torch 0.3.16", "labels": "spread of labels"}
QUANTITIES = (
    ("energy", "energy, meV/atom", 1000.0),
    ("forces", "forces, meV/Å", 1000.0),
    ("stress", "stress, GPa", 160.21766208),
    ("magnetic_forces", "magnetic forces, meV/μB", 1000.0),
)
CURVE, TABLE, RESULTS = "learning-curve.png", "results.md", "results.json"


def write_results(results: list[dict[str, Any]], notes: dict[str, str], folder: Path) -> None:
    """results.json, results.md and, with several sizes, learning-curve.png, each whole or not at all."""
    write_atomically(folder / RESULTS, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(folder / TABLE, markdown(results, notes).encode())
    if len({result["count"] for result in results}) > 1:
        from mmace.plots.training import write_figure

        write_figure(lambda: _curve_figure(results), folder / CURVE)


def markdown(results: list[dict[str, Any]], notes: dict[str, str]) -> str:
    """All tables: per data set and number of structures the errors side by side, then the learning curves."""
    parts = ["# Accuracy: RMSE on test structures\n"]
    for name in dict.fromkeys(result["data"] for result in results):
        own = [result for result in results if result["data"] == name]
        parts.append(f"{notes.get(name, name)}.\n")
        for count in sorted({result["count"] for result in own}):
            parts.append(_side_by_side(name, [result for result in own if result["count"] == count]))
        if len({result["count"] for result in own}) > 1:
            parts.append(_curve_table(name, own))
    return "\n".join(parts)


def _side_by_side(name: str, results: list[dict[str, Any]]) -> str:
    models = [model for model in MODELS if any(result["model"] == model for result in results)]
    failed = [f"{result['model']} (seed {result['seed']}): {result['failed']}" for result in results if _failed(result)]
    lines = [f"## {name}, {results[0]['count']} training structures, {results[0]['budget']}\n"]
    lines.append("| branch | structures | quantity | " + " | ".join(_title(results, model) for model in models) + " |")
    lines.append("|---|---:|---|" + "---:|" * len(models))
    for branch in BRANCHES:
        for quantity, title, factor in QUANTITIES:
            cells = [_cell(results, model, branch, quantity, factor) for model in models]
            if any(cell != "–" for cell in cells):
                structures = max(_count(result, branch) for result in results)
                lines.append(f"| {branch} | {structures} | {title} | " + " | ".join(_marked(cells, models)) + " |")
    lines.append("| | | training time | " + " | ".join(_time(results, model) for model in models) + " |")
    epochs = [_mean(results, model, lambda result: result.get("epochs")) for model in models]
    lines.append("| | | epochs | " + " | ".join("–" if e is None else f"{e:.0f}" for e in epochs) + " |")
    slopes = [_mean(results, model, lambda result: result.get("magnetic_slope")) for model in models]
    if any(slope is not None for slope in slopes):
        shown = ["–" if slope is None else f"{slope:.3f}" for slope in slopes]
        lines.append("| | | predicted / labelled magnetic forces | " + " | ".join(shown) + " |")
    lines += [f"\nfailed: {line}" for line in failed]
    return "\n".join(lines) + "\n"


def _title(results: list[dict[str, Any]], model: str) -> str:
    settings = next((r["settings"] for r in results if r["model"] == model and not _failed(r)), None)
    if model in TITLES or settings is None:
        return TITLES.get(model, model)
    return f"{model}, l_mag {settings['l_mag_nonsoc' if model == 'nonsoc' else 'l_mag']}"


def _curve_table(name: str, results: list[dict[str, Any]]) -> str:
    models = [model for model in MODELS if model != "labels" and any(result["model"] == model for result in results)]
    lines = [f"## {name}: learning curves, all branches\n", "| quantity | structures | " + " | ".join(models) + " |"]
    lines.append("|---|---:|" + "---:|" * len(models))
    for quantity, title, factor in QUANTITIES:
        for count in sorted({result["count"] for result in results}):
            own = [result for result in results if result["count"] == count]
            cells = [_cell(own, model, "all", quantity, factor) for model in models]
            if any(cell != "–" for cell in cells):
                lines.append(f"| {title} | {count} | " + " | ".join(_marked(cells, models)) + " |")
    return "\n".join(lines) + "\n"


def _failed(result: dict[str, Any]) -> bool:
    return "failed" in result


def _values(results: Iterable[dict[str, Any]], model: str, branch: str, quantity: str) -> list[float]:
    found = [
        result["errors"][branch][f"{quantity}_rmse"]
        for result in results
        if result["model"] == model and not _failed(result)
    ]
    predicts = not (model in ("none", "mace") and quantity == "magnetic_forces")
    return [value for value in found if value is not None] if predicts else []


def _cell(results: list[dict[str, Any]], model: str, branch: str, quantity: str, factor: float) -> str:
    values = [factor * value for value in _values(results, model, branch, quantity)]
    if not values:
        return "–"
    text = f"{statistics.mean(values):.3g}"
    return f"{text} ± {statistics.stdev(values):.2g}" if len(values) > 1 else text


def _marked(cells: list[str], models: list[str]) -> list[str]:
    """The smallest error of a row in bold; the spread of labels is no model."""
    numbers = {
        index: float(cell.split(" ")[0])
        for index, (cell, model) in enumerate(zip(cells, models, strict=True))
        if cell != "–" and model != "labels"
    }
    best = min(numbers, key=lambda index: numbers[index]) if len(numbers) > 1 else None
    return [f"**{cell}**" if index == best else cell for index, cell in enumerate(cells)]


def _count(result: dict[str, Any], branch: str) -> int:
    return 0 if _failed(result) else int(result["errors"][branch]["count"])


def _mean(results: list[dict[str, Any]], model: str, value: Any) -> float | None:
    found = [value(result) for result in results if result["model"] == model and not _failed(result)]
    found = [number for number in found if number is not None]
    return statistics.mean(found) if found else None


def _time(results: list[dict[str, Any]], model: str) -> str:
    seconds = _mean(results, model, lambda result: result.get("seconds"))
    return "–" if not seconds else f"{seconds / 60:.1f} min"


def _curve_figure(results: list[dict[str, Any]]) -> Any:
    import matplotlib

    from mmace.plots.style import COLOURS, MARKERS, STYLE, new_figure

    names = list(dict.fromkeys(result["data"] for result in results))
    models = [model for model in MODELS if model != "labels" and any(result["model"] == model for result in results)]
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(3.4 * len(QUANTITIES), 3.2 * len(names), len(names), len(QUANTITIES))
        for row, name in enumerate(names):
            for column, (quantity, title, factor) in enumerate(QUANTITIES):
                axis = axes[row * len(QUANTITIES) + column]
                drawn = False
                for index, model in enumerate(models):
                    points = []
                    for count in sorted({result["count"] for result in results if result["data"] == name}):
                        own = [r for r in results if r["data"] == name and r["count"] == count]
                        values = _values(own, model, "all", quantity)
                        points += [(count, factor * statistics.mean(values))] if values else []
                    if points:
                        drawn = True
                        axis.plot(*zip(*points, strict=True), f"-{MARKERS[index]}", color=COLOURS[index], label=model)
                axis.set_visible(drawn)
                axis.set(xscale="log", yscale="log", title=name, xlabel="training structures", ylabel=f"RMSE {title}")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=max(len(labels), 1))
    return figure
