"""Anisotropy of many structures by a potential: moments relaxed, energies of directions, constants, spread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

from mmace.errors import UserError
from mmace_flows import __version__
from mmace_flows.labels.collinear import split_moments
from mmace_flows.properties.anisotropy_axes import TOLERANCE, magnetic_axes
from mmace_flows.properties.anisotropy_values import first_constant, values
from mmace_flows.schemas.anisotropy_entry import AnisotropyPrediction, prediction_key
from mmace_flows.schemas.document import Document, content_hash
from mmace_flows.schemas.structure import MagneticStructure
from mmace_flows.structures.directions import directions
from mmace_flows.structures.moments import common_axis, magnetic_state
from mmace_flows.structures.symmetry import require_crystal

if TYPE_CHECKING:
    from ase import Atoms

    from mmace import Potential

Z = np.array([0.0, 0.0, 1.0])
Problem = Callable[[MagneticStructure, UserError], None]
State = tuple[np.ndarray, float | None, str | None]  # signed moments [N] μB, energy eV, why they did not relax


class PredictionSettings(Document):
    """How anisotropy is predicted: everything that decides the numbers besides structure and model."""

    directions: str = Field(default="lebedev:146", description="set of directions, as `mmace soc` takes it")
    moments: Literal["auto", "relaxed", "fixed"] = Field(
        default="auto", description="auto: relaxed by the model, unless it knows only differences between directions"
    )
    tolerance: float = Field(default=1e-3, gt=0.0, description="largest magnetic force after relaxation, eV/μB")
    max_evaluations: int = Field(default=300, ge=1, description="energies per relaxation, at most")
    symmetry_tolerance: float = Field(default=TOLERANCE, gt=0.0, description="Å, to find the crystal's axes")
    axis: list[float] | None = Field(default=None, description="[3] axis of K1 and K2 instead of the crystal's own")

    @field_validator("directions")
    @classmethod
    def _known(cls, text: str) -> str:
        try:
            directions(text)
        except UserError as error:
            raise ValueError(str(error)) from error
        return text


def predict_anisotropy(
    model: Potential | Sequence[Potential],
    structures: Sequence[MagneticStructure],
    settings: PredictionSettings | None = None,
    campaign: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_problem: Problem | None = None,
) -> list[AnisotropyPrediction]:
    """Predictions for collinear structures, in their order, whose moments are where relaxation starts.

    Of several models (a committee) the first relaxes the moments, the surfaces are averaged, and the spread is the
    standard deviation of their K1. Structures are relaxed together, up to some hundred atoms at a time;
    ``progress(done, all)`` is called after each. A relaxation that does not converge is told in the prediction. With
    ``on_problem`` a structure that cannot be predicted is told there and left out, and the others are done.

    Raises UserError for elements that a model does not know, moments that are not collinear, a structure that is no
    crystal, and relaxation asked of a model that knows only anisotropy.
    """
    settings = settings or PredictionSettings()
    models = list(model) if isinstance(model, Sequence) else [model]
    name = committee_hash(models)
    crystals: list[tuple[MagneticStructure, Atoms]] = []
    for structure in structures:
        with _told(structure, on_problem):
            crystals.append((structure, _along_z(structure, models[0])))
    states = _states(models[0], [atoms for _, atoms in crystals], settings)
    made: list[AnisotropyPrediction] = []
    for number, ((structure, atoms), state) in enumerate(zip(crystals, states, strict=True), 1):
        with _told(structure, on_problem):
            made.append(_prediction(models, name, structure, atoms, state, settings, campaign))
        if progress is not None:
            progress(number, len(crystals))
    return made


@contextmanager
def _told(structure: MagneticStructure, on_problem: Problem | None) -> Iterator[None]:
    """What is wrong with one structure goes to ``on_problem``, or ends everything where there is none."""
    try:
        yield
    except UserError as error:
        if on_problem is None:
            raise
        on_problem(structure, error)


def _prediction(
    models: Sequence[Potential],
    name: str,
    structure: MagneticStructure,
    atoms: Atoms,
    state: State,
    settings: PredictionSettings,
    campaign: str | None,
) -> AnisotropyPrediction:
    from mmace.anisotropy import direction_energies

    lengths, energy, message = state
    atoms.set_initial_magnetic_moments(np.outer(lengths, Z))
    vectors = directions(settings.directions)
    surfaces = np.array([direction_energies(one, atoms, vectors) for one in models])
    key = prediction_key(structure, name, settings.model_dump())
    axes = magnetic_axes(structure, lengths, settings.symmetry_tolerance)
    axis = None if settings.axis is None else np.array(settings.axis)
    found = values(
        structure,
        lengths,
        vectors,
        surfaces.mean(0),
        axis=axis,
        axes=axes,
        energy=energy,
        source=key,
        method={"model": name, "members": len(models)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if len(models) > 1:
        if found.symmetry == "uniaxial":  # about the axis of the mean: constants about other axes do not compare
            axis = np.array(found.axis)
        constants = [first_constant(structure, axes, vectors, one, axis) for one in surfaces]
        found = found.model_copy(update={"spread": float(np.std(constants, ddof=1))})
    return AnisotropyPrediction(
        prediction_key=key,
        structure=structure.model_copy(update={"magmoms": np.outer(lengths, found.easy).tolist()}),
        parent=structure.parent_hash(),
        ordering=magnetic_state(lengths),
        converged=message is None,
        message=message,
        values=found,
        model=name,
        settings=settings.model_dump(),
        code_version=__version__,
        campaign=campaign,
    )


def committee_hash(models: Sequence[Potential]) -> str:
    """Hash of a model, or of the members of a committee in their order."""
    from mmace import model_hash

    hashes = [model_hash(one) for one in models]
    return hashes[0] if len(hashes) == 1 else content_hash(["committee", *hashes])


def _along_z(structure: MagneticStructure, model: Potential) -> Atoms:
    """The structure with its moments along z. Raises UserError where they are not collinear, for elements that the
    model does not know and for what is no crystal."""
    from mmace.graph import species_index

    formula = structure.to_atoms().get_chemical_formula()
    if common_axis(structure.magmoms) is None:
        raise UserError(
            f"anisotropy: {formula}: the moments are not collinear, so that the energy is no function of one "
            "direction; give collinear moments"
        )
    require_crystal(structure, f"anisotropy: {formula}")
    atoms = structure.to_atoms()
    species_index(atoms.numbers, model.config.elements)
    atoms.set_initial_magnetic_moments(np.outer(split_moments(structure.magmoms)[0], Z))
    return atoms


def _states(model: Potential, crystals: list[Atoms], settings: PredictionSettings) -> list[State]:
    """What relaxation, or none, gives for each structure with moments along z.

    No energy from a model that knows only anisotropy.
    """
    from mmace import build_graph
    from mmace.spins.relax import relax_moments

    wanted = settings.moments if settings.moments != "auto" else "relaxed" if model.knows_energies else "fixed"
    if wanted == "relaxed":
        if not model.knows_energies:
            raise UserError(
                "anisotropy: this model knows only differences between directions and cannot relax moments; "
                "give moments = fixed, or a model that knows energies too"
            )
        found = relax_moments(
            model,
            crystals,
            mode="collinear",
            axis=Z.tolist(),
            gradient_tolerance=settings.tolerance,
            max_evaluations=settings.max_evaluations,
        )
        return [(one.magmoms @ Z, one.energy, None if one.converged else one.message) for one in found]
    lengths = [atoms.get_initial_magnetic_moments() @ Z for atoms in crystals]
    energies: list[float | None] = [None] * len(crystals)
    if model.knows_energies:
        config = model.config
        for number, atoms in enumerate(crystals):
            graph = build_graph(atoms, config.elements, config.r_max, dtype=config.torch_dtype)
            out = model(graph, forces=False, stress=False, magnetic_forces=False)
            energies[number] = float(out["energy"])
    return [(along, energy, None) for along, energy in zip(lengths, energies, strict=True)]
