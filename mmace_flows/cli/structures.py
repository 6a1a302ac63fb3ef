"""`mmace structures`: magnetic orderings, random crystals, distortions, walks, paths, supercells, selections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmace_flows.cli.structures_options import (
    AsJson,
    FormatName,
    Inputs,
    Moments,
    Output,
    Overwrite,
    Seed,
    checked_output,
    interval,
    numbers,
    pairs,
    read_all,
    settings_of,
    words,
    work_progress,
    write_and_tell,
)

CALCULATOR_HELP = "chgnet, a checkpoint FILE.safetensors, emt, or package.module:Class of an ASE calculator"


def register(app: typer.Typer) -> None:
    """Adds the group `structures` to ``app``."""
    from mmace_flows.cli import structures_random, structures_select

    group = typer.Typer(
        help="Make structures with moments, to label, from files that ASE reads. Moments of the structures made are "
        "vectors in μB, in the column initial_magmoms.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("enumerate")(enumerate_command)
    group.command("random")(structures_random.random_command)
    group.command("distort")(distort_command)
    group.command("rattle")(rattle_command)
    group.command("path")(path_command)
    group.command("supercell")(supercell_command)
    group.command("noncollinear")(noncollinear_command)
    group.command("select")(structures_select.select_command)
    app.add_typer(group, name="structures")


def enumerate_command(
    inputs: Inputs,
    output: Output,
    moment: Moments = None,
    max_cells: Annotated[
        int | None, typer.Option(min=1, help="primitive cells per supercell [default: as hold 6 magnetic atoms]")
    ] = None,
    max_orderings: Annotated[int, typer.Option(min=1, help="kept of each structure")] = 64,
    state: Annotated[
        list[str] | None, typer.Option(metavar="NM,FM,AFM,FiM", help="states that are kept; repeatable [default: all]")
    ] = None,
    silence_species: Annotated[
        bool, typer.Option("--silence-species", help="also orderings in which whole elements carry no moment")
    ] = False,
    axis: Annotated[str, typer.Option(help="direction of the moments")] = "0,0,1",
    engine: Annotated[
        str, typer.Option(help="exact (own), enumlib (pymatgen, needs enum.x), auto: enumlib where it is installed")
    ] = "auto",
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the collinear magnetic orderings of a crystal, each once up to symmetry and reversal of all moments.

    More than --max-orderings: NM and FM are kept, then those with the fewest atoms, then the highest symmetry, then the
    smallest total moment.
    """
    from mmace_flows.structures.enumeration import EnumerateSettings

    chosen = {"states": words(state)} if state else {}
    settings = settings_of(
        EnumerateSettings,
        "enumerate",
        moments=pairs(moment, "--moment"),
        max_cells=max_cells,
        max_orderings=max_orderings,
        silence_species=silence_species,
        axis=tuple(numbers(axis, "--axis", 3)),
        engine=engine,
        **chosen,
    )
    _run("enumerating", inputs, output, settings, format_name, overwrite, as_json)


def distort_command(
    inputs: Inputs,
    output: Output,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="of each structure")] = 10,
    volume: Annotated[str, typer.Option(metavar="LOW:HIGH", help="factor on the volume, uniform")] = "0.6:1.4",
    displacement: Annotated[float, typer.Option(help="σ of every coordinate, Å")] = 0.05,
    strain: Annotated[float, typer.Option(help="σ of every component of the strain")] = 0.0,
    min_distance: Annotated[float, typer.Option(help="closer atoms are drawn again, Å")] = 1.6,
    rotate: Annotated[str, typer.Option(metavar="LOW:HIGH", help="angle about a random axis, °, uniform")] = "0:0",
    cone: Annotated[float, typer.Option(help="angle to the old direction, exactly, °; lengths are kept")] = 0.0,
    random_directions: Annotated[bool, typer.Option("--random-directions", help="uniform on the sphere")] = False,
    together: Annotated[bool, typer.Option("--together", help="turn all moments alike")] = False,
    moment_scale: Annotated[str, typer.Option(metavar="LOW:HIGH", help="factor on each moment, uniform")] = "1:1",
    flip: Annotated[float, typer.Option(help="chance of each moment to reverse")] = 0.0,
    only: Annotated[list[str] | None, typer.Option(metavar="EL", help="elements whose moments change")] = None,
    moment: Moments = None,
    seed: Seed = 0,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write random distortions: volume, strain, displacements, and directions and lengths of moments.

    With --moment, moments begin with these lengths (along z where IN has none); else with IN's, as they are.
    """
    from mmace_flows.structures.distort import DistortSettings
    from mmace_flows.structures.moment_changes import MomentChange
    from mmace_flows.structures.operations import DistortOperation

    settings = settings_of(
        DistortOperation,
        "distort",
        count=count,
        seed=seed,
        moments=pairs(moment, "--moment") if moment else None,
        geometry=settings_of(
            DistortSettings,
            "distort",
            volume_scale=interval(volume, "--volume"),
            displacement=displacement,
            strain=strain,
            minimum_distance=min_distance,
        ),
        change=settings_of(
            MomentChange,
            "distort",
            random_directions=random_directions,
            rotation=interval(rotate, "--rotate"),
            cone=cone,
            together=together,
            scale=interval(moment_scale, "--moment-scale"),
            flip_probability=flip,
            elements=words(only),
        ),
    )
    _run("distorting", inputs, output, settings, format_name, overwrite, as_json)


def rattle_command(
    inputs: Inputs,
    output: Output,
    calculator: Annotated[str, typer.Option(help=CALCULATOR_HELP)] = "chgnet",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="kept of each walk, far from each other")] = 10,
    temperature: Annotated[float, typer.Option(help="K")] = 2000.0,
    steps: Annotated[int, typer.Option(min=1, help="moves tried from each structure")] = 200,
    displacement: Annotated[float, typer.Option(help="σ of every coordinate in a move, Å")] = 0.03,
    strain: Annotated[float, typer.Option(help="σ of every component of the strain in a move")] = 0.01,
    cell_moves: Annotated[float, typer.Option(help="share of moves that strain the cell")] = 0.5,
    moment_step: Annotated[float, typer.Option(help="σ of the moments' lengths in a move, μB; 0: held")] = 0.0,
    pressure: Annotated[float, typer.Option(help="GPa")] = 0.0,
    min_distance: Annotated[float, typer.Option(help="guard: closest atoms, Å")] = 1.6,
    volume: Annotated[str, typer.Option(metavar="LOW:HIGH", help="guard: volume over that of IN")] = "0.7:1.3",
    every: Annotated[int, typer.Option(min=1, help="moves between samples")] = 5,
    moment: Moments = None,
    seed: Seed = 0,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write samples of Metropolis walks in positions and cell at a temperature, driven by a potential."""
    from mmace_flows.structures.metropolis import MetropolisSettings
    from mmace_flows.structures.operations import EVERY_RATIO, RattleOperation

    walk = settings_of(
        MetropolisSettings,
        "rattle",
        temperature=temperature,
        steps=steps,
        displacement=displacement,
        strain=strain,
        cell_move_fraction=cell_moves,
        moment=moment_step,
        pressure=pressure / 160.21766208,
        minimum_distance=min_distance,
        sample_every=every,
        ratio_range=EVERY_RATIO,
    )
    settings = settings_of(
        RattleOperation,
        "rattle",
        count=count,
        calculator=calculator,
        walk=walk,
        volume_factor=interval(volume, "--volume"),
        moments=pairs(moment, "--moment") if moment else None,
        seed=seed,
    )
    _run("walking", inputs, output, settings, format_name, overwrite, as_json)


def path_command(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN...", help="two files of one structure, or one file of two")
    ],
    output: Output,
    images: Annotated[int, typer.Option(min=2, help="structures on the path, both ends included")] = 9,
    moments: Annotated[
        str, typer.Option(help="linear: components of moments; rotate: lengths, and directions on the great circle")
    ] = "linear",
    keep_volume: Annotated[bool, typer.Option("--keep-volume", help="interpolate the volume too, linearly")] = False,
    match_atoms: Annotated[
        bool, typer.Option("--match/--no-match", help="pair each atom with the nearest of its element")
    ] = True,
    min_distance: Annotated[float, typer.Option(help="a path with closer atoms is refused, Å")] = 1.0,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a path between two structures of the same atoms: cell, positions and moments interpolated."""
    from mmace_flows.structures.paths import PathSettings

    settings = settings_of(
        PathSettings,
        "path",
        images=images,
        moments=moments,
        keep_volume=keep_volume,
        match_atoms=match_atoms,
        minimum_distance=min_distance,
    )
    _run("interpolating", inputs, output, settings, format_name, overwrite, as_json)


def supercell_command(
    inputs: Inputs,
    output: Output,
    repeat: Annotated[str, typer.Option(help="three repeats, or the nine whole numbers of a matrix")] = "2,2,2",
    angle: Annotated[
        list[str] | None, typer.Option(metavar="°", help="angles by which one spin is turned; repeatable or 10,20,30")
    ] = None,
    site: Annotated[
        list[int] | None, typer.Option(help="atom of the supercell that is turned; repeatable [default: 1 per element]")
    ] = None,
    pairs_within: Annotated[
        float | None, typer.Option(metavar="Å", help="also turn pairs by ±half the angle, one per neighbour shell")
    ] = None,
    axis: Annotated[str | None, typer.Option(help="spins turn about it [default: perpendicular to the spin]")] = None,
    moment: Moments = None,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a supercell, and copies of it in which one spin (or a pair) is turned: for exchange constants."""
    from mmace_flows.structures.turned import SupercellSettings

    given = numbers(repeat, "--repeat")
    whole = [int(value) if value == int(value) else value for value in given]
    settings = settings_of(
        SupercellSettings,
        "supercell",
        repeat=[whole[0:3], whole[3:6], whole[6:9]] if len(whole) == 9 else whole,
        angles=[value for text in angle or [] for value in numbers(text, "--angle")],
        sites=site or [],
        pairs_within=pairs_within,
        axis=None if axis is None else tuple(numbers(axis, "--axis", 3)),
        moments=pairs(moment, "--moment"),
    )
    _run("turning", inputs, output, settings, format_name, overwrite, as_json)


def noncollinear_command(
    inputs: Inputs,
    output: Output,
    kind: Annotated[str, typer.Option(help="triangular, spiral, cone or random")] = "triangular",
    wave_vector: Annotated[
        list[str] | None,
        typer.Option("--wave-vector", "-q", metavar="A,B,C", help="fractions, e.g. 0,0,1/3; repeatable [0,0,1/2]"),
    ] = None,
    axis: Annotated[str, typer.Option(help="spirals and cones turn about it")] = "0,0,1",
    cone_angle: Annotated[float, typer.Option(help="of cones: angle to the axis, °")] = 45.0,
    turn: Annotated[str, typer.Option(help="of triangular order: angles to the line from the centre, °")] = "0,90",
    chirality: Annotated[str, typer.Option(help="of triangular order: 1, -1 or both")] = "1,-1",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="of random directions: of each structure")] = 1,
    moment: Moments = None,
    seed: Seed = 0,
    format_name: FormatName = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write non-collinear starts: triangular (120°) order, commensurate spirals and cones, random directions.

    A spiral comes in the smallest supercell that its wave vector is periodic in.
    """
    from mmace.errors import UserError
    from mmace_flows.structures.noncollinear import NonCollinearSettings

    vectors = [tuple(part.strip() for part in text.split(",")) for text in wave_vector or ["0,0,1/2"]]
    for vector in vectors:
        if len(vector) != 3:
            raise UserError(f"--wave-vector {','.join(vector)}: give three fractions, for example 0,0,1/3")
    settings = settings_of(
        NonCollinearSettings,
        "noncollinear",
        kind=kind,
        wave_vectors=vectors,
        axis=tuple(numbers(axis, "--axis", 3)),
        cone_angle=cone_angle,
        turn=numbers(turn, "--turn"),
        chirality=numbers(chirality, "--chirality"),
        count=count,
        moments=pairs(moment, "--moment"),
        seed=seed,
    )
    _run("turning", inputs, output, settings, format_name, overwrite, as_json)


def _run(
    verb: str,
    inputs: list[Path],
    output: Path,
    settings: Any,
    format_name: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Read, generate, write, tell."""
    from mmace_flows.structures.operations import generate

    checked_output(output, overwrite)
    parents = read_all(inputs, format_name)
    with work_progress(verb) as progress:
        found, lines = generate(parents, settings, progress=progress)
    write_and_tell(output, found, lines, as_json)
