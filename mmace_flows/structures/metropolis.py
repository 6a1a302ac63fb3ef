"""Metropolis rattling: positions and cell wander at a temperature, driven by any ASE calculator (here the potential).

Two kinds of move: all atoms by a Gaussian, or the cell by a symmetric Gaussian strain that carries the atoms along.
A move is accepted with min(1, exp(−ΔH/kT)), H = E + pV with p = 0 by default; the N ln V term of a true constant-
pressure ensemble is left out, for the purpose is a spread of sensible structures, not thermodynamics. Moves past a
guard (minimum distance, volume, c/a) are rejected before they cost an energy.

The moments are inputs of the potential: they stay as the start has them, or are moved too (``moment`` > 0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from ase import Atoms, units
from pydantic import Field

from mmace_flows.schemas.document import Document
from mmace_flows.schemas.structure import Candidate, MagneticStructure
from mmace_flows.structures.base_cells import tetragonal_ratio, volume_per_atom
from mmace_flows.structures.distort import minimum_distance, spawn_seeds, symmetric_strain
from mmace_flows.structures.moments import magnetic_state


class EnergyCalculator(Protocol):
    """Any ASE calculator that gives an energy."""

    def get_potential_energy(self, atoms: Atoms) -> float: ...


class MetropolisSettings(Document):
    """Moves, guards and length of one walk."""

    temperature: float = Field(default=2000.0, gt=0.0, description="K")
    steps: int = Field(default=200, gt=0, description="moves tried per walk")
    displacement: float = Field(default=0.03, ge=0.0, description="σ of a move of every coordinate, Å")
    strain: float = Field(default=0.01, ge=0.0, description="σ of a move of every component of the symmetric strain")
    cell_move_fraction: float = Field(default=0.5, ge=0.0, le=1.0, description="share of moves that strain the cell")
    moment: float = Field(default=0.0, ge=0.0, description="σ of a move of the moments' lengths, μB; 0: fixed moments")
    pressure: float = Field(default=0.0, description="eV/Å³")
    minimum_distance: float = Field(default=1.9, ge=0.0, description="guard, Å")
    volume_range: tuple[float, float] = Field(default=(8.5, 15.0), description="guard, Å³ per atom")
    ratio_range: tuple[float, float] = Field(default=(0.85, 1.75), description="guard on c/a")
    sample_every: int = Field(default=5, gt=0, description="moves between stored samples")
    num_layers: int = Field(default=4, gt=0, description="layers along the cell's third vector, for c/a")


class WalkStatistics(Document):
    """What happened in one walk."""

    seed: int
    tried: int = 0
    accepted: int = 0
    guarded: int = Field(default=0, description="moves rejected by a guard, without an energy")
    failed: int = Field(default=0, description="moves rejected because the energy was not finite")
    acceptance: float = Field(default=0.0, description="accepted / tried")
    volume_range: tuple[float, float] = Field(default=(0.0, 0.0), description="of the samples, Å³ per atom")
    ratio_range: tuple[float, float] = Field(default=(0.0, 0.0), description="of the samples, c/a")


class Sample(Document):
    """One structure of a walk."""

    structure: MagneticStructure
    energy: float = Field(description="the calculator's energy, eV per atom")
    volume_per_atom: float = Field(description="Å³")
    c_over_a: float
    step: int
    walk: int = 0


Progress = Callable[[dict[str, Any]], None]


def walk(
    start: MagneticStructure,
    calculator: EnergyCalculator,
    settings: MetropolisSettings,
    seed: int,
    progress: Progress | None = None,
    number: int = 0,
) -> tuple[list[Sample], WalkStatistics]:
    """One Metropolis walk from ``start``; the same seed and calculator give the same walk.

    ``progress`` gets {"walk", "step", "steps", "acceptance", "energy", "c_over_a", "volume_per_atom"} at every sample.
    Raises ValueError if the start has no finite energy.
    """
    generator = np.random.default_rng(seed)
    statistics = WalkStatistics(seed=seed)
    current = start
    enthalpy = _enthalpy(current, calculator, settings)
    if not np.isfinite(enthalpy):
        raise ValueError("Metropolis walk: the start has no finite energy")
    samples: list[Sample] = []
    for step in range(1, settings.steps + 1):
        trial = _move(current, generator, settings)
        # drawn for every move, so that the sequence of random numbers never depends on energies
        threshold = generator.random()
        statistics.tried += 1
        if not _allowed(trial, settings):
            statistics.guarded += 1
        else:
            trial_enthalpy = _enthalpy(trial, calculator, settings)
            if not np.isfinite(trial_enthalpy):
                statistics.failed += 1
            elif threshold < np.exp(min(0.0, -(trial_enthalpy - enthalpy) / (units.kB * settings.temperature))):
                current, enthalpy = trial, trial_enthalpy
                statistics.accepted += 1
        if step % settings.sample_every == 0:
            samples.append(_sample(current, enthalpy, settings, step, number))
            if progress is not None:
                summary = samples[-1].model_dump(include={"energy", "c_over_a", "volume_per_atom", "step", "walk"})
                progress({**summary, "steps": settings.steps, "acceptance": statistics.accepted / statistics.tried})
    statistics.acceptance = statistics.accepted / statistics.tried
    if samples:
        volumes, ratios = [s.volume_per_atom for s in samples], [s.c_over_a for s in samples]
        statistics.volume_range, statistics.ratio_range = (min(volumes), max(volumes)), (min(ratios), max(ratios))
    return samples, statistics


def metropolis_candidates(
    starts: Sequence[MagneticStructure],
    calculator: EnergyCalculator,
    count: int,
    seed: int,
    settings: MetropolisSettings | None = None,
    group: str = "train",
    iteration: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Candidate], list[WalkStatistics]]:
    """A walk from every start, then the ``count`` samples that are furthest apart in c/a, volume and moments."""
    settings = settings or MetropolisSettings()
    samples: list[Sample] = []
    statistics: list[WalkStatistics] = []
    for number, (start, one_seed) in enumerate(zip(starts, spawn_seeds(seed, len(starts)), strict=True)):
        new, one = walk(start, calculator, settings, one_seed, progress, number)
        samples += new
        statistics.append(one)
    candidates = [
        Candidate(
            structure=sample.structure,
            operation="metropolis",
            magnetic_state=magnetic_state(sample.structure.magmoms),
            parent=starts[sample.walk].hash(),
            seed=statistics[sample.walk].seed,
            group=group,
            iteration=iteration,
            details={
                "temperature": settings.temperature,
                "step": sample.step,
                "walk": sample.walk,
                "model_energy_per_atom": sample.energy,
                "c_over_a": sample.c_over_a,
                "volume_per_atom": sample.volume_per_atom,
                "acceptance": statistics[sample.walk].acceptance,
            },
        )
        for sample in select_spread(samples, count)
    ]
    return candidates, statistics


def select_spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """``count`` samples by farthest-point selection over (c/a, volume per atom, moments along their axis).

    c/a counts in units of 0.1, volume of 0.5 Å³ per atom, a moment of 1 μB. Starts from the sample nearest the middle;
    copies of a chosen sample (moves that were rejected) are never chosen again. In the order of choice.
    """
    if not samples or count < 1:
        return []
    features = np.array(
        [
            [
                s.c_over_a / 0.1,
                s.volume_per_atom / 0.5,
                *(np.ravel(s.structure.magmoms) / np.sqrt(len(s.structure.symbols))),
            ]
            for s in samples
        ]
    )
    chosen = [int(np.argmin(np.linalg.norm(features - features.mean(axis=0), axis=1)))]
    distances = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < count and distances.max() > 1e-9:
        chosen.append(int(np.argmax(distances)))
        distances = np.minimum(distances, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return [samples[index] for index in chosen]


def _move(
    structure: MagneticStructure, generator: np.random.Generator, settings: MetropolisSettings
) -> MagneticStructure:
    cell, positions = np.asarray(structure.cell, dtype=float), np.asarray(structure.positions, dtype=float)
    if generator.random() < settings.cell_move_fraction:
        deformation = np.eye(3) + symmetric_strain(generator, settings.strain)
        cell, positions = cell @ deformation, positions @ deformation
    else:
        positions = positions + generator.normal(0.0, 1.0, positions.shape) * settings.displacement
    update: dict[str, Any] = {"cell": cell.tolist(), "positions": positions.tolist()}
    if settings.moment > 0.0:
        moments = np.asarray(structure.magmoms, dtype=float)
        lengths = np.linalg.norm(moments, axis=1, keepdims=True)
        directions = np.divide(moments, lengths, out=np.zeros_like(moments), where=lengths > 0)
        update["magmoms"] = (moments + directions * generator.normal(0.0, settings.moment, lengths.shape)).tolist()
    return structure.model_copy(update=update)


def _allowed(structure: MagneticStructure, settings: MetropolisSettings) -> bool:
    volume, ratio = volume_per_atom(structure), tetragonal_ratio(structure.cell, settings.num_layers)
    if not settings.volume_range[0] <= volume <= settings.volume_range[1]:
        return False
    if not settings.ratio_range[0] <= ratio <= settings.ratio_range[1]:
        return False
    return minimum_distance(np.asarray(structure.cell), np.asarray(structure.positions)) >= settings.minimum_distance


def _enthalpy(structure: MagneticStructure, calculator: EnergyCalculator, settings: MetropolisSettings) -> float:
    energy = float(calculator.get_potential_energy(structure.to_atoms()))
    return energy + settings.pressure * volume_per_atom(structure) * len(structure.symbols)


def _sample(
    structure: MagneticStructure, enthalpy: float, settings: MetropolisSettings, step: int, number: int
) -> Sample:
    volume = volume_per_atom(structure)
    return Sample(
        structure=structure,
        energy=enthalpy / len(structure.symbols) - settings.pressure * volume,
        volume_per_atom=volume,
        c_over_a=tetragonal_ratio(structure.cell, settings.num_layers),
        step=step,
        walk=number,
    )
