"""One log line for each request, and an answer for those that a stop cuts off.

A line has the method, the path, the status and how long it took: no query, no body, no header.
Changes when the line does.
"""

import asyncio
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amqpjobs.web.problems import Problem

log = logging.getLogger("amqpjobs.web")

LONGEST_PATH = 512


class AccessLog:
    """An ASGI application around another.

    Args:
        inner: the other.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification; only HTTP is looked at."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._inner(scope, receive, noting)
        except asyncio.CancelledError:
            # Only the server cancels a request's task: its time to stop is over.
            if status:
                raise
            problem = Problem(503, "stopping", "the server stops", {"Retry-After": "1"})
            await problem.response()(scope, receive, noting)
        finally:
            _write(scope, status, time.monotonic() - started)


def _write(scope: Scope, status: int, took: float) -> None:
    log.info(
        "request",
        extra={
            "method": scope["method"],
            "path": scope["path"][:LONGEST_PATH],
            "status": status or None,
            "ms": round(took * 1000, 1),
        },
    )
