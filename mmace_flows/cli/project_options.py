"""Options that commands about campaigns share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mmace_flows.execution.projects import Project
    from mmace_flows.execution.settings import Settings
    from mmace_flows.execution.stores import Stores
    from mmace_flows.schemas.campaign import Campaign

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder for database, logs, reports.")]
ProjectName = Annotated[
    str | None,
    typer.Option("--project", "-p", envvar="MMACE_PROJECT", help="Project: its name or folder (mmace project init)."),
]
# of a campaign that begins
RecipeFile = Annotated[Path, typer.Argument(help="Recipe file, like workflows/feni.py.")]
Preset = Annotated[str, typer.Option(help="Named settings of the recipe.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
]
NewName = Annotated[str | None, typer.Option(help="Name of the campaign (default: recipe-preset).")]
New = Annotated[bool, typer.Option("--new", help="Begin a new campaign even if one of this name exists.")]


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


def open_campaign(name: str | None, project: str | None, data_dir: Path | None) -> tuple[Stores, Campaign]:
    """Stores and campaign; None is the newest unfinished one, else the newest. Raises UserError."""
    import os

    from mmace_flows.execution.campaign import require_campaign, require_database
    from mmace_flows.execution.stores import open_stores

    settings = open_settings(project, data_dir)
    require_database(settings, name)
    os.environ.update(settings.environment())  # what is read on the way, jobs and reports, finds its stores by it
    stores = open_stores(settings)
    return stores, require_campaign(stores, name)


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
