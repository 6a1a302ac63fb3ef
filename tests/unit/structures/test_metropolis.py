"""Metropolis rattling against energies whose distribution is known."""

import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import Calculator, all_changes

from mmace_flows.structures.base_cells import bain_structure, tetragonal_ratio, volume_per_atom
from mmace_flows.structures.metropolis import (
    MetropolisSettings,
    Sample,
    metropolis_candidates,
    select_spread,
    walk,
)


class Springs(Calculator):
    """Each atom on a spring to its fractional site, the volume on a spring to its own. Counts its calls."""

    implemented_properties = ["energy"]  # noqa: RUF012

    def __init__(self, reference, stiffness=1.0, volume_stiffness=0.5):
        super().__init__()
        self.reference, self.stiffness, self.volume_stiffness = reference.to_atoms(), stiffness, volume_stiffness
        self.sites = self.reference.get_scaled_positions(wrap=False)
        self.calls = 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        offsets = (self.atoms.get_scaled_positions(wrap=False) - self.sites) @ np.asarray(self.atoms.cell)
        volume = self.atoms.get_volume() - self.reference.get_volume()
        self.results["energy"] = 0.5 * self.stiffness * (offsets**2).sum() + 0.5 * self.volume_stiffness * volume**2


START = bain_structure(11.4, 1.2, "AFM")
WIDE = {"minimum_distance": 0.0, "volume_range": (1.0, 100.0), "ratio_range": (0.1, 10.0)}


def test_positions_reach_equipartition():
    settings = MetropolisSettings(
        temperature=300.0, steps=1500, displacement=0.06, cell_move_fraction=0.0, sample_every=1, **WIDE
    )
    samples, statistics = walk(START, Springs(START), settings, seed=0)
    energies = np.array([sample.energy for sample in samples[200:]]) * 4
    assert energies.mean() == pytest.approx(0.5 * 12 * units.kB * 300.0, rel=0.2)  # ½kT for each of 12 coordinates
    assert 0.05 < statistics.acceptance < 0.95


def test_hotter_walks_reach_further_in_volume_and_ratio():
    spread = []
    for temperature in (100.0, 4000.0):
        settings = MetropolisSettings(temperature=temperature, steps=150, strain=0.02, **WIDE)
        samples, _ = walk(START, Springs(START), settings, seed=1)
        spread.append(np.std([sample.volume_per_atom for sample in samples]))
    assert spread[1] > 2 * spread[0]


def test_guards_hold_and_cost_no_energy():
    settings = MetropolisSettings(
        temperature=1e6, steps=300, strain=0.05, displacement=0.3, volume_range=(10.5, 12.5), ratio_range=(1.0, 1.4)
    )
    calculator = Springs(START)
    samples, statistics = walk(START, calculator, settings, seed=2)
    assert statistics.guarded > 20
    assert calculator.calls == 1 + statistics.tried - statistics.guarded
    for sample in samples:
        assert 10.5 <= volume_per_atom(sample.structure) <= 12.5
        assert 1.0 <= tetragonal_ratio(sample.structure.cell) <= 1.4


def test_walks_are_reproducible_and_tell_their_progress():
    told = []
    settings = MetropolisSettings(steps=50, sample_every=10)
    first, statistics = walk(START, Springs(START), settings, 3, told.append)
    again, _ = walk(START, Springs(START), settings, 3)
    assert first == again
    assert [event["step"] for event in told] == [10, 20, 30, 40, 50] and told[-1]["steps"] == 50
    assert statistics.tried == 50


def test_energies_that_are_not_finite_are_never_accepted():
    class Cliff(Springs):
        def calculate(self, atoms=None, properties=None, system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            if self.atoms.get_volume() > 45.7:
                self.results["energy"] = float("nan")

    samples, statistics = walk(START, Cliff(START), MetropolisSettings(steps=200, strain=0.02), seed=4)
    assert statistics.failed > 0
    assert all(np.isfinite(sample.energy) and sample.volume_per_atom * 4 <= 45.7 for sample in samples)
    with pytest.raises(ValueError, match="no finite energy"):
        walk(bain_structure(12.0, 1.2, "AFM"), Cliff(START), MetropolisSettings(steps=1), seed=0)


def test_moments_move_only_if_asked_and_along_their_axis():
    fixed, _ = walk(START, Springs(START), MetropolisSettings(steps=20), seed=5)
    assert all(sample.structure.magmoms == START.magmoms for sample in fixed)
    moved, _ = walk(START, Springs(START), MetropolisSettings(steps=20, moment=0.1), seed=5)
    moments = np.asarray(moved[-1].structure.magmoms)
    assert not np.allclose(moments, START.magmoms) and np.allclose(moments[:, :2], 0.0)


def test_candidates_are_spread_and_say_where_they_come_from():
    starts = [bain_structure(11.4, ratio, "AFM") for ratio in (1.0, 1.4)]
    settings = MetropolisSettings(steps=200, strain=0.02)
    candidates, statistics = metropolis_candidates(
        starts, Springs(starts[0]), 8, seed=0, settings=settings, iteration=2
    )
    assert len(candidates) == 8 and len(statistics) == 2
    assert {c.parent for c in candidates} == {s.hash() for s in starts}
    for c in candidates:
        assert (c.operation, c.iteration, c.magnetic_state) == ("metropolis", 2, "AFM")
        assert c.details["c_over_a"] == pytest.approx(tetragonal_ratio(c.structure.cell))
    ratios = [c.details["c_over_a"] for c in candidates]
    assert max(ratios) - min(ratios) > 0.3


def test_selection_takes_the_far_ones_and_no_copies():
    def sample(ratio, step):
        structure = bain_structure(11.4, ratio, "FM")
        return Sample(structure=structure, energy=0.0, volume_per_atom=11.4, c_over_a=ratio, step=step)

    samples = [sample(1.2, i) for i in range(5)] + [sample(0.9, 5), sample(1.6, 6), sample(1.21, 7)]
    chosen = select_spread(samples, 3)
    assert sorted(s.c_over_a for s in chosen)[0] == 0.9 and sorted(s.c_over_a for s in chosen)[-1] == 1.6
    assert len(select_spread(samples, 100)) == 4  # the four different ones
    assert select_spread([], 3) == []
