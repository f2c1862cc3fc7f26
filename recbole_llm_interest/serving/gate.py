"""What every request passes: its size, its rate, its key, and a line in the log without anything that users wrote."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_llm_interest.serving import metrics
from recbole_llm_interest.serving.api_keys import ApiKeys, Client
from recbole_llm_interest.serving.options import ServeOptions

#: a line for each request
request_logger = logging.getLogger("recbole_llm_interest.requests")
#: clients whose rates are known at a time
_MOST_CLIENTS = 10_000
#: of answers, whatever they are
_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
#: paths that need no key: whether the service runs, and pages, which have no data
_OPEN = ("/", "/health", "/ready", "/docs", "/openapi.json")
_OPEN_FOLDERS = ("/static/", "/swagger/")


class Refused(Exception):  # noqa: N818  (of a request, not of the service)
    """A request that is not answered.

    Args:
        status: of the response.
        reason: for the client.
        headers: of the response.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.response = JSONResponse({"error": reason}, status, headers)


class Gate:
    """Limits requests, and records each: a layer around the application.

    Args:
        app: the application.
        options: limits.
        keys: that are accepted; None if none are needed.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions, keys: ApiKeys | None) -> None:
        self._app = app
        self._options = options
        self._keys = keys
        self._rates = _Rates(options.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        scope["state"] = {**scope.get("state", {}), "client": None}

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            body = await self._checked(scope, receive)
            await self._app(scope, _replayed(body, receive), send_with_headers)
        except Refused as refused:
            await refused.response(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - begun)

    async def _checked(self, scope: Scope, receive: Receive) -> bytes:
        """The body of a request.

        Raises:
            Refused: it is too large or too slow, its client is unknown, or sends too many.
        """
        headers = dict(scope["headers"])
        client = scope["state"]["client"] = self._client(scope, headers)
        self._rates.take(client.name)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._options.max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._options.timeout):
                return await self._read(receive)
        except TimeoutError as error:
            raise Refused(408, "the body did not arrive in time") from error

    def _client(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Client:
        """The client of a request.

        Raises:
            Refused: there are keys, and the request has none of them.
        """
        address = (scope.get("client") or ("unknown",))[0]
        path = scope["path"]
        if self._keys is None:
            return Client(address, "admin")
        given = headers.get(b"authorization", b"").decode("latin-1")
        scheme, _, key = given.partition(" ")
        client = self._keys.client(key.strip()) if scheme.lower() == "bearer" else None
        if client is not None:
            return client
        if path in _OPEN or path.startswith(_OPEN_FOLDERS):
            return Client(address, "read")
        self._rates.take(address)  # guesses count, too
        raise Refused(401, "send a key of this service: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})

    async def _read(self, receive: Receive) -> bytes:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._options.max_body:
                raise self._too_large()
            if not message.get("more_body", False):
                return body

    def _too_large(self) -> Refused:
        return Refused(413, f"the body has more than {self._options.max_body:,} bytes, or no valid length")

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "-").replace(
            ":path", ""
        )  # not the path itself, which has ids of users
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD") else "-"
        metrics.REQUESTS.labels(method, route, status).inc()
        metrics.SECONDS.labels(method, route).observe(seconds)
        client = scope["state"]["client"]
        fields = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 2)}
        if client is not None and self._keys is not None:
            fields["client"] = client.name
        request_logger.info("request", extra={"fields": fields})


class _Rates:
    """Requests that each client may still send: a bucket that fills at a rate, and holds those of two seconds."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count a request.

        Raises:
            Refused: there are too many of this client.
        """
        now = time.monotonic()
        left, before = self._left.pop(client, (2 * self._rate, now))
        left = min(left + (now - before) * self._rate, 2 * self._rate)
        self._left[client] = (max(left - 1, 0.0), now)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            raise Refused(429, f"more than {self._rate:g} requests a second: wait", {"Retry-After": "1"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that has been read once more, and then what comes, such as the end of the connection."""
    is_given = False

    async def again() -> Any:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
