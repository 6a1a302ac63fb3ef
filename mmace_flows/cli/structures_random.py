"""`mmace structures random`: random crystals of a chemical space, relaxed, screened, selected."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmace_flows.cli.structures_options import (
    AsJson,
    FormatName,
    Moments,
    Output,
    Overwrite,
    Seed,
    checked_output,
    interval,
    pairs,
    read_all,
    settings_of,
    whole_interval,
    words,
    work_progress,
    write_and_tell,
)


def random_command(
    space: Annotated[
        str,
        typer.Argument(
            metavar="ELEMENTS", help="Fe,Ni, or with weights Fe=2,Ni=1; or a file of structures: its elements"
        ),
    ],
    output: Output,
    attempts: Annotated[int, typer.Option("--attempts", "-n", min=1, help="crystals made and relaxed")] = 20,
    keep: Annotated[
        int | None, typer.Option(min=1, help="selected at the end, towards the weights [default: all distinct ones]")
    ] = None,
    formula: Annotated[list[str] | None, typer.Option(help="only this stoichiometry, e.g. FeNi3; repeatable")] = None,
    one_of: Annotated[list[str] | None, typer.Option(metavar="B,C,Si", help="at most one of these per crystal")] = None,
    species: Annotated[str, typer.Option(metavar="LOW:HIGH", help="different elements per crystal")] = "1:3",
    atoms: Annotated[str, typer.Option(metavar="LOW:HIGH", help="atoms in the primitive cell")] = "2:10",
    space_groups: Annotated[str, typer.Option(metavar="LOW:HIGH", help="of pyxtal's crystals")] = "2:230",
    generator: Annotated[str, typer.Option(help="pyxtal, buildcell, or auto: buildcell where installed")] = "auto",
    calculator: Annotated[
        str, typer.Option(help="chgnet, a checkpoint FILE.safetensors, emt, or package.module:Class")
    ] = "chgnet",
    steps: Annotated[int, typer.Option(min=0, help="of each relaxation; 0: none")] = 200,
    fmax: Annotated[float, typer.Option(help="where a relaxation ends, eV/Å")] = 0.05,
    pressure: Annotated[float, typer.Option(help="GPa")] = 0.0,
    energy: Annotated[str, typer.Option(metavar="LOW:HIGH", help="window, eV per atom")] = "-20:5",
    energy_window: Annotated[
        float, typer.Option(help="above the lowest energy at the same composition, eV per atom")
    ] = 0.5,
    max_force: Annotated[float, typer.Option(help="left after the relaxation, eV/Å")] = 0.3,
    max_pressure: Annotated[float, typer.Option(help="left after the relaxation, GPa")] = 5.0,
    volume: Annotated[str, typer.Option(metavar="LOW:HIGH", help="window, Å³ per atom")] = "6:40",
    moment: Moments = None,
    seed: Seed = 0,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write crystals of a random structure search: made, relaxed with a general potential, screened, without copies.

    Each finished attempt is kept beside OUT, in the folder OUT.search: a search that was stopped goes on with the same
    command; windows, --keep and more --attempts need no attempt again.
    """
    from mmace_flows.structures.operations import generate
    from mmace_flows.structures.random_crystals import ChemicalSpace
    from mmace_flows.structures.random_search import SearchSettings
    from mmace_flows.structures.screening import Screen

    checked_output(output, overwrite)
    chemical = settings_of(
        ChemicalSpace,
        "random",
        elements=_elements(space, format_name),
        one_of=words(one_of),
        formulas=words(formula),
        species=whole_interval(species, "--species"),
        atoms=whole_interval(atoms, "--atoms"),
        space_groups=whole_interval(space_groups, "--space-groups"),
    )
    screen = settings_of(
        Screen,
        "random",
        energy=interval(energy, "--energy"),
        energy_above_lowest=energy_window,
        max_force=max_force,
        max_pressure=max_pressure,
        volume_per_atom=interval(volume, "--volume"),
    )
    settings = settings_of(
        SearchSettings,
        "random",
        space=chemical,
        attempts=attempts,
        keep=keep,
        generator=generator,
        calculator=calculator,
        steps=steps,
        force_tolerance=fmax,
        pressure=pressure,
        screen=screen,
        moments=pairs(moment, "--moment"),
        seed=seed,
    )
    folder = output.with_suffix(".search")
    with work_progress("searching") as progress:
        found, lines = generate([], settings, folder, progress)
    write_and_tell(output, found, lines, as_json, folder=str(folder))


def _elements(space: str, format_name: str | None) -> dict[str, float]:
    """Element → weight, of the argument or of the structures in a file (as often as its atoms)."""
    if not Path(space).is_file():
        return pairs([space], "ELEMENTS", default=1.0)
    weights: dict[str, float] = {}
    for candidate in read_all([Path(space)], format_name):
        for symbol in candidate.structure.symbols:
            weights[symbol] = weights.get(symbol, 0.0) + 1.0
    return weights
