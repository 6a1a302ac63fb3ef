"""What was looked at, and what mends what is missing: of this machine (`doctor`) and of a project (`project check`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mmace_flows.execution.doctor import Finding


def print_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """A line each, or JSON."""
    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=1))
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mend = f"; {finding.mend}" if finding.mend else ""
        typer.echo(f"{finding.state:<8}  {finding.name:<{width}}  {finding.detail}{mend}")
