"""`mmace model info` and `mmace relax-moments`: what a checkpoint is, and what moments it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the group `model` and the command `relax-moments` to ``app``."""
    group = typer.Typer(help="Look at a trained potential.", no_args_is_help=True)
    group.command("info")(info_command)
    app.add_typer(group, name="model")
    app.command("relax-moments")(relax_command)


def info_command(
    file: Annotated[Path, typer.Argument(help="checkpoint, .safetensors")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Print what a checkpoint holds: settings, size, hash, and how it was trained."""
    from mmace.checkpoint import load_with_metadata, model_hash

    model, metadata = load_with_metadata(file)
    config = model.config
    data: dict[str, Any] = {
        "file": str(file),
        "model_hash": model_hash(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "config": config.to_dict(),
        "m_max": {element: config.m_max_of(element) for element in config.elements},
        "atomic_energies": {
            head: dict(zip(config.elements, row, strict=True))
            for head, row in zip(config.heads, model.atomic_energies.tolist(), strict=True)
        },
        "energy_scale": float(model.energy_scale),
        "metadata": metadata,
    }
    if as_json:
        import json

        typer.echo(json.dumps(data, indent=2, sort_keys=True))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False, box=None, pad_edge=False)
    table.add_row("model hash", data["model_hash"])
    table.add_row("parameters", f"{data['parameters']:,}")
    for key, value in data["config"].items():
        table.add_row(key, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    for element in config.elements:
        energies = ", ".join(f"{data['atomic_energies'][head][element]:.4f} eV" for head in config.heads)
        table.add_row(element, f"E0 {energies}; moments up to {data['m_max'][element]:.2f} μB")
    table.add_row("energy scale", f"{data['energy_scale']:.4g} eV")
    for key, value in sorted(metadata.items()):
        if not isinstance(value, (dict, list)):
            table.add_row(key.replace("_", " "), str(value))
    Console().print(table)


def relax_command(
    structures: Annotated[Path, typer.Argument(help="any file that ASE reads; moments are the starting moments")],
    model: Annotated[Path, typer.Option("--model", help="checkpoint, .safetensors")],
    output: Annotated[Path, typer.Option("--output", "-o", help="extended XYZ to write")],
    mode: Annotated[str, typer.Option(help="full, collinear, directions or magnitudes")] = "full",
    axis: Annotated[str, typer.Option(help="axis of collinear moments, three numbers")] = "0,0,1",
    tolerance: Annotated[float, typer.Option(help="largest magnetic force at the end, eV/μB")] = 1e-3,
    max_evaluations: Annotated[int, typer.Option(help="energies per structure, at most")] = 300,
    start: Annotated[float | None, typer.Option(help="start all moments along the axis with this length, μB")] = None,
) -> None:
    """Relax the moments of all structures at fixed geometry and write what the potential gives there.

    The file written holds the relaxed moments as initial_magmoms and predictions as mmace_energy, mmace_forces,
    mmace_stress and mmace_magnetic_forces. Labels of the input (REF_…) belong to other moments and are left out.
    """
    import io

    import ase.io
    from rich.console import Console
    from rich.progress import Progress

    from mmace import load
    from mmace.checkpoint import write_atomically
    from mmace.errors import UserError, unknown_key_message
    from mmace.spins.relax import MODES, relax_moments

    direction = _axis(axis)
    if mode not in MODES:
        raise UserError(unknown_key_message(mode, MODES, "--mode"))
    if not tolerance > 0:
        raise UserError(f"--tolerance {tolerance:g}: must be positive, in eV/μB, for example 0.001")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}; make it first")
    potential = load(model)
    batch = _structures(structures, None if start is None else start * direction)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("relaxing moments", total=len(batch))
        results = relax_moments(
            potential,
            batch,
            mode=mode,
            axis=direction.tolist(),
            gradient_tolerance=tolerance,
            max_evaluations=max_evaluations,
            progress=lambda done, _: progress.update(task, completed=done),
        )
    text = io.StringIO()
    written = [_predicted(atoms, result, potential) for atoms, result in zip(batch, results, strict=True)]
    ase.io.write(text, written, format="extxyz")
    write_atomically(output, text.getvalue().encode())
    for number, result in enumerate(results):
        if not result.converged:
            console.print(f"structure {number}: {result.message}")
    done = sum(result.converged for result in results)
    console.print(f"{done} of {len(results)} converged; written to {output}")
    if done < len(results):
        raise typer.Exit(1)


def _structures(path: Path, moment: Any) -> list[Any]:
    """All structures of a file with (N,3) starting moments; ``moment`` [3] for every atom if it is given."""
    import ase.io
    import numpy as np

    from mmace.errors import UserError
    from mmace.fields import MAGMOMS

    if not path.is_file():
        raise UserError(f"{path}: no such file; give a file of structures that ASE reads")
    try:
        batch: Any = ase.io.read(path, index=":")
    except Exception as error:  # ASE's many readers raise whatever they like
        raise UserError(f"{path}: cannot be read as structures ({error})") from error
    for number, atoms in enumerate(batch):
        moments = atoms.arrays.pop("initial_magmoms", None)
        moments = atoms.arrays.get(MAGMOMS.key, moments)
        if moment is not None:
            moments = np.tile(moment, (len(atoms), 1))
        if moments is None:
            raise UserError(
                f"{path}: configuration {number}: no moments ({MAGMOMS.key} or initial_magmoms); give --start, in μB"
            )
        if np.ndim(moments) == 1:
            moments = np.outer(moments, [0.0, 0.0, 1.0])
        atoms.set_initial_magnetic_moments(moments)
    return batch


def _predicted(atoms: Any, result: Any, potential: Any) -> Any:
    """The structure with relaxed moments and the potential's results there."""
    from ase import Atoms
    from ase.stress import voigt_6_to_full_3x3_stress

    from mmace import MagneticCalculator

    out = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.set_initial_magnetic_moments(result.magmoms)
    calculator = MagneticCalculator(potential)
    calculator.calculate(out)
    found = calculator.results
    out.info["mmace_energy"] = found["energy"]
    if "stress" in found:
        out.info["mmace_stress"] = voigt_6_to_full_3x3_stress(found["stress"]).reshape(9)
    out.arrays["mmace_forces"] = found["forces"]
    out.arrays["mmace_magnetic_forces"] = found["magnetic_forces"]
    out.info["converged"] = result.converged
    return out


def _axis(text: str) -> Any:
    import numpy as np

    from mmace.errors import UserError

    try:
        axis = np.array([float(part) for part in text.replace(",", " ").split()])
    except ValueError:
        axis = np.zeros(0)
    if axis.shape != (3,) or not np.linalg.norm(axis) > 0:
        raise UserError(f"--axis {text}: give three numbers that are not all zero, for example 0,0,1")
    return axis / np.linalg.norm(axis)
