"""`mmace project`: make a project's files, and try them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmace_flows.cli.findings import print_findings

project = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Projects: database, folders and workers.",
)
Name = Annotated[str, typer.Argument(help="Name of the project, or its folder.", envvar="MMACE_PROJECT")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(project, name="project")


@project.command("init")
def init(
    name: Annotated[str, typer.Argument(help="Name of the project, or a folder to make it in.")],
    database: Annotated[
        Path | None,
        typer.Option(help="The group's MongoDB: a YAML file, or one with a mongodb:// address (default: embedded)."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for runs; on a cluster one that all nodes see.")] = None,
    recipes: Annotated[
        list[Path] | None, typer.Option("--recipes", help="Folder of recipes whose own jobs may run; may be repeated.")
    ] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="Workers run in Slurm.")] = False,
    partition: Annotated[str | None, typer.Option(help="Slurm's partition for CPU workers.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="With GPU workers: training and screening go there.")] = False,
    gpu_partition: Annotated[str | None, typer.Option(help="Slurm's partition for GPU workers.")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm's account.")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Cores of one allocation; as many jobs side by side.")] = 8,
    walltime: Annotated[str, typer.Option(help="Wall time of one allocation.")] = "04:00:00",
) -> None:
    """Write a project's commented files: database, workers, batch system. Look them over, then check."""
    from mmace_flows.execution.projects_init import NewProject, init_project

    wanted = NewProject(
        name, database, data_dir, tuple(recipes or ()), slurm, partition, gpu, gpu_partition, account, cores, walltime
    )
    made = init_project(wanted)
    for file in sorted(made.folder.iterdir()):
        if file.is_file():
            typer.echo(file)
    typer.echo(f"look them over, then: mmace project check {made.given}")


@project.command("check")
def check(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    on_nodes: Annotated[
        bool, typer.Option("--on-nodes", help="Also from a compute node of each kind, through srun; may have to wait.")
    ] = False,
    wait: Annotated[float, typer.Option(min=1.0, help="Seconds to wait for a compute node.")] = 600.0,
    node: Annotated[str | None, typer.Option(hidden=True, help="Be the check on a node of this kind.")] = None,
) -> None:
    """Try everything a project needs: database, stores, folders, batch system, GPU, engines. Says what to mend.

    Writes, reads and deletes a probe document in each store. Exit code 1 if something is broken.
    """
    from mmace_flows.execution.project_check import check_on_nodes, check_project
    from mmace_flows.execution.projects import open_project

    found = open_project(name)
    findings = check_project(found, node)
    if on_nodes:
        findings += check_on_nodes(found, wait)
    print_findings(findings, as_json)
    broken = [finding.name for finding in findings if not finding.ok]
    if broken and not as_json:
        typer.echo(f"to mend: {', '.join(broken)}")
    raise typer.Exit(1 if broken else 0)
