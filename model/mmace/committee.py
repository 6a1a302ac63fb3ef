"""Several potentials asked at once: their mean, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from ase import Atoms
from torch import Tensor

from mmace.checkpoint import load
from mmace.errors import UserError
from mmace.graph import Graph, build_graph
from mmace.potential import Potential

QUANTITIES = ("energy_per_atom", "forces", "magnetic_forces")
MEMBER_FOLDERS = "member-*"
MEMBER_MODEL = "model.safetensors"


class Committee:
    """Potentials of one kind, trained apart (other seeds, other samples of the data).

    Members share elements (in order), cutoff, floating-point type and heads, so that one graph serves all of them.
    Raises `UserError` for fewer than two members or members that differ in these.
    """

    def __init__(self, models: Sequence[Potential]) -> None:
        if len(models) < 2:
            raise UserError(f"committee: {len(models)} model given; a spread needs at least two")
        self.models = list(models)
        self.config = self.models[0].config
        for number, model in enumerate(self.models[1:], start=1):
            for name in ("elements", "r_max", "dtype", "heads"):
                own, first = getattr(model.config, name), getattr(self.config, name)
                if own != first:
                    raise UserError(f"committee: member {number} has {name} = {own!r}, member 0 has {first!r}")

    @classmethod
    def load(cls, paths: str | Path | Sequence[str | Path]) -> Committee:
        """From checkpoints, or from the folder that `mmace train --committee` wrote.

        Raises `UserError` for a folder without members and for files that are no checkpoints.
        """
        if isinstance(paths, str | Path):
            paths = member_checkpoints(paths)
        return cls([load(path) for path in paths])

    def graph(self, atoms: Atoms | Sequence[Atoms], head: int = 0) -> Graph:
        """The batch of these structures with their initial magnetic moments. Raises as `build_graph` does."""
        graph = build_graph(atoms, self.config.elements, self.config.r_max, dtype=self.config.torch_dtype, head=head)
        return graph.to(device=next(self.models[0].parameters()).device)

    def predict(self, structures: Graph | Atoms | Sequence[Atoms]) -> dict[str, dict[str, Tensor]]:
        """Predictions of S structures with N atoms in all.

        Returns {"mean": …, "spread": …, "members": …}, each a mapping energy_per_atom [S] eV, forces [N,3] eV/Å,
        magnetic_forces [N,3] eV/μB. ``members`` has the members as first dimension, [M, …]. ``spread`` is the sample
        standard deviation over the members of each number; the norm of a vector's spread does not depend on axes.
        """
        graph = structures if isinstance(structures, Graph) else self.graph(structures)
        answers: dict[str, list[Tensor]] = {name: [] for name in QUANTITIES}
        for model in self.models:
            output = model(graph, stress=False)
            answers["energy_per_atom"].append(output["energy"] / graph.num_atoms)
            answers["forces"].append(output["forces"])
            answers["magnetic_forces"].append(output["magnetic_forces"])
        members = {name: torch.stack(values) for name, values in answers.items()}
        return {
            "mean": {name: values.mean(0) for name, values in members.items()},
            "spread": {name: values.std(0) for name, values in members.items()},
            "members": members,
        }


def member_checkpoints(folder: str | Path) -> list[Path]:
    """Checkpoints of the members in ``folder``, by number. Raises `UserError` where there are none."""
    found = [path / MEMBER_MODEL for path in Path(folder).glob(MEMBER_FOLDERS) if (path / MEMBER_MODEL).exists()]
    if not found:
        raise UserError(
            f"{folder}: no members of a committee there; give a folder with member-0/{MEMBER_MODEL}, member-1/…"
        )
    return sorted(found, key=lambda path: (len(path.parent.name), path.parent.name))
