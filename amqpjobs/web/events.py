"""``GET /jobs/{id}/events``: the status of a job as it changes, as server-sent events.

The form is the HTML standard's (https://html.spec.whatwg.org/multipage/server-sent-events.html):
a browser's EventSource reconnects by itself and says where it was. Changes when the stream does.
"""

import asyncio
import json
import logging
import re
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing
from dataclasses import asdict
from typing import Annotated, Any, TypeAlias

import anyio
from fastapi import APIRouter, Header
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.web.problems import Problem, problems, secured
from amqpjobs.web.status import JobId, store_errors, unknown_id
from amqpjobs.web.tier import Tier

log = logging.getLogger("amqpjobs.web")

PATIENCE = 2.0
"""Seconds that a job may be unknown: it may be told of in a moment."""

RETRY = 1000
"""Milliseconds after which a client comes back."""

PING = 15.0
"""Seconds between two comments, so that nobody in between takes a silent stream for a dead one."""

SEND_TIMEOUT = 30.0
"""Seconds that a client may not read."""

Place: TypeAlias = tuple[int, int, int]
"""Epoch, attempt and sequence of a status: which of two is newer."""


class Events:
    """The route.

    Args:
        tier: what the routes share.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    def add_to(self, router: APIRouter) -> None:
        """Add the route."""
        router.add_api_route(
            "/jobs/{id}/events",
            self.events,
            response_class=Response,
            summary="Watch a job",
            responses={
                200: {
                    "description": "Each status as an event `status`; `end` after the last.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                204: {"description": "The job has ended, and the client knows it."},
                **problems(401, 403, 404, 422, 503),
            },
        )

    async def events(
        self,
        id: JobId,  # noqa: A002 - as it is called in the path
        last_event_id: Annotated[str | None, Header(max_length=255)] = None,
    ) -> Response:
        """Watch a job until it ends: what is known first, then each change. A client that comes
        back with `Last-Event-ID` gets what is newer."""
        last = place_of_id(last_event_id or "")
        with ExitStack() as stack:
            # Taken before anything is awaited: clients may come at once.
            seat = Seat(self._tier)
            stack.callback(seat.free)
            status = await self._known(id)
            if status.ended and place_of(status) == last:
                # Which tells an EventSource not to come again.
                return Response(status_code=204)
            response = self._response(seat, id, last)
            stack.pop_all()  # the response frees it
            return response

    def _response(self, seat: "Seat", job_id: str, last: Place | None) -> Response:
        return secured(
            SeatedResponse(
                seat,
                self._stream(job_id, last),
                ping=PING,
                ping_message_factory=lambda: ServerSentEvent(comment="still there"),
                send_timeout=SEND_TIMEOUT,
                shutdown_event=self._tier.stopping,
                shutdown_grace_period=1.0,
            )
        )

    async def _known(self, job_id: str) -> JobStatus:
        """What is known of a job, if need be in a moment.

        Raises:
            Problem: 404 nothing; 503 there is nobody to ask.
        """
        with store_errors():
            found = await self._tier.app.status(job_id)
        if found is None:
            try:
                async with asyncio.timeout(PATIENCE), aclosing(self._watch(job_id)) as updates:
                    found = await anext(updates, None)
            except TimeoutError:
                pass
        if found is None:
            raise unknown_id()
        return found

    def _watch(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        return self._tier.app.watch(job_id)

    async def _stream(self, job_id: str, last: Place | None) -> AsyncIterator[ServerSentEvent]:
        try:
            yield ServerSentEvent(retry=RETRY)
            async for status in until(self._watch(job_id), self._tier.stopping):
                if is_newer(status, last):
                    yield event_of(status)
                if status.ended:
                    data = json.dumps({"state": status.state})
                    yield ServerSentEvent(data, event="end", id=id_of(status))
                    return
        except ConfigurationError as error:
            log.warning("event stream ended", extra={"error": str(error)})


class Seat:
    """One of the streams that the tier may have.

    Raises:
        Problem: 503: all are taken.
    """

    def __init__(self, tier: Tier) -> None:
        if tier.streams >= tier.settings.web_max_streams:
            raise Problem(
                503, "streams", "there are too many streams in this process", {"Retry-After": "5"}
            )
        tier.streams += 1
        self._tier: Tier | None = tier

    def free(self) -> None:
        """Give it back, once."""
        tier, self._tier = self._tier, None
        if tier is not None:
            tier.streams -= 1


class SeatedResponse(EventSourceResponse):
    """A stream, and its seat: free when the stream has ended, or was never sent."""

    def __init__(self, seat: Seat, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seat = seat
        weakref.finalize(self, seat.free)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `EventSourceResponse`."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._seat.free()


async def until(
    updates: AsyncGenerator[JobStatus, None], stopping: anyio.Event
) -> AsyncIterator[JobStatus]:
    """The updates, as long as the server is not stopping."""
    arrived: asyncio.Queue[JobStatus | None] = asyncio.Queue()
    # A task of its own reads them: whoever is cancelled by anyio, as a stream is whose client went,
    # cannot wait for anything any more, and a generator that runs cannot be closed.
    reading = asyncio.create_task(_read(updates, arrived))
    waiting = asyncio.create_task(_wait(stopping, arrived))
    try:
        while (status := await arrived.get()) is not None:
            yield status
        if reading.done():
            reading.result()
    finally:
        reading.cancel()
        waiting.cancel()


async def _read(
    updates: AsyncGenerator[JobStatus, None], arrived: "asyncio.Queue[JobStatus | None]"
) -> None:
    try:
        async with aclosing(updates):
            async for status in updates:
                arrived.put_nowait(status)
    finally:
        arrived.put_nowait(None)


async def _wait(stopping: anyio.Event, arrived: "asyncio.Queue[JobStatus | None]") -> None:
    await stopping.wait()
    arrived.put_nowait(None)


def event_of(status: JobStatus) -> ServerSentEvent:
    """A status as an event."""
    data = json.dumps(asdict(status), ensure_ascii=False)
    return ServerSentEvent(data, event="status", id=id_of(status))


def id_of(status: JobStatus) -> str:
    """``epoch-attempt-sequence``."""
    return "-".join(map(str, place_of(status)))


def place_of(status: JobStatus) -> Place:
    """Where a status is among all of its job."""
    return status.epoch, status.attempt, status.sequence


def place_of_id(value: str) -> Place | None:
    """What a client says where it was; None if it says nothing that an id can be."""
    found = re.fullmatch(r"([0-9]{1,19})-([0-9]{1,19})-([0-9]{1,19})", value)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def is_newer(status: JobStatus, last: Place | None) -> bool:
    """Whether a client that was at that place does not know this status. An end goes before the
    time that it was told at: a progress may have come late."""
    place = place_of(status)
    return last is None or place > last or (status.ended and place != last)
