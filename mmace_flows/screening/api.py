"""The server of `mmace serve`: REST over table and campaigns, and the page that shows them. It only reads."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pymongo.errors import ExecutionTimeout, PyMongoError
from starlette.exceptions import HTTPException as StarletteHTTPException

import mmace_flows
from mmace_flows.screening.access import COOKIE, HEADERS, Access, refusal
from mmace_flows.screening.api_campaigns import campaigns_router
from mmace_flows.screening.api_materials import materials_router
from mmace_flows.screening.query import complaint

if TYPE_CHECKING:
    from pymongo.collection import Collection

    from mmace_flows.execution.settings import Settings

LOG = logging.getLogger("uvicorn.error")  # what `mmace serve` shows on the terminal
WEB = Path(__file__).parent / "web"
SESSION_SECONDS = 12 * 3600


def create_app(table: Callable[[], Collection[dict[str, Any]]], settings: Settings, access: Access) -> FastAPI:
    """The application. ``table`` gives the collection of entries; ``settings`` say where campaigns are."""
    app = FastAPI(
        title="mmace",
        version=mmace_flows.__version__,
        description="Magnetocrystalline anisotropy: one row per crystal and magnetic ordering. Read-only.",
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(materials_router(table))
    app.include_router(campaigns_router(settings))

    @app.get("/api/session", tags=["access"], summary="Whether this browser may ask")
    def session() -> dict[str, Any]:
        return {"token_needed": access.token is not None, "version": mmace_flows.__version__}

    @app.post("/api/session", tags=["access"], summary="Keep the token given as bearer as a cookie of this browser")
    def begin_session(response: Response) -> dict[str, bool]:
        if access.token is not None:
            response.set_cookie(
                COOKIE, access.session(), max_age=SESSION_SECONDS, httponly=True, samesite="strict", path="/"
            )
        return {"ok": True}

    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(WEB / "index.html", media_type="text/html; charset=utf-8")

    mimetypes.add_type("text/javascript", ".js")  # some machines say text/plain, which browsers then refuse
    app.mount("/web", StaticFiles(directory=WEB), name="web")

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = refusal(access, request)
        if refused is None:
            response = await answer(request)
        else:
            response = _error(refused[0], None, refused[1])
            if refused[0] == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store" if request.url.path.startswith("/api/") else "no-cache")
        return response

    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(PyMongoError, _database_error)
    return app


def _error(status: int, field: str | None, message: str) -> JSONResponse:
    """Every error has this form."""
    return JSONResponse({"detail": [{"field": field, "message": message}]}, status_code=status)


async def _unprocessable(request: Request, error: Exception) -> Response:
    """422 that names the fields."""
    assert isinstance(error, RequestValidationError)
    found = [complaint(one) for one in error.errors()]
    detail = [{"field": field, "message": message} for field, message in found]
    return JSONResponse({"detail": detail}, status_code=422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException | HTTPException)
    return _error(error.status_code, None, str(error.detail))


async def _database_error(request: Request, error: Exception) -> Response:
    LOG.warning("%s: %s: %s", request.url.path, type(error).__name__, error)
    if isinstance(error, ExecutionTimeout):
        return _error(503, None, "the question takes too long; narrow the filters")
    return _error(503, None, "the database does not answer")
