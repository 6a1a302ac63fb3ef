"""`mmace report`: the report of a campaign as one HTML file, during the run too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmace_flows.cli.project_options import DataDir, ProjectName, open_campaign


def register(app: typer.Typer) -> None:
    """Adds the command `report` to ``app``."""
    app.command("report")(report_command)


def report_command(
    campaign: Annotated[
        str | None, typer.Argument(help="name of the campaign; default: the newest unfinished one, else the newest")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file; default: report.html in the campaign's folder")
    ] = None,
    project: ProjectName = None,
    data_dir: DataDir = None,
    figures: Annotated[Path | None, typer.Option(help="folder that also gets the Bain figure as bain.png")] = None,
) -> None:
    """Write a campaign's report: one HTML file that works offline. Also while the campaign is running."""
    from mmace_flows.report.build import build_report

    stores, found = open_campaign(campaign, project, data_dir)
    name = found.campaign
    typer.echo(build_report(name, output or stores.campaign_folder(name) / "report.html", figures, stores))
