"""`mmace anisotropy`: easy axis, constants and hardness of structures, by a potential or from force-theorem runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmace_flows.cli.anisotropy_output import Result, print_results
from mmace_flows.cli.options import AsJson, Overwrite
from mmace_flows.cli.structures_options import FormatName, Moments

if TYPE_CHECKING:
    from mmace_flows.schemas.anisotropy_entry import AnisotropyPrediction
    from mmace_flows.schemas.structure import MagneticStructure


def register(app: typer.Typer) -> None:
    """Adds the command to ``app``."""
    app.command("anisotropy")(anisotropy_command)


def anisotropy_command(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IN...", help="structures; without --model runs of mmace soc: JSON, or store:CAMPAIGN"),
    ],
    model: Annotated[
        Path | None, typer.Option(help="checkpoint, or folder of a committee, of train or train-anisotropy")
    ] = None,
    moments: Annotated[
        str, typer.Option(help="relaxed, fixed or auto: relaxed by the model if it knows energies")
    ] = "auto",
    moment: Moments = None,
    directions: Annotated[str, typer.Option(metavar="SET", help="lebedev:N, fibonacci:N, random:N")] = "lebedev:146",
    axis: Annotated[
        str | None, typer.Option(metavar="x,y,z", help="axis of uniaxial K1 and K2 [default: what the crystal says]")
    ] = None,
    check: Annotated[
        int | None, typer.Option(min=10, metavar="N", help="compare the fit with a scan of N directions")
    ] = None,
    figure: Annotated[Path | None, typer.Option(metavar="F.png", help="the energy surface; F-1.png, … of more")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT.extxyz", help="structures, moments along the easy axis"),
    ] = None,
    campaign: Annotated[str | None, typer.Option(help="keep predictions in the database under this name")] = None,
    format_name: FormatName = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="folder of the database")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Anisotropy of structures: easy axis or plane, ΔE_A, K1 and K2, anisotropy field, hardness.

    Moments of IN start their relaxation; where IN has none, all start upwards with lengths by element. With --campaign
    predictions are kept, and what is there is not computed again. Exit code 1 if moments of a structure did not relax.
    """
    from mmace.errors import UserError
    from mmace_flows.cli.structures_options import axis_of, checked_output
    from mmace_flows.structures.files import check_output

    along = None if axis is None else axis_of(axis)
    if output is not None:
        checked_output(output, overwrite)
    if figure is not None:
        if figure.suffix != ".png":
            raise UserError(f"--figure {figure}: only PNG is drawn; give a name that ends in .png")
        if not figure.parent.is_dir():
            raise UserError(f"--figure {figure}: there is no folder {figure.parent}; make it first")
    if model is None:
        for option, value in (("--check", check), ("--output", output), ("--campaign", campaign), ("--moment", moment)):
            if value is not None:
                raise UserError(f"{option} needs --model; without a model IN are runs of mmace soc")
        results = _of_runs(inputs, along, data_dir)
    else:
        results = _of_model(inputs, model, moments, moment, directions, along, check, campaign, format_name, data_dir)
    if figure is not None:
        _draw(results, figure)
    if output is not None:
        check_output(output)
        _write(results, output)
    print_results(results, as_json)
    if any(one.prediction is not None and not one.prediction.converged for one in results):
        raise typer.Exit(1)


def _of_runs(inputs: Sequence[str], axis: list[float] | None, data_dir: Path | None) -> list[Result]:
    """What stored or written runs say."""
    import numpy as np

    from mmace.errors import UserError
    from mmace_flows.cli.anisotropy_runs import named_runs
    from mmace_flows.learning.anisotropy_data import STORE
    from mmace_flows.properties.anisotropy_values import values_from_document

    for source in inputs:
        if not source.startswith(STORE) and Path(source).suffix not in (".json", ".jsonl"):
            raise UserError(f"{source}: no JSON of runs; give --model for structures, or what mmace soc --json prints")
    found = []
    for source, run in named_runs(inputs, data_dir):
        where = f"{source}: {run.structure.to_atoms().get_chemical_formula()} {run.spin_orbit_key[:8]}"
        made = values_from_document(run, None if axis is None else np.array(axis))
        if made is None:
            typer.echo(f"{where}: not converged: {run.error}", err=True)
            continue
        points = (np.array(run.directions), np.array(run.energies))
        found.append(Result(where, made, run.structure, points=points))
    return found


def _of_model(
    inputs: Sequence[str],
    path: Path,
    moments: str,
    starts: list[str] | None,
    set_name: str,
    axis: list[float] | None,
    check: int | None,
    campaign: str | None,
    format_name: str | None,
    data_dir: Path | None,
) -> list[Result]:
    """What a model, or a committee, predicts."""
    from mmace.errors import UserError, unknown_key_message
    from mmace_flows.cli.structures_options import work_progress
    from mmace_flows.properties.anisotropy_prediction import PredictionSettings, predict_anisotropy
    from mmace_flows.properties.anisotropy_prediction_maker import find_or_predict
    from mmace_flows.structures.directions import directions as checked

    checked(set_name)
    if moments not in ("auto", "relaxed", "fixed"):
        raise UserError(unknown_key_message(moments, ("auto", "relaxed", "fixed"), "--moments"))
    settings = PredictionSettings(directions=set_name, moments=moments, axis=axis)  # type: ignore[arg-type]
    models = load_models(path)
    named = _structures(inputs, format_name, starts)
    structures = [structure for _, structure in named]
    with work_progress("structure") as show:

        def tell(done: int, total: int) -> None:
            show({"done": done, "total": total, "message": named[min(done, len(named)) - 1][0]})

        if campaign is None:
            found = predict_anisotropy(models, structures, settings, None, tell)
        else:
            from mmace_flows.execution.settings import load_settings
            from mmace_flows.execution.stores import open_stores

            stores = open_stores(load_settings(data_dir=data_dir))
            found, _ = find_or_predict(stores, models, structures, settings, campaign, tell)
    return [
        Result(where, one.values, one.structure, one, check=None if check is None else _checked(models, one, check))
        for (where, _), one in zip(named, found, strict=True)
    ]


def load_models(path: Path) -> list[Any]:
    """The model of a checkpoint, or the members of a committee's folder. Raises UserError."""
    from mmace import load
    from mmace.committee import Committee, member_checkpoints

    if not path.is_dir():
        return [load(path)]
    if (path / "model.safetensors").is_file():
        return [load(path / "model.safetensors")]
    found = [load(one) for one in member_checkpoints(path)]
    return Committee(found).models if len(found) > 1 else found


def _structures(
    inputs: Sequence[str], format_name: str | None, starts: list[str] | None
) -> list[tuple[str, MagneticStructure]]:
    """Structures with names; where one has no moments, or lengths are given, they start by element."""
    import numpy as np

    from mmace.errors import UserError
    from mmace_flows.cli.structures_options import pairs
    from mmace_flows.structures.files import read_structures
    from mmace_flows.structures.moments import NONMAGNETIC_BELOW
    from mmace_flows.structures.starting_moments import with_lengths

    lengths = pairs(starts, "--moment")
    named = []
    for path in inputs:
        for number, structure in enumerate(read_structures(path, format_name)):
            where = f"{path}: configuration {number}"
            known = set(structure.symbols)
            given = {element: length for element, length in lengths.items() if element in known}
            try:
                if given or np.abs(structure.magmoms).max(initial=0.0) < NONMAGNETIC_BELOW:
                    structure = with_lengths(structure, given)
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
            named.append((where, structure))
    return named


def _checked(models: Sequence[Any], found: AnisotropyPrediction, count: int) -> dict[str, float]:
    """How far the fit is from a scan of ``count`` directions, eV per cell."""
    import numpy as np

    from mmace.anisotropy import direction_energies
    from mmace_flows.properties.anisotropy_values import surface_of
    from mmace_flows.structures.directions import directions

    vectors = directions(f"fibonacci:{count}")
    atoms = found.structure.to_atoms()
    scan = np.mean([direction_energies(one, atoms, vectors) for one in models], axis=0)
    error = scan - surface_of(found.values).anisotropy(vectors)
    error -= error.mean()
    return {
        "directions": float(count),
        "strength": float(np.ptp(scan)),
        "rms": float(np.sqrt(np.mean(error**2))),
        "largest": float(np.abs(error).max()),
    }


def _draw(results: Sequence[Result], path: Path) -> None:
    from mmace_flows.report.anisotropy_figure import anisotropy_figure

    for number, one in enumerate(results, 1):
        name = path if len(results) == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        found = one.values
        formula = one.structure.to_atoms().get_chemical_formula()
        level = "model" if one.prediction is not None else "DFT"
        title = f"{formula}, {level}: K1 {found.k1:.3g} MJ/m³, ΔE_A {found.strength_mev_per_atom:.3g} meV/atom"
        anisotropy_figure(found, len(one.structure.symbols), name, title, one.points)


def _write(results: Sequence[Result], output: Path) -> None:
    import io

    import ase.io

    from mmace.checkpoint import write_atomically

    frames = []
    for one in results:
        atoms, found = one.structure.to_atoms(), one.values
        assert one.prediction is not None  # refused for runs
        atoms.info.update(
            mmace_k1=found.k1, mmace_k2=found.k2, mmace_anisotropy=found.strength_mev_per_atom, mmace_easy=found.easy,
            mmace_symmetry=found.symmetry, converged=one.prediction.converged,
        )  # fmt: skip
        frames.append(atoms)
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    write_atomically(output, text.getvalue().encode())
