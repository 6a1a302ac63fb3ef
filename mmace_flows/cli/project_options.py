"""Options that commands about campaigns share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mmace_flows.execution.projects import Project
    from mmace_flows.execution.settings import Settings

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder for database, logs, reports.")]
ProjectName = Annotated[
    str | None,
    typer.Option("--project", "-p", envvar="MMACE_PROJECT", help="Project: its name or folder (mmace project init)."),
]


def open_settings(project: str | None, data_dir: Path | None, workers: int | None = None) -> Settings:
    """Settings of this machine, or of the project. Raises UserError if both a project and a folder are given."""
    from mmace.errors import UserError
    from mmace_flows.execution.settings import load_settings

    if project is None:
        return load_settings(data_dir=data_dir, workers=workers)
    if data_dir is not None:
        raise UserError("--data-dir: a project has a data_dir of its own, in its project.yaml; leave one of them out")
    settings = need_project(project).activate()
    return settings if workers is None else settings.model_copy(update={"workers": workers})


def need_project(name: str | None) -> Project:
    """The project. Raises UserError if none was named."""
    from mmace.errors import UserError
    from mmace_flows.execution.projects import open_project

    if name is None:
        raise UserError("which project? give --project NAME, or set MMACE_PROJECT; `mmace project init NAME` makes one")
    return open_project(name)


def console() -> Console:
    """Where output goes."""
    from rich.console import Console

    return Console()
