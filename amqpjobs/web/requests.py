"""``POST /jobs/{name}/request``: ask over HTTP, and wait for the result.

Changes when waiting for a result does.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from amqpjobs.client.client import registry_of
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.exceptions import class_name
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.results import dump_result
from amqpjobs.web.jobs import JSON_BODY, Choices, message_of
from amqpjobs.web.problems import Problem, problems
from amqpjobs.web.tier import Tier

LONGEST = 300.0
"""Seconds that a client may wait; for what takes longer there is the status."""


class Requests:
    """The route.

    Args:
        tier: what the routes share.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    def add_to(self, router: APIRouter) -> None:
        """Add the route."""
        router.add_api_route(
            "/jobs/{name:path}/request",
            self.request,
            methods=["POST"],
            summary="Run a job and wait for its result",
            response_description="The job's result.",
            responses=problems(401, 403, 404, 408, 413, 415, 422, 500, 502, 503, 504),
            openapi_extra=JSON_BODY,
        )

    async def request(
        self,
        name: str,
        request: Request,
        timeout: Annotated[
            float | None,
            Query(gt=0, le=LONGEST, description="Seconds; AMQPJOBS_REQUEST_TIMEOUT if missing."),
        ] = None,
        priority: Annotated[
            str | None, Query(max_length=255, description="One of the queue's priorities.")
        ] = None,
    ) -> Response:
        """Run a job in a worker and answer with its result. 500 with the error if it fails, 504 if
        there is no result in time. Who hangs up earlier takes the job back."""
        definition = registry_of(self._tier.app).find(name)
        choices = Choices(priority=priority, delay=None, expires=None)
        message = await message_of(self._tier, request, definition, choices)
        result = await self._while_connected(request, message, timeout)
        data = dump_result(definition, result, self._tier.settings.max_message_size)
        headers = {"X-Amqpjobs-Id": message.id}
        return Response(data, media_type="application/json", headers=headers)

    async def _while_connected(
        self, request: Request, message: Message[Any], timeout: float | None
    ) -> Any:
        """Ask; a client that hangs up cancels the request, so that its worker is told."""
        asked = asyncio.ensure_future(self._ask(message, timeout))
        gone = asyncio.ensure_future(_hung_up(request))
        try:
            await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise ClientDisconnect
            return asked.result()
        finally:
            for task in (asked, gone):
                task.cancel()
            await asyncio.gather(asked, gone, return_exceptions=True)

    async def _ask(self, message: Message[Any], timeout: float | None) -> Any:
        app = self._tier.app
        try:
            return await app.request(message, timeout=timeout)
        except AmqpJobsError:
            raise
        except app.client.runtime.registry.exceptions as error:
            # The job's own exception, which the app has asked to get as it is.
            kind = class_name(type(error))
            raise Problem(500, "job-failed", str(error), error=kind, id=message.id) from error


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
