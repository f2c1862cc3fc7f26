"""The application that answers HTTP: routes, pages, errors as one line of JSON, and the model behind them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from recbole_llm_interest.errors import EncoderError, LLMInterestError, StorageError
from recbole_llm_interest.serving.api_keys import ApiKeys
from recbole_llm_interest.serving.gate import Gate
from recbole_llm_interest.serving.jobs import answer
from recbole_llm_interest.serving.options import ServeOptions
from recbole_llm_interest.serving.request_queue import OverloadedError, RequestQueue
from recbole_llm_interest.serving.routes import Front, router
from recbole_llm_interest.serving.service import Service

_logger = logging.getLogger(__name__)
_PAGES = Path(__file__).parent / "pages"
_SWAGGER = Path(fastapi_offline.__file__).parent / "static"
_DESCRIPTION = (
    "Recommendations by what items are and what each user did last. Send events as they happen, and ask for lists "
    "whenever they are needed: each event counts at once."
)
#: how often a process looks whether the one that started it has ended, s
_PAUSE = 0.5


def create_app(service: Service, options: ServeOptions, keys: ApiKeys | None = None) -> ASGIApp:
    """The application of one process.

    Args:
        service: the model with its store, which is closed when the application ends.
        options: limits.
        keys: that are accepted; None if none are needed.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue = RequestQueue(partial(answer, service), options.queue, options.timeout)
        app.state.front = Front(service, queue, needs_key=keys is not None)
        running = asyncio.create_task(queue.run())
        watching = asyncio.create_task(_end_with(os.getppid()))
        _logger.info("ready")
        yield
        watching.cancel()
        queue.close()
        await running
        service.store.close()

    app = FastAPI(
        title="LLMInterest", version="1", description=_DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=_PAGES))
    app.mount("/swagger", StaticFiles(directory=_SWAGGER))
    for path, name in (("/", "index.html"), ("/docs", "docs.html")):
        app.router.add_route(path, _page(name), include_in_schema=False)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(LLMInterestError, _failed)
    app.add_exception_handler(Exception, _broken)
    gated: ASGIApp = Gate(app, options, keys)
    if keys is None:  # a page of somebody else's could otherwise send requests from a browser on this machine
        gated = TrustedHostMiddleware(gated, ["localhost", "127.0.0.1", "[::1]", options.host])
    return gated


def _page(name: str) -> Callable[[Request], Response]:
    return lambda _: FileResponse(_PAGES / name)


async def _end_with(parent: int) -> None:
    """End this process, gracefully, if the one that started it has ended."""
    while os.getppid() == parent:
        await asyncio.sleep(_PAUSE)
    os.kill(os.getpid(), signal.SIGTERM)


async def _invalid(_: Request, error: Exception) -> Response:
    """What is wrong with a request, without what it says."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    named = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:3]]
    more = f"; {len(faults) - 3} more" if len(faults) > 3 else ""
    return JSONResponse({"error": "; ".join(named).encode(errors="replace").decode() + more}, 422)


async def _refused(_: Request, error: Exception) -> Response:
    status, reason = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return JSONResponse({"error": str(reason)}, status, getattr(error, "headers", None))


async def _failed(_: Request, error: Exception) -> Response:
    is_later = isinstance(error, OverloadedError | StorageError | EncoderError)
    text = str(error).encode(errors="replace").decode()
    return JSONResponse({"error": text}, 503 if is_later else 422, {"Retry-After": "1"} if is_later else None)


async def _broken(_: Request, error: Exception) -> Response:
    """A fault of the service. The log has where, and nothing of the request."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    _logger.error("%s at %s, line %s", type(error).__name__, place.filename, place.lineno)
    with suppress(Exception):
        _logger.debug("".join(traceback.format_tb(error.__traceback__)))
    return JSONResponse({"error": "the service has failed at this request, and its log says where"}, 500)
