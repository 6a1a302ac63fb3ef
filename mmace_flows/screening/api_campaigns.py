"""REST, campaigns: which there are, where they stand, their reports."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from fastapi.responses import FileResponse
from pydantic import AfterValidator, BaseModel, Field

from mmace.errors import UserError
from mmace_flows.execution.status import campaign_status, overview
from mmace_flows.screening.access import REPORT_POLICY
from mmace_flows.screening.query_words import campaign_name

if TYPE_CHECKING:
    from mmace_flows.execution.settings import Settings

Name = Annotated[str, Path(max_length=80, description="name of a campaign"), AfterValidator(campaign_name)]


class CampaignRow(BaseModel):
    """Where a campaign stands, briefly."""

    campaign: str
    state: str = Field(description="running, finished, interrupted or broken")
    created: str
    finished: str | None
    jobs_done: int
    jobs_running: int
    jobs_failed: int
    jobs_expected: int
    seconds_left: float | None
    has_report: bool


class CampaignDetails(CampaignRow):
    """Where a campaign stands, with its stages and newest events."""

    recipe: str
    preset: str
    settings: dict[str, Any]
    stages: list[dict[str, Any]] = Field(description="name, jobs done, running, failed, to come, of")
    running_jobs: list[str]
    failed_jobs: list[dict[str, Any]]
    stuck: list[dict[str, Any]] = Field(default=[], description="what holds it up, and the mend")
    events: list[dict[str, Any]] = Field(description="newest last")


def campaigns_router(settings: Settings) -> APIRouter:
    """Routes under /api/campaigns."""
    router = APIRouter(prefix="/api/campaigns", tags=["campaigns"])

    def details(name: str) -> dict[str, Any]:
        try:
            return campaign_status(settings, name)
        except UserError as error:
            raise HTTPException(404, str(error)) from error

    @router.get("", summary="All campaigns, the newest first")
    def campaigns() -> list[CampaignRow]:
        return [_shown(CampaignRow, row) for row in overview(settings)][::-1]

    @router.get("/{name}", summary="One campaign: stages, running and failed jobs, events")
    def campaign(name: Name) -> CampaignDetails:
        return _shown(CampaignDetails, details(name))

    @router.get("/{name}/report", response_class=FileResponse, summary="The campaign's report, one HTML page")
    def report(name: Name) -> FileResponse:
        path = details(name)["report"]
        if path is None or not FilePath(path).is_file():
            raise HTTPException(404, f"campaign '{name}' has no report yet; `mmace report {name}` writes one")
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    return router


def _shown(kind: type[Any], row: dict[str, Any]) -> Any:
    """Without what is of this machine: paths and processes."""
    return kind(**{name: row[name] for name in kind.model_fields if name in row}, has_report=row["report"] is not None)
