"""Mean and spread of a committee, against the members one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

from mmace import Potential, PotentialConfig, save
from mmace.committee import Committee
from mmace.errors import UserError


def small(seed: int, **changes) -> Potential:
    settings = {"elements": ["Fe", "Ni"], "hidden": "4x0e", "l_pos": 1, "r_max": 3.0, "radial_hidden": (8,)}
    return Potential(PotentialConfig(**{**settings, **changes}, seed=seed))


def structures():
    found = []
    for seed in range(3):
        atoms = bulk("Fe", cubic=True)
        atoms.symbols[1] = "Ni"
        atoms.arrays.pop("initial_magmoms", None)
        atoms.rattle(0.1, seed=seed)
        atoms.set_initial_magnetic_moments(np.random.default_rng(seed).normal(size=(2, 3)))
        found.append(atoms)
    return found


def test_mean_and_spread_are_those_of_the_members() -> None:
    committee = Committee([small(seed) for seed in range(3)])
    answer = committee.predict(structures())
    graph = committee.graph(structures())
    energies = torch.stack([model(graph)["energy"] / 2 for model in committee.models])
    assert torch.allclose(answer["mean"]["energy_per_atom"], energies.mean(0))
    assert torch.allclose(answer["spread"]["energy_per_atom"], energies.std(0, unbiased=True))
    for name in ("forces", "magnetic_forces"):
        values = torch.stack([model(graph)[name] for model in committee.models])
        assert answer["members"][name].shape == (3, 6, 3)
        assert torch.allclose(answer["mean"][name], values.mean(0))
        assert torch.allclose(answer["spread"][name], values.std(0, unbiased=True))
        assert (answer["spread"][name] > 0).any()


def test_equal_members_have_no_spread_and_one_structure_is_enough() -> None:
    answer = Committee([small(0), small(0)]).predict(structures()[0])
    assert answer["spread"]["energy_per_atom"].shape == (1,)
    assert all(float(value.abs().max()) == 0.0 for value in answer["spread"].values())


def test_members_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="at least two"):
        Committee([small(0)])
    with pytest.raises(UserError, match=r"member 1 has r_max = 3\.5"):
        Committee([small(0), small(1, r_max=3.5)])


def test_loaded_from_its_folder_in_the_order_of_numbers(tmp_path: Path) -> None:
    models = [small(seed) for seed in range(11)]
    for number, model in enumerate(models):
        save(model, tmp_path / f"member-{number}" / "model.safetensors")
    loaded = Committee.load(tmp_path)
    assert [model.config.seed for model in loaded.models] == list(range(11))
    with pytest.raises(UserError, match="no members of a committee"):
        Committee.load(tmp_path / "member-0")
