"""Force-theorem runs named on the command line, in the store or in files; and what is said of models of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError

if TYPE_CHECKING:
    from mmace_flows.learning.anisotropy_training import AnisotropyScores
    from mmace_flows.schemas.spin_orbit import SpinOrbitDocument


def named_runs(sources: Sequence[str], data_dir: Path | None) -> list[tuple[str, SpinOrbitDocument]]:
    """Every run of every source, once, with the source that names it first. Raises UserError as `read_documents`."""
    from mmace_flows.learning.anisotropy_data import STORE, read_documents

    stores = None
    if any(source.startswith(STORE) for source in sources):
        from mmace_flows.execution.settings import load_settings
        from mmace_flows.execution.stores import open_stores

        stores = open_stores(load_settings(data_dir=data_dir))
    found: dict[str, tuple[str, SpinOrbitDocument]] = {}
    for source in sources:
        for one in read_documents(source, stores):
            found.setdefault(one.spin_orbit_key, (source, one))
    return list(found.values())


def usable_runs(sources: Sequence[str], data_dir: Path | None, console: Any) -> list[SpinOrbitDocument]:
    """Converged runs of all sources, each once; says how many are not. Raises UserError if there is none."""
    from mmace_flows.cli.learning_run import say
    from mmace_flows.learning.anisotropy_data import usable

    found = [one for _, one in named_runs(sources, data_dir)]
    good = usable(found)
    if len(good) < len(found):
        say(console, f"{len(found) - len(good)} of {len(found)} runs did not converge and are left out")
    if not good:
        raise UserError(f"{', '.join(sources)}: no converged run to train on")
    return good


def scores_line(name: str, scores: AnisotropyScores) -> str:
    """What a model is worth on the runs called ``name``."""
    rank = "–" if scores.spearman is None else f"{scores.spearman:.2f}"
    found = "–" if scores.recall is None else f"{100 * scores.recall:.0f} %"
    return (
        f"{name}: {scores.runs} runs, relative error {100 * scores.relative_error:.1f} % "
        f"({1e6 * scores.mean_error:.3g} of {1e6 * scores.mean_size:.3g} µeV/atom), Spearman of ΔE_A {rank}, "
        f"best fifth found {found}"
    )
