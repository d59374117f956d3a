"""The web application: four addresses to read from, the page, and nothing to write to."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.errors import EmbedlakeError
from pipelines.lake.faults import explained
from pipelines.search.serve.desk import Desk
from pipelines.search.serve.document import read_document
from pipelines.search.serve.faults import told
from pipelines.search.serve.overview import overview
from pipelines.search.serve.question import MOST_HITS, read_document_name, read_question

STATIC = Path(__file__).parent / "static"

# The page needs its own files and this server, so nothing else is allowed: whatever a document holds, it
# cannot run, load or send anything.
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def make_app(desk: Desk, hosts: Sequence[str] = ("*",)) -> ASGIApp:
    """The application for a desk's lake.

    Args:
        desk: Answers the questions.
        hosts: Names that a request may call this server by. A page of another site can have its own name
            lead here (DNS rebinding) and would then be let in as one of this server's.
    """
    api = _Api(desk)
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/healthz", _health),
            Route("/api/lake", api.lake),
            Route("/api/search", api.search),
            Route("/api/document", api.document),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        exception_handlers={EmbedlakeError: _fault, HTTPException: _http_fault, Exception: _fault},
    )
    return _Headers(app)  # around all of it, so that unexpected faults have them too


class _Api:
    """What is asked of the lake; plain functions, which starlette runs in its threads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def lake(self, request: Request) -> JSONResponse:
        del request
        lake = self._desk.lake
        with explained(lake.config):
            found = overview(lake, self._desk.conf)
        faults = {name: told(error)[1] for name, error in found.faults.items()}
        tables = [asdict(table) for table in found.tables]
        return JSONResponse(
            {"tables": tables, "sources": found.sources, "faults": faults, "most_hits": MOST_HITS}
        )

    def search(self, request: Request) -> JSONResponse:
        question = read_question(request.query_params)
        with explained(self._desk.lake.config):
            return JSONResponse(asdict(self._desk.answer(question)))

    def document(self, request: Request) -> JSONResponse:
        source, doc_id = read_document_name(request.query_params)
        lake = self._desk.lake
        with explained(lake.config):
            return JSONResponse(asdict(read_document(lake, source, doc_id)))


async def _page(request: Request) -> FileResponse:
    del request
    return FileResponse(STATIC / "index.html")


async def _health(request: Request) -> JSONResponse:
    del request
    return JSONResponse({"status": "ok"})


def _fault(request: Request, error: Exception) -> JSONResponse:
    status, body = told(error)
    return JSONResponse(body, status)


def _http_fault(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    hint = "The page is at /, and what programs ask at /api/search, /api/document and /api/lake"
    return JSONResponse({"error": error.detail, "hint": hint}, error.status_code, error.headers)


class _Headers:
    """Adds the headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)
