"""Options and arguments that several commands share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

# labelled structures
Sources = Annotated[
    list[Path],
    typer.Argument(metavar="SOURCE...", help="files, DeePMD folders, or store:CAMPAIGN for labels of the store"),
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="FIELD=KEY", help="what the file calls a field, e.g. energy=my_energy; repeatable"),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format", help="extxyz, mlip_cfg, deepmd_spin or matpes_json [default: by the name, else the content]"
    ),
]
Elements = Annotated[
    str | None, typer.Option(metavar="Fe,Al", help="elements of type 0, 1, … where the file only numbers its types")
]
ZeroMoments = Annotated[bool, typer.Option("--zero-moments", help="take structures without moments as non-magnetic")]

# training
Data = Annotated[Path | None, typer.Option(help="labelled structures: a file, shards, or store:CAMPAIGN[/train]")]
Valid = Annotated[Path | None, typer.Option(help="validation structures; default: a tenth of the data")]
Epochs = Annotated[int | None, typer.Option(help="passes over the data")]
BatchSize = Annotated[int | None, typer.Option(help="structures per step")]
EdgesPerBatch = Annotated[
    int | None, typer.Option(help="fill batches up to this many places for neighbours instead of by structures")
]
MaxSeconds = Annotated[float | None, typer.Option(help="stop after this time")]
RotateMoments = Annotated[
    bool | None,
    typer.Option(
        "--rotate-moments/--no-rotate-moments",
        help="turn all moments of a structure at random: data without spin–orbit coupling, soc model "
        "[default: if all moments are collinear]",
    ),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or auto [default: auto]")]
Plots = Annotated[bool, typer.Option("--plots/--no-plots", help="parity and learning curve as PNG")]
TensorBoard = Annotated[
    bool | None,
    typer.Option("--tensorboard/--no-tensorboard", help="training curves for TensorBoard in the run's folder"),
]
OverwriteRun = Annotated[bool, typer.Option("--overwrite", help="replace another run in the folder")]

# output
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable")]


def given(**options: Any) -> dict[str, Any]:
    """The options that somebody gave."""
    return {name: value for name, value in options.items() if value is not None}
