"""Bodies of requests: JSON, and forms of webhooks; counted while they arrive, and never more of
them held than allowed.

Changes when another kind of body is taken.
"""

import asyncio

from starlette.requests import Request

from amqpjobs.settings import Settings
from amqpjobs.web.problems import Problem

PATIENCE = 30.0
"""Seconds for a whole body to arrive: a slow sender holds memory here."""


FORM = "application/x-www-form-urlencoded"


def media_type(request: Request) -> str:
    """What kind of body it says that it has."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, settings: Settings, *, forms: bool = False) -> bytes:
    """The body, as it was sent.

    Args:
        request: to read.
        settings: how long it may be.
        forms: whether a form is taken as well as JSON.

    Raises:
        Problem: 415 what is not JSON, 413 too much of it, 408 too slow.
    """
    # Asked for even where nothing is sent: a page elsewhere can make a browser post without it,
    # with it the browser asks this server first, which does not agree.
    kind = media_type(request)
    if (kind != "application/json" and not (forms and kind == FORM)) or (
        request.headers.get("content-encoding", "identity") != "identity"
    ):
        raise Problem(
            415,
            "media-type",
            "send the job's arguments as JSON, with Content-Type: application/json",
            {"Accept-Post": "application/json"},
        )
    limit = settings.web_max_body or settings.max_message_size
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(PATIENCE):
            return await _read(request, limit)
    except TimeoutError:
        raise Problem(408, "too-slow", f"the body did not arrive within {PATIENCE:g} s") from None


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        body += chunk
    return bytes(body)


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "too-large",
        f"the body may have {limit} bytes: store large data elsewhere and send where it is",
    )
