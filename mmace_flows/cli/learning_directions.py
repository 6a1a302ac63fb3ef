"""Runs of the force theorem beside labelled structures: energies and anisotropy in one training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmace.errors import UserError

if TYPE_CHECKING:
    from mmace import Potential
    from mmace_flows.cli.learning_run import DataSets
    from mmace_flows.learning.anisotropy_training import AnisotropyScores
    from mmace_flows.schemas.spin_orbit import SpinOrbitDocument


def sources_of(settings: dict[str, Any], config_file: Path | None, given: Sequence[str] | None) -> list[str]:
    """Runs named by the option, else by the settings file, relative to its folder. Raises `UserError`."""
    from mmace_flows.cli.learning_settings import located

    if given or config_file is None:
        return list(given or [])
    named = settings.get("spin_orbit") or []
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise UserError(f"{config_file}: spin_orbit is {named!r}; give store:CAMPAIGN, a file, or a list of them")
    return [str(located(one, config_file)) for one in named]


@dataclass
class DirectionRuns:
    """Runs to train on, and those of other crystals that take part in choosing the best epoch."""

    training: list[SpinOrbitDocument]
    validation: list[SpinOrbitDocument]

    @classmethod
    def read(cls, sources: Sequence[str], fraction: float, seed: int, console: Any) -> DirectionRuns:
        """Of ``sources``; a ``fraction`` of the crystals is put aside. Raises `UserError`."""
        from mmace_flows.cli.anisotropy_runs import usable_runs
        from mmace_flows.cli.learning_run import say
        from mmace_flows.learning.anisotropy_data import split_by_crystal

        runs = cls(*split_by_crystal(usable_runs(sources, None, console), fraction, seed))
        say(
            console,
            f"{len(runs.training)} runs with directions to train on, {len(runs.validation)} of other crystals to "
            "validate",
        )
        return runs

    def join(self, sets: DataSets) -> DataSets:
        """``sets`` with the runs behind them. Raises `UserError` for shards, which do not keep directions."""
        from mmace_flows.learning.anisotropy_data import configuration_of

        if not (isinstance(sets.training, list) and isinstance(sets.validation, list)):
            raise UserError("train: --spin-orbit beside shards; give the structures as a file or store:CAMPAIGN")
        return type(sets)(
            [*sets.training, *map(configuration_of, self.training)],
            [*sets.validation, *map(configuration_of, self.validation)],
        )

    def scores(self, models: Sequence[Potential]) -> dict[str, AnisotropyScores]:
        """What the model, or the mean of several, is worth on each part that is not empty."""
        from mmace_flows.learning.anisotropy_training import scores_of

        parts = {"trained on": self.training, "validation": self.validation}
        return {name: scores_of(models, part) for name, part in parts.items() if part}


def unified_model(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a new potential for energies and directions: nonsoc with an anisotropy part, unless ``settings`` name
    another symmetry, which then has to learn both in one piece."""
    from mmace_flows.learning.anisotropy_training import part_settings

    part = settings.get("anisotropy")
    if settings.get("symmetry", "nonsoc") != "nonsoc" and part is None:
        return settings
    return {"symmetry": "nonsoc", **settings, "anisotropy": part_settings(part)}
